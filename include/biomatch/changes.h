/*
 * The change log: every change of the stored galleries in order, in the same
 * transaction as the change itself, so that another daemon can follow this one.
 * The log knows no galleries: a change is a body of bytes, sealed under the store
 * key, and may belong to an owner, with whom it can be erased.
 *
 * Sequence numbers have no gap. Each place carries the SHA-256 of the place before it
 * and of its body, so that two logs which agree on one place agree on all before
 * it. The epoch grows when another daemon takes the lead; what is written under an
 * old epoch after that is of another history.
 *
 * Thread: what changes the log only from the writer, inside its transaction; the rest from any.
 * Errors: BM_EPRUNED, BM_EDIVERGED, BM_ECORRUPT, BM_ENOMEM, BM_EKEY, and those of db.
 * Owns: what is read is borrowed from the transaction.
 */
#ifndef BIOMATCH_CHANGES_H
#define BIOMATCH_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/db.h"
#include "biomatch/error.h"
#include "biomatch/keys.h"

#define CHANGES_HASH_LEN  32
#define CHANGES_OWNER_LEN 36
#define CHANGES_TAG_MAX   64
/* No body is longer: a kept picture or a template of the largest model, and the facts around it. */
#define CHANGES_BODY_MAX (((size_t)2 << 20) + ((size_t)32 << 10))

/* A place in the log: behind the change of this number; 0 is before the first. */
struct changes_place {
	uint64_t sequence, epoch;
	uint8_t hash[CHANGES_HASH_LEN];
};

/* A change as it is stored. */
struct changes_entry {
	struct changes_place place;
	int64_t time_ms;
	struct bytes sealed; /* for changes_unseal; empty once it was erased */
};

/* A change to be appended. */
struct changes_new {
	int64_t time_ms;
	struct bytes body;
	/* Whom it goes with when they are erased, and what of theirs it is; NULL for nobody. */
	const uint8_t *owner; /* CHANGES_OWNER_LEN bytes */
	struct bytes tag;
};

/* What the log has been told of its daemon's part; it outlives restarts. */
enum changes_role {
	CHANGES_AS_CONFIGURED,
	CHANGES_PROMOTED,   /* leads, though it is configured to follow */
	CHANGES_SUPERSEDED, /* another daemon has taken the lead */
};

/* False in a store of the version that had no log. */
bool changes_exist(struct db_txn *txn);
/* Makes an empty log in a store that has none. */
int changes_begin(struct db_txn *txn) BM_MUST_CHECK;

/* The end of the log. */
int changes_head(struct db_txn *txn, struct changes_place *out) BM_MUST_CHECK;
/* The place before the oldest change that is left. */
int changes_base(struct db_txn *txn, struct changes_place *out) BM_MUST_CHECK;
/* BM_EPRUNED for one before the oldest, BM_EDIVERGED for one behind the end. */
int changes_get(struct db_txn *txn, uint64_t sequence, struct changes_entry *out) BM_MUST_CHECK;
/*
 * 0 when the log has passed through this place, so that what follows it can be handed
 * out. BM_EPRUNED when that is not known any more.
 */
int changes_find(struct db_txn *txn, const struct changes_place *place) BM_MUST_CHECK;
/* The body of an entry; out has room for sealed.len - KEYS_SEAL_OVERHEAD. */
int changes_unseal(const struct keys *keys, const struct changes_entry *entry,
		   uint8_t *out) BM_MUST_CHECK;

int changes_append(struct db_txn *txn, const struct keys *keys,
		   const struct changes_new *change) BM_MUST_CHECK;
/* Appends a change of a followed log that was erased there. BM_EDIVERGED when it does not follow.
 */
int changes_append_erased(struct db_txn *txn, const struct changes_entry *entry) BM_MUST_CHECK;
/* Begins the next epoch with a change that has no body. */
int changes_raise_epoch(struct db_txn *txn, const struct keys *keys, int64_t now_ms) BM_MUST_CHECK;
/* Removes the bodies of an owner's changes, those of this tag alone unless it is empty. */
int changes_erase(struct db_txn *txn, const uint8_t owner[CHANGES_OWNER_LEN],
		  struct bytes tag) BM_MUST_CHECK;

/* A change stays until one of the two is exceeded. */
struct changes_limits {
	int64_t age_ms;
	uint64_t entries;
};
/* Removes the oldest changes that are beyond the limits, at most max. */
int changes_prune(struct db_txn *txn, const struct changes_limits *limits, int64_t now_ms,
		  unsigned max) BM_MUST_CHECK;

enum changes_role changes_role(struct db_txn *txn);
void changes_set_role(struct db_txn *txn, enum changes_role role);

/* Checks every change: number, hash, seal, index; *faults is raised by those that are damaged. */
int changes_check(struct db_txn *txn, const struct keys *keys, uint64_t *entries,
		  uint64_t *faults) BM_MUST_CHECK;

#endif
