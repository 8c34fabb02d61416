/*
 * What the test tells the allocator of a program that runs under alloc.so, and
 * what it is told: a file that both map (ALLOC_CONTROL names it).
 */
#ifndef TESTS_CRASH_ALLOC_H
#define TESTS_CRASH_ALLOC_H

#include <stdatomic.h>
#include <stdint.h>

/* A power of two, far above the places of a program. */
#define ALLOC_PLACES 65536

enum alloc_mode {
	ALLOC_WORKS,
	ALLOC_ONCE,   /* the next allocation at a place that has not failed yet fails */
	ALLOC_OUTAGE, /* every one behind the first `after` fails */
};

/* tests/e2e/memory_test.py knows this layout, too. */
struct alloc_control {
	_Atomic uint32_t mode;
	uint32_t share;                        /* of ALLOC_ONCE: one in so many places takes part */
	uint64_t after;                        /* of ALLOC_OUTAGE */
	_Atomic uint64_t count;                /* allocations since the test set it to 0 */
	_Atomic uint64_t failed;               /* of them */
	_Atomic uint64_t places[ALLOC_PLACES]; /* that have failed */
};

#endif
