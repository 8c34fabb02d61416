#include "biomatch/faceworker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"
#include "biomatch/file.h"
#include "biomatch/log.h"
#include "report.h"

struct faceworker {
	struct faceworker_options options;
	_Atomic pid_t pid;
	int socket;
	int memory_fd;
	struct faceworker_memory *memory;
	int64_t busy_until_ns; /* an answer that nobody waits for is owed; 0 for none */
	bool outgrown;         /* past max_resident: replace it */
};

pid_t faceworker_pid(const struct faceworker *worker)
{
	return atomic_load(&worker->pid);
}

/* Ends the process, whatever it does, and leaves no zombie. */
static void end_process(struct faceworker *worker)
{
	pid_t pid = atomic_load(&worker->pid);

	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		atomic_store(&worker->pid, -1);
	}
	if (worker->socket >= 0)
		close(worker->socket);
	worker->socket = -1;
	worker->busy_until_ns = 0;
	worker->outgrown = false;
	bytes_wipe(worker->memory, sizeof(*worker->memory));
}

static void lose_process(struct faceworker *worker, const char *why)
{
	log_warning("face_worker_lost", "pid=%d why=%s", (int)faceworker_pid(worker), why);
	end_process(worker);
}

/* Waits for the worker's answer until a monotonic time. */
static int receive(struct faceworker *worker, int64_t until_ns, struct faceworker_answer *answer)
{
	struct pollfd p = {.fd = worker->socket, .events = POLLIN};
	int n;

	do {
		n = poll(&p, 1, clock_poll_timeout(until_ns));
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return BM_EDEADLINE;
	if (n < 0 || recv(worker->socket, answer, sizeof(*answer), MSG_DONTWAIT) != sizeof(*answer))
		return BM_EWORKER;
	return 0;
}

/*
 * The descriptors are duplicated above those the worker expects, so that putting
 * one in its place cannot cover the other.
 */
static int spawn(const struct faceworker *worker, int socket, pid_t *pid)
{
	char memory_limit[32],
		*environment[] = {(char *)"LC_ALL=C", (char *)"OPENBLAS_NUM_THREADS=1", NULL};
	const char *program = worker->options.program;
	char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)worker->options.pack_dir,
			memory_limit, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int rc;

	snprintf(memory_limit, sizeof(memory_limit), "%llu",
		 (unsigned long long)worker->options.max_memory);
	sigemptyset(&none);
	sigfillset(&all);
	if (posix_spawn_file_actions_init(&actions))
		return BM_ENOMEM;
	if (posix_spawnattr_init(&attributes)) {
		posix_spawn_file_actions_destroy(&actions);
		return BM_ENOMEM;
	}
	rc = posix_spawn_file_actions_adddup2(&actions, socket, FACEWORKER_SOCKET_FD);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&actions, worker->memory_fd,
						      FACEWORKER_MEMORY_FD);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY,
						      0);
	/* Whatever a library or whoever started the daemon left open stays here. */
	if (!rc)
		rc = posix_spawn_file_actions_addclosefrom_np(&actions, FACEWORKER_MEMORY_FD + 1);
	if (!rc)
		rc = posix_spawnattr_setsigmask(&attributes, &none);
	if (!rc)
		rc = posix_spawnattr_setsigdefault(&attributes, &all);
	if (!rc)
		rc = posix_spawnattr_setflags(&attributes,
					      POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (!rc)
		rc = posix_spawn(pid, program, &actions, &attributes, argv, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		log_error("face_worker_not_started", "program=%s error=%s", program, strerror(rc));
	return rc ? BM_EWORKER : 0;
}

/* Moves a descriptor out of the way of the fixed ones. */
static int move_up(int fd)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, 16);

	close(fd);
	return up;
}

static int start_process(struct faceworker *worker)
{
	struct faceworker_answer answer;
	int pair[2], error, theirs;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return BM_EWORKER;
	worker->socket = pair[0];
	theirs = move_up(pair[1]);
	error = theirs < 0 ? BM_EWORKER : spawn(worker, theirs, &pid);
	if (theirs >= 0)
		close(theirs);
	if (error) {
		end_process(worker);
		return error;
	}
	atomic_store(&worker->pid, pid);
	error = receive(worker, clock_monotonic_ns() + worker->options.start_ms * CLOCK_NS_PER_MS,
			&answer);
	if (!error && answer.result)
		error = answer.result;
	if (error) {
		lose_process(worker, error == BM_EDEADLINE ? "not ready in time" : "start failed");
		return error == BM_EDEADLINE ? BM_EWORKERTIME : error;
	}
	log_info("face_worker_ready", "pid=%d", (int)pid);
	return 0;
}

