#include "biomatch/priority.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "biomatch/clock.h"

/* The least that the scheduler takes (sched(7), EEVDF). */
#define PROMPT_SLICE_NS (CLOCK_NS_PER_MS / 10)
/* Each step takes a tenth of the share (sched(7), nice). */
#define BEHIND_NICE 5

void priority_prompt(void)
{
	struct sched_attr attributes = {
		.size = sizeof(attributes),
		.sched_policy = SCHED_NORMAL,
		.sched_flags = SCHED_FLAG_RESET_ON_FORK,
		.sched_runtime = PROMPT_SLICE_NS,
	};

	attributes.sched_nice = getpriority(PRIO_PROCESS, 0);
	(void)syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void priority_behind(void)
{
	/* Of the thread alone: Linux takes 0 for it, whatever POSIX says of processes. */
	(void)setpriority(PRIO_PROCESS, 0, BEHIND_NICE);
}
