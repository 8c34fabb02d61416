/*
 * The audit log: one chain of entries in the store, each holding the SHA-256 of
 * the one before, and now and then one that is signed. What was replied can be
 * checked against an export of it by anybody who has the public key; the format
 * is in docs/audit.md.
 *
 * Thread: append, checkpoint and prune only from the writer, inside its transaction;
 * the rest from any, an object from one at a time.
 * Errors: BM_EAUDIT for a log that does not hold together, BM_EKEY without a
 * signing key, BM_EIO with errno for a file, and those of db.
 * Owns: entries read from the store are borrowed from the transaction; those of
 * an export live until the next one is read.
 */
#ifndef BIOMATCH_AUDIT_H
#define BIOMATCH_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "biomatch/arena.h"
#include "biomatch/bytes.h"
#include "biomatch/db.h"
#include "biomatch/error.h"
#include "biomatch/keys.h"
#include "biomatch/v1/audit.pb-c.h"

#define AUDIT_HASH_LEN 32
#define AUDIT_KEY_LEN  32
/* No entry is longer: one with 256 candidates takes some 30 KB. */
#define AUDIT_ENTRY_MAX ((size_t)256 << 10)
/* The operation of a signed entry. */
#define AUDIT_CHECKPOINT "checkpoint"

/* SHA-256, as of entries and of what they name. BM_ENOMEM. */
int audit_hash(struct bytes data, uint8_t out[AUDIT_HASH_LEN]) BM_MUST_CHECK;

/* Where an entry stands: what a reply carries. */
struct audit_receipt {
	uint64_t sequence; /* 0 for an empty log's head */
	uint8_t hash[AUDIT_HASH_LEN];
};

/* Adds an entry; its number and the hash before it are for the log to fill in. */
int audit_append(struct db_txn *txn, const Biomatch__V1__AuditEntry *entry,
		 struct audit_receipt *out) BM_MUST_CHECK;
/*
 * Ends the log with a signed entry; one that ends so already is left as it is.
 * *out is its end.
 */
int audit_checkpoint(struct db_txn *txn, const struct keys *keys, int64_t now_ms,
		     struct audit_receipt *out) BM_MUST_CHECK;
/* The last entry. */
int audit_head(struct db_txn *txn, struct audit_receipt *out) BM_MUST_CHECK;
/* The oldest entry's number; 0 for an empty log. */
int audit_first(struct db_txn *txn, uint64_t *out) BM_MUST_CHECK;
/*
 * Removes the oldest entries, at most max, up to a checkpoint, which stays. *left
 * are those that max has spared. BM_EINVAL where the log has no such checkpoint.
 */
int audit_prune(struct db_txn *txn, const struct audit_receipt *checkpoint, uint64_t max,
		uint64_t *pruned, uint64_t *left) BM_MUST_CHECK;
/* The packed entry of this number; false when there is none. */
bool audit_get(struct db_txn *txn, uint64_t sequence, struct bytes *entry);

/* Whose signatures count. */
struct audit_trust {
	const uint8_t (*keys)[AUDIT_KEY_LEN]; /* Ed25519 public keys */
	size_t n;
};
/* Reads a public key in PEM. BM_EINVAL for anything but an Ed25519 key. */
int audit_read_key(const char *path, uint8_t out[AUDIT_KEY_LEN]) BM_MUST_CHECK;

/* A walk along the chain, entry by entry. */
struct audit_chain {
	const struct audit_trust *trust; /* NULL where signatures are not judged */
	uint64_t next;                   /* the number that must come; set it before the first */
	uint8_t log[AUDIT_HASH_LEN];     /* what the first entry names as its previous */
	struct audit_receipt head;       /* the last entry taken */
	uint64_t checkpoints;
	const char *fault; /* what is wrong, after BM_EAUDIT */
};
/*
 * Checks that an entry follows: its number, the hash it names, and the signature
 * where it has one. The entry lives in the arena.
 */
int audit_chain_take(struct audit_chain *chain, struct bytes packed, struct arena *arena,
		     const Biomatch__V1__AuditEntry **out) BM_MUST_CHECK;

/* Writes an export: its head, then every entry up to it. BM_EIO. */
int audit_export_begin(FILE *file, struct bytes head) BM_MUST_CHECK;
int audit_export_add(FILE *file, struct bytes entry) BM_MUST_CHECK;

/* Reads an export, without trusting a byte of it. */
struct audit_export;
int audit_export_open(const char *path, struct audit_export **out) BM_MUST_CHECK;
void audit_export_close(struct audit_export *file);
struct bytes audit_export_head(const struct audit_export *file);
/* The next entry; entry->data is NULL behind the last. */
int audit_export_next(struct audit_export *file, struct bytes *entry) BM_MUST_CHECK;

/* What checking a whole export found. */
struct audit_verdict {
	struct audit_chain chain; /* where it ended; its fault after BM_EAUDIT */
	bool receipt_found;
};
/*
 * Checks an export from its first byte to its last: that its entries begin with
 * first and form one chain up to the signed head, and nothing stands between or
 * behind them. receipt is looked for on the way; NULL for none.
 */
int audit_export_verify(const char *path, const struct audit_trust *trust, uint64_t first,
			const struct audit_receipt *receipt,
			struct audit_verdict *out) BM_MUST_CHECK;

#endif
