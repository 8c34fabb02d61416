/*
 * A standby behind the door, and what its files share.
 */
#ifndef STANDBY_STANDBY_H
#define STANDBY_STANDBY_H

#include "biomatch/standby.h"

#include <pthread.h>
#include <stdatomic.h>

/* Times to wait between tries; each failure doubles it. */
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 5000
/* From one call on the old leader to the next, until it knows; and from then on. */
#define FENCE_MS  2000
#define FENCED_MS 600000
/* The leader sends something once a second; without, it is taken for lost. */
#define IDLE_MS 10000

struct standby {
	struct standby_options options;
	pthread_t thread;
	bool started; /* where somebody is followed */
	int wake_fd;
	atomic_bool closing;
	atomic_int role;
	atomic_bool role_changed; /* in the transaction under way */

	/* Of the stream. */
	atomic_bool connected;
	atomic_int error; /* why the last one ended; 0 for none */
	_Atomic uint64_t lag_changes;
	_Atomic int64_t synced_ns; /* monotonic; 0 before the first time */
};

/* The role that the store and the configuration make. */
int role_read(const struct standby *standby, enum standby_role *out) BM_MUST_CHECK;
/* Where this log ends. */
int place_read(const struct standby *standby, struct changes_place *out) BM_MUST_CHECK;

/* follow.c: the thread. */
void *follow_run(void *arg);

#endif
