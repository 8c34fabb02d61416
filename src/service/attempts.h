/*
 * Attempts on a subject that did not end in a match, counted for each endpoint and
 * purpose over a window. What answers without limit can be climbed: docs/attempts.md.
 *
 * Kept in memory of a fixed size, and forgotten when the daemon ends. Where there is
 * no room for another count, the smallest of those that compete for its place is
 * taken over and goes on from there: a count may be too high, never too low.
 *
 * Thread: any.  Errors: BM_ENOMEM.
 */
#ifndef SERVICE_ATTEMPTS_H
#define SERVICE_ATTEMPTS_H

#include <stdint.h>

#include "biomatch/error.h"
#include "biomatch/keys.h"

struct attempts;

int attempts_open(struct attempts **out) BM_MUST_CHECK;
void attempts_close(struct attempts *attempts);

/*
 * Takes one of limit attempts under this name. 0, or the milliseconds until the
 * window ends, in which case none was taken. now_ns is monotonic.
 */
uint32_t attempts_take(struct attempts *attempts, const uint8_t name[KEYS_PSEUDONYM_LEN],
		       unsigned limit, uint64_t window_ms, int64_t now_ns);
/* Gives one back that told nothing about the subject. */
void attempts_return(struct attempts *attempts, const uint8_t name[KEYS_PSEUDONYM_LEN]);
/* Forgets them: it was the subject. */
void attempts_clear(struct attempts *attempts, const uint8_t name[KEYS_PSEUDONYM_LEN]);

#endif