static int open_memory(struct faceworker *worker)
{
	int fd = memfd_create("biomatch-face", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *memory;

	if (fd < 0)
		return BM_ENOMEM;
	worker->memory_fd = move_up(fd);
	/* Sealed at its size: a worker cannot cut it short under the daemon. */
	if (worker->memory_fd < 0 || ftruncate(worker->memory_fd, sizeof(*worker->memory)) ||
	    fcntl(worker->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return BM_ENOMEM;
	memory = mmap(NULL, sizeof(*worker->memory), PROT_READ | PROT_WRITE, MAP_SHARED,
		      worker->memory_fd, 0);
	if (memory == MAP_FAILED)
		return BM_ENOMEM;
	worker->memory = memory;
	if (madvise(memory, sizeof(*worker->memory), MADV_DONTDUMP))
		log_warning("pictures_in_core_dumps", NULL);
	return 0;
}

int faceworker_open(const struct faceworker_options *options, struct faceworker **out)
{
	struct faceworker *worker;
	int error;

	assert(options->dim > 0 && options->dim <= PACK_MAX_DIM);
	worker = calloc(1, sizeof(*worker));
	if (!worker)
		return BM_ENOMEM;
	worker->options = *options;
	worker->socket = worker->memory_fd = -1;
	atomic_init(&worker->pid, -1);
	error = open_memory(worker);
	if (!error)
		error = start_process(worker);
	if (error) {
		faceworker_close(worker);
		return error;
	}
	*out = worker;
	return 0;
}

void faceworker_close(struct faceworker *worker)
{
	if (!worker)
		return;
	if (worker->memory) {
		end_process(worker);
		munmap(worker->memory, sizeof(*worker->memory));
	}
	if (worker->memory_fd >= 0)
		close(worker->memory_fd);
	free(worker);
}

/* Collects the answer to a picture whose caller did not wait for it. */
static void collect_owed(struct faceworker *worker)
{
	struct faceworker_answer answer;
	int error;

	if (!worker->busy_until_ns)
		return;
	error = receive(worker, worker->busy_until_ns, &answer);
	if (error)
		lose_process(worker, error == BM_EDEADLINE ? "stuck" : "died");
	worker->busy_until_ns = 0;
	bytes_wipe(&worker->memory->report, sizeof(worker->memory->report));
}

/* A worker that died while it had nothing to do. */
static void notice_death(struct faceworker *worker)
{
	struct pollfd p = {.fd = worker->socket, .events = POLLIN};

	if (worker->socket >= 0 && poll(&p, 1, 0) != 0)
		lose_process(worker, "died idle");
}

int faceworker_ready(struct faceworker *worker)
{
	collect_owed(worker);
	notice_death(worker);
	if (worker->outgrown) {
		log_notice("face_worker_outgrown", "pid=%d", (int)faceworker_pid(worker));
		end_process(worker);
	}
	return faceworker_pid(worker) > 0 ? 0 : start_process(worker);
}

/* Memory it holds now, bytes; 0 when that cannot be read. */
static uint64_t resident(pid_t pid)
{
	unsigned long long pages;
	char path[32], text[64];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	if (sscanf(text, "%*u %llu", &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int take_report(struct faceworker *worker, int result, unsigned wanted,
		       struct face_report *report)
{
	if (!report_result_valid(result)) {
		lose_process(worker, "answered nonsense");
		return BM_EWORKER;
	}
	if (worker->options.max_resident &&
	    resident(faceworker_pid(worker)) > worker->options.max_resident)
		worker->outgrown = true;
	if (result)
		return result;
	*report = worker->memory->report;
	bytes_wipe(&worker->memory->report, sizeof(worker->memory->report));
	if (!report_valid(report, worker->options.dim, wanted)) {
		bytes_wipe(report, sizeof(*report));
		lose_process(worker, "reported nonsense");
		return BM_EWORKER;
	}
	return 0;
}

int faceworker_run(struct faceworker *worker, const uint8_t *data, size_t len, unsigned wanted,
		   int64_t deadline_ns, struct face_report *report)
{
	struct faceworker_order order = {.len = (uint32_t)len, .wanted = wanted};
	int64_t limit_ns = clock_monotonic_ns() + worker->options.run_ms * CLOCK_NS_PER_MS;
	struct faceworker_answer answer;
	int error;

	if (len > FACE_MAX_IMAGE_BYTES)
		return BM_EIMGSIZE;
	collect_owed(worker);
	if (faceworker_pid(worker) <= 0)
		return BM_EWORKER;
	memcpy(worker->memory->picture, data, len);
	if (send(worker->socket, &order, sizeof(order), MSG_NOSIGNAL) != sizeof(order)) {
		lose_process(worker, "died");
		return BM_EWORKER;
	}
	error = receive(worker, deadline_ns < limit_ns ? deadline_ns : limit_ns, &answer);
	if (error == BM_EDEADLINE && deadline_ns < limit_ns) {
		/* It is the caller who is late, not the worker: let it finish. */
		worker->busy_until_ns = limit_ns;
		return BM_EDEADLINE;
	}
	if (error) {
		lose_process(worker, error == BM_EDEADLINE ? "stuck" : "died");
		return error == BM_EDEADLINE ? BM_EWORKERTIME : BM_EWORKER;
	}
	return take_report(worker, answer.result, wanted, report);
}
