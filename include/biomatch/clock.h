/*
 * The two clocks. Deadlines and durations use the monotonic one; stored times
 * and expiry use the wall clock, which a test may set.
 *
 * Thread: any.
 */
#ifndef BIOMATCH_CLOCK_H
#define BIOMATCH_CLOCK_H

#include <stdint.h>

#define CLOCK_NS_PER_SEC INT64_C(1000000000)
#define CLOCK_NS_PER_MS  INT64_C(1000000)
#define CLOCK_NS_PER_US  INT64_C(1000)

/* Never reached: the deadline of a call that has none. */
#define CLOCK_FOREVER INT64_MAX

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t clock_monotonic_ns(void);
/* What the calling thread has had of processors. */
int64_t clock_thread_ns(void);
/* Milliseconds since 1970-01-01 UTC. */
int64_t clock_wall_ms(void);
/* Shifts clock_wall_ms by this many milliseconds, for tests of expiry. */
void clock_shift_wall(int64_t by_ms);
/* Milliseconds until a monotonic deadline for poll(): 0 when past, -1 for never. */
int clock_poll_timeout(int64_t deadline_ns);

#endif
