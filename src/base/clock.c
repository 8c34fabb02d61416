#include "biomatch/clock.h"

#include <limits.h>
#include <stdatomic.h>
#include <time.h>

static _Atomic int64_t wall_shift_ms;

static int64_t now_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * CLOCK_NS_PER_SEC + ts.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

int64_t clock_thread_ns(void)
{
	return now_ns(CLOCK_THREAD_CPUTIME_ID);
}

int64_t clock_wall_ms(void)
{
	return now_ns(CLOCK_REALTIME) / CLOCK_NS_PER_MS +
	       atomic_load_explicit(&wall_shift_ms, memory_order_relaxed);
}

void clock_shift_wall(int64_t by_ms)
{
	atomic_store_explicit(&wall_shift_ms, by_ms, memory_order_relaxed);
}

int clock_poll_timeout(int64_t deadline_ns)
{
	int64_t left, now = clock_monotonic_ns();

	if (deadline_ns == CLOCK_FOREVER)
		return -1;
	if (deadline_ns <= now)
		return 0;
	/* Rounded up, so that a poll which times out has passed the deadline. */
	left = (deadline_ns - now - 1) / CLOCK_NS_PER_MS + 1;
	return left > INT_MAX ? INT_MAX : (int)left;
}
