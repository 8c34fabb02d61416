/*
 * The sign of life of one thread: it says within what time it will be back to say
 * so again, and whoever watches sees how late it is. A thread that is blocked,
 * stopped or never woken is late, whatever it was doing.
 *
 * Thread: expect, extend and end on the watched thread, late_ms from any; init before either.
 */
#ifndef BIOMATCH_PULSE_H
#define BIOMATCH_PULSE_H

#include <stdatomic.h>
#include <stdint.h>

#include "biomatch/clock.h"

/* As late as that a thread is taken to hang. */
#define PULSE_HANGS_MS 5000
/* How long a thread with nothing to do may sleep before it says so again. */
#define PULSE_IDLE_NS CLOCK_NS_PER_SEC

struct pulse {
	_Atomic int64_t due_ns; /* monotonic */
};

/* Not watched before it says something. */
static inline void pulse_init(struct pulse *pulse)
{
	atomic_init(&pulse->due_ns, CLOCK_FOREVER);
}

/* The thread lives, and will be back by then, monotonic. */
static inline void pulse_expect(struct pulse *pulse, int64_t due_ns)
{
	atomic_store_explicit(&pulse->due_ns, due_ns, memory_order_relaxed);
}

/* The same, for somewhat longer than was said before. */
static inline void pulse_extend(struct pulse *pulse, int64_t due_ns)
{
	if (due_ns > atomic_load_explicit(&pulse->due_ns, memory_order_relaxed))
		pulse_expect(pulse, due_ns);
}

/* The thread will say nothing more. */
static inline void pulse_end(struct pulse *pulse)
{
	pulse_expect(pulse, CLOCK_FOREVER);
}

/* 0 while it is in time. */
static inline uint32_t pulse_late_ms(const struct pulse *pulse, int64_t now_ns)
{
	int64_t due = atomic_load_explicit(&pulse->due_ns, memory_order_relaxed);
	int64_t late = due < now_ns ? (now_ns - due) / CLOCK_NS_PER_MS : 0;

	return late < UINT32_MAX ? (uint32_t)late : UINT32_MAX;
}

#endif
