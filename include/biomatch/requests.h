/*
 * Remembered requests: what was answered under a request id, sealed, for 24 hours.
 *
 * An answer may have owners: the subjects that it tells of. Where one of them is erased, the answer
 * goes, too. That the request was made stays remembered, so that a late repetition does not bring
 * back who was erased.
 *
 * Thread: the writer, inside its transaction; requests_check from any.
 * Errors: BM_EREUSED, BM_EERASED, BM_ECORRUPT, BM_ENOMEM, and those of db.
 * Owns: a recalled answer is the caller's.
 */
#ifndef BIOMATCH_REQUESTS_H
#define BIOMATCH_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/db.h"
#include "biomatch/error.h"
#include "biomatch/keys.h"

#define REQUESTS_DIGEST_LEN 32
#define REQUESTS_OWNER_LEN  36
#define REQUESTS_TAG_MAX    64
/* Owners that one answer may have. */
#define REQUESTS_MAX_OWNERS 256

/* Who made the request under which id, and what it asked for. */
struct requests_id {
	uint8_t request[KEYS_PSEUDONYM_LEN]; /* from keys_pseudonym(KEYS_REQUEST) */
	uint8_t digest[REQUESTS_DIGEST_LEN]; /* SHA-256 of its content */
};

/* Whom an answer tells of, and what of theirs: an encounter. */
struct requests_owner {
	uint8_t key[REQUESTS_OWNER_LEN];
	char tag[REQUESTS_TAG_MAX + 1];
};

/*
 * Looks a request up. *found tells whether it was answered before; then reply is malloc'ed memory
 * to be wiped and freed. BM_EREUSED for another digest; BM_EERASED where the answer went with an
 * owner. One whose time is over is forgotten on the way.
 */
int requests_recall(struct db_txn *txn, const struct keys *keys, const struct requests_id *id,
		    int64_t now_ms, struct bytes *reply, bool *found) BM_MUST_CHECK;
/* Remembers an answer. */
int requests_remember(struct db_txn *txn, const struct keys *keys, const struct requests_id *id,
		      int64_t now_ms, struct bytes reply, const struct requests_owner *owners,
		      size_t n_owners) BM_MUST_CHECK;
/* Removes the answers that an owner has, those of this tag alone unless it is empty. */
int requests_erase(struct db_txn *txn, const uint8_t owner[REQUESTS_OWNER_LEN],
		   struct bytes tag) BM_MUST_CHECK;
/* Forgets a few of those whose time is over. */
int requests_forget_old(struct db_txn *txn, int64_t now_ms) BM_MUST_CHECK;

/* Checks every remembered request; *faults is raised by those that are damaged. */
int requests_check(struct db_txn *txn, uint64_t *faults) BM_MUST_CHECK;

#endif
