/*
 * A running daemon as /proc tells it. What cannot be read counts as nothing.
 */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct process_usage {
	size_t daemon_kib, workers_kib;         /* memory that is no file's */
	uint64_t daemon_cpu_ms, workers_cpu_ms; /* since they began */
	size_t descriptors;
};

/* The daemon and its face workers, which are its children. */
struct process_usage process_usage(pid_t daemon);
/* Descriptors that the process has open. */
size_t process_descriptors(pid_t pid);

#endif
