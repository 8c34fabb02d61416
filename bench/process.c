#include "process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t anonymous_kib(pid_t pid)
{
	static const char name[] = "RssAnon:";
	char path[64], line[256];
	size_t kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, strlen(name)))
			kib = strtoul(line + strlen(name), NULL, 10);
	}
	if (file)
		fclose(file);
	return kib;
}

/* User and system time; no name of ours has a space or a bracket. */
static uint64_t cpu_ms(pid_t pid)
{
	unsigned long long user = 0, system = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
		   &system) != 2)
		user = system = 0;
	fclose(file);
	return (user + system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

size_t process_descriptors(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

static void add_workers(struct process_usage *usage, const char *children)
{
	FILE *file = fopen(children, "r");
	int child;

	while (file && fscanf(file, "%d", &child) == 1) {
		usage->workers_kib += anonymous_kib(child);
		usage->workers_cpu_ms += cpu_ms(child);
	}
	if (file)
		fclose(file);
}

struct process_usage process_usage(pid_t daemon)
{
	struct process_usage usage = {
		.daemon_kib = anonymous_kib(daemon),
		.daemon_cpu_ms = cpu_ms(daemon),
		.descriptors = process_descriptors(daemon),
	};
	char path[320];
	struct dirent *task;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", daemon);
	dir = opendir(path);
	/* A child is of the thread that made it. */
	while (dir && (task = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/children", daemon, task->d_name);
		add_workers(&usage, path);
	}
	if (dir)
		closedir(dir);
	return usage;
}
