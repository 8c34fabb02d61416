#include "biomatch/priority.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "biomatch/clock.h"

/* Enough for a turn of a network thread; the scheduler's own are 0.7 ms and more. */
#define PROMPT_SLICE_NS (CLOCK_NS_PER_MS * 3 / 10)
/* Each step takes a tenth of the share (sched(7), nice). */
#define BEHIND_NICE 5
#define OFFER_US    500

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

void priority_offer(void)
{
	(void)syscall(SYS_sched_yield);
}

static void alarmed(int signal)
{
	(void)signal;
	priority_offer();
}

int priority_offer_always(bool on)
{
	const struct sigaction action = {.sa_handler = alarmed, .sa_flags = SA_RESTART};
	const struct timeval period = {.tv_usec = on ? OFFER_US : 0};
	const struct itimerval timer = {period, period};
	static bool installed;

	if (!installed && sigaction(SIGALRM, &action, NULL))
		return BM_EINTERNAL;
	installed = true;
	return setitimer(ITIMER_REAL, &timer, NULL) ? BM_EINTERNAL : 0;
}
