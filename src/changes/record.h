/*
 * The stored format: little-endian structs without padding, each with an XXH3
 * checksum over everything behind it.
 *
 *   meta           "changes"         -> struct state_record
 *   changes        sequence          -> struct change_record, sealed body
 *   change_owners  owner, sequence   -> tag
 */
#ifndef CHANGES_RECORD_H
#define CHANGES_RECORD_H

#include "biomatch/changes.h"

struct state_record {
	uint64_t sum;
	uint32_t role, reserved;
	struct changes_place base;
};

struct change_record {
	uint64_t sum;
	uint64_t epoch;
	int64_t time_ms;
	uint8_t hash[CHANGES_HASH_LEN];
	/* The change's place in change_owners; zero where it has none. */
	uint8_t owner[CHANGES_OWNER_LEN];
	uint32_t has_owner;
	/* sealed body, where it was not erased */
};

_Static_assert(sizeof(struct state_record) == 64, "no padding in stored structs");
_Static_assert(sizeof(struct change_record) == 96, "no padding in stored structs");

/* A key that sorts as the number it is. */
struct change_key {
	uint8_t data[8];
};
struct bytes change_key(uint64_t sequence, struct change_key *key);

struct owner_key {
	uint8_t data[CHANGES_OWNER_LEN + 8];
};
struct bytes owner_key(const uint8_t owner[CHANGES_OWNER_LEN], uint64_t sequence,
		       struct owner_key *key);

int state_read(struct db_txn *txn, struct state_record *out) BM_MUST_CHECK;
void state_write(struct db_txn *txn, struct state_record *state);

/* A stored change taken apart; the checksum is verified. */
int change_parse(uint64_t sequence, struct bytes value, struct change_record *record,
		 struct changes_entry *out) BM_MUST_CHECK;
/* The hash of the place that a body leads to. */
int change_hash(const struct changes_place *before, uint64_t epoch, int64_t time_ms,
		struct bytes body, uint8_t out[CHANGES_HASH_LEN]) BM_MUST_CHECK;
/* What the seal authenticates beside the body. */
struct seal_context {
	uint8_t data[24];
};
struct bytes seal_context(uint64_t sequence, uint64_t epoch, int64_t time_ms,
			  struct seal_context *context);

#endif
