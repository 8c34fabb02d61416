/*
 * Who goes first where threads share a processor. Threads that do a little for every
 * call are prompt; those that compute for long, or for peers that nobody knows yet,
 * stand behind them. Both are requests: no right is needed, and where the system
 * does not grant one (sched_setattr's slice needs Linux 6.12), all stay equal.
 *
 * Thread: each for itself.
 */
#ifndef BIOMATCH_PRIORITY_H
#define BIOMATCH_PRIORITY_H

#include <stdbool.h>

#include "biomatch/error.h"

/*
 * Asks for slices of 0.3 ms: the scheduler lets who wants little
 * interrupt who has a longer slice. Processes that the thread starts do not inherit it.
 */
void priority_prompt(void);
/* A third of a prompt thread's share where both want the processor. For good. */
void priority_behind(void);
/*
 * Lets who waits have the processor, for those that compute without a system call: a
 * kernel that preempts lazily (Linux 6.13) chooses anew when it is entered, else at its
 * next tick, 4 ms away. Costs a fraction of a microsecond where nobody waits.
 */
void priority_offer(void);
/*
 * Offers every half a millisecond, by SIGALRM, while on: for a process that computes in code
 * of others. The first call sets the signal up. A process with one thread.
 */
int priority_offer_always(bool on) BM_MUST_CHECK;

#endif
