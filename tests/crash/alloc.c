/*
 * Preloaded (LD_PRELOAD) in front of the allocator, to make it fail: for the
 * program itself and every library of it, strdup and the like of the C library
 * included, as they all come here.
 *
 * A place is a path of callers, told by the frames nearest to the allocation. To
 * fail each once is to fail every n-th call that differs from those before.
 *
 *   ALLOC_CONTROL=FILE  a struct alloc_control
 *   ALLOC_TRACE=FILE    takes the callers of each allocation that failed, for addr2line
 */
#include "alloc.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Frames that make a place. */
#define DEPTH 12

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static struct alloc_control *control;
static int trace_fd = -1;
/* Finding out who called may allocate. */
static _Thread_local bool inside;

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("ALLOC_CONTROL");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = MAP_FAILED, *frames[DEPTH];

	if (fd >= 0)
		map = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || map == MAP_FAILED)
		abort();
	close(fd);
	path = getenv("ALLOC_TRACE");
	if (path)
		trace_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	backtrace(frames, DEPTH); /* loads what it needs */
	control = map;
}

/* Independent of where the libraries are mapped, so that it is the same in the next process. */
static uint64_t place_of_caller(void)
{
	void *frames[DEPTH];
	int n = backtrace(frames, DEPTH);
	uint64_t place = 0xcbf29ce484222325;

	for (int i = 2; i < n; i++) {
		struct dl_find_object object;
		uint64_t at = (uintptr_t)frames[i];

		if (!_dl_find_object(frames[i], &object))
			at -= (uintptr_t)object.dlfo_map_start;
		place = (place ^ at) * 0x100000001b3;
		place ^= place >> 29;
	}
	return place ? place : 1;
}

static bool is_new(uint64_t place)
{
	for (uint64_t i = place;; i++) {
		_Atomic uint64_t *slot = &control->places[i % ALLOC_PLACES];
		uint64_t found = 0;

		if (atomic_compare_exchange_strong(slot, &found, place))
			return true;
		if (found == place)
			return false;
	}
}

static bool fails_once(void)
{
	uint32_t mode = ALLOC_ONCE;
	uint64_t place;

	inside = true;
	place = place_of_caller();
	inside = false;
	/* The lowest bits say where it stands in the table. */
	if ((place >> 32) % control->share || !is_new(place))
		return false;
	return atomic_compare_exchange_strong(&control->mode, &mode, ALLOC_WORKS);
}

static void trace(uint64_t n)
{
	void *frames[2 * DEPTH];
	char line[64];
	int len = snprintf(line, sizeof(line), "allocation %llu\n", (unsigned long long)n);

	inside = true;
	if (write(trace_fd, line, (size_t)len) == len)
		backtrace_symbols_fd(frames, backtrace(frames, 2 * DEPTH), trace_fd);
	inside = false;
}

/* True with errno set when this allocation is to fail. */
__attribute__((noinline)) static bool fails(void)
{
	uint64_t n;
	bool failed = false;

	if (!control || inside || control->mode == ALLOC_WORKS)
		return false;
	n = atomic_fetch_add(&control->count, 1);
	if (control->mode == ALLOC_ONCE)
		failed = fails_once();
	else if (control->mode == ALLOC_OUTAGE)
		failed = n >= control->after;
	if (failed) {
		atomic_fetch_add(&control->failed, 1);
		if (trace_fd >= 0)
			trace(n);
		errno = ENOMEM;
	}
	return failed;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	return fails() ? NULL : __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
	return fails() ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
	void *data = fails() ? NULL : __libc_memalign(alignment, size);

	if (!data)
		return ENOMEM;
	*out = data;
	return 0;
}
