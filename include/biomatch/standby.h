/*
 * The daemon's part among those that hold the same galleries: it leads, or it
 * follows the change log of another daemon as a warm standby until it is promoted, or
 * it has been superseded by one that was.
 *
 * A standby's thread holds a stream of changes and applies them through the writer. After a
 * promotion it tells the old leader, whenever that can be reached, that its epoch is over.
 *
 * Thread: promote and supersede only from the writer, inside its transaction; the rest from any.
 * Errors: BM_EFOLLOWER, BM_ESUPERSEDED, BM_ESTALE, and those of changes and client.
 * Owns: the thread and its connection, until standby_close.
 */
#ifndef BIOMATCH_STANDBY_H
#define BIOMATCH_STANDBY_H

#include <stdbool.h>
#include <stdint.h>

#include "biomatch/changes.h"
#include "biomatch/client.h"
#include "biomatch/db.h"
#include "biomatch/error.h"
#include "biomatch/keys.h"
#include "biomatch/writer.h"

struct standby;

enum standby_role { STANDBY_LEADS, STANDBY_FOLLOWS, STANDBY_SUPERSEDED };

struct standby_options {
	struct db *db;
	struct writer *writer;
	const struct keys *keys;
	struct biomatch_options leader; /* target is NULL for a daemon that follows nobody */
	const char *purpose;            /* under which the leader is asked */
	uint32_t max_age_ms;            /* how old what a standby reads may be */
};

/* Starts to follow where the options say whom. On failure message says why. */
int standby_open(const struct standby_options *options, struct standby **out,
		 char message[BIOMATCH_MESSAGE_MAX]) BM_MUST_CHECK;
void standby_close(struct standby *standby);

enum standby_role standby_role(const struct standby *standby);
/* "host:port" of the daemon that is followed, or was; NULL for none. */
const char *standby_leader(const struct standby *standby);
/* Whether galleries may be changed here: 0, BM_EFOLLOWER, BM_ESUPERSEDED. */
int standby_may_change(const struct standby *standby) BM_MUST_CHECK;
/* Whether galleries may be read here: 0, BM_ESTALE, BM_ESUPERSEDED. */
int standby_may_read(const struct standby *standby) BM_MUST_CHECK;

/* Takes the lead from the next change on. BM_EEXISTS where it is led already. */
int standby_promote(struct standby *standby, struct db_txn *txn, int64_t now_ms,
		    struct changes_place *out) BM_MUST_CHECK;
/* Gives the lead away, having been shown a later epoch. */
int standby_supersede(struct standby *standby, struct db_txn *txn) BM_MUST_CHECK;
/* After every commit, before anybody is told of it: takes up what it changed. */
void standby_committed(struct standby *standby);

struct standby_stat {
	enum standby_role role;
	bool connected;       /* to the leader, by a stream that has brought something */
	uint64_t lag_changes; /* known to be at the leader and not here */
	int64_t lag_ms;       /* since this store was last known to have all of the leader's */
};
void standby_stat(const struct standby *standby, struct standby_stat *out);

#endif
