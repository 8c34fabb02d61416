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

/*
 * Asks for slices of a tenth of a millisecond: the scheduler lets who wants little
 * interrupt who has a longer slice. Processes that the thread starts do not inherit it.
 */
void priority_prompt(void);
/* A third of a prompt thread's share where both want the processor. For good. */
void priority_behind(void);

#endif
