#include <stdlib.h>

#include "record.h"

/* Whether a change follows from the place before it, as far as its body is left to tell. */
static bool follows(struct db_txn *txn, const struct keys *keys, const struct changes_place *before,
		    const struct changes_entry *entry, uint8_t *body)
{
	uint64_t raised = entry->place.epoch - before->epoch;
	size_t len = entry->sealed.len - KEYS_SEAL_OVERHEAD;
	uint8_t hash[CHANGES_HASH_LEN];

	if (entry->place.sequence != before->sequence + 1 || raised > 1)
		return false;
	if (!entry->sealed.len)
		return !raised;
	if (entry->sealed.len < KEYS_SEAL_OVERHEAD || len > CHANGES_BODY_MAX || (raised && len) ||
	    changes_unseal(keys, entry, body))
		return false;
	txn->error = change_hash(before, entry->place.epoch, entry->time_ms,
				 (struct bytes){body, len}, hash);
	bytes_wipe(body, len);
	return !memcmp(hash, entry->place.hash, sizeof(hash));
}

/* A body that can be erased is found by its owner. */
static bool is_owned(struct db_txn *txn, const struct change_record *record, uint64_t sequence)
{
	struct owner_key key;
	struct bytes tag;

	return !record->has_owner ||
	       db_get(txn, DB_CHANGE_OWNERS, owner_key(record->owner, sequence, &key), &tag);
}

static uint64_t check_log(struct db_txn *txn, const struct keys *keys, struct changes_place *place,
			  uint8_t *body, uint64_t *entries)
{
	static const uint8_t first[1];
	struct bytes key, value;
	struct db_cursor cursor;
	uint64_t faults = 0;
	bool more;

	db_cursor_open(txn, DB_CHANGES, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &key, &value);
	for (; more; more = db_cursor_next(&cursor, &key, &value), (*entries)++) {
		struct change_record record;
		struct changes_entry entry;

		if (key.len != sizeof(struct change_key) ||
		    change_parse(bytes_get_be64(key.data), value, &record, &entry)) {
			faults++;
			place->sequence++;
			continue;
		}
		faults += !follows(txn, keys, place, &entry, body) ||
			  !is_owned(txn, &record, entry.place.sequence);
		*place = entry.place;
	}
	db_cursor_close(&cursor);
	return faults;
}

/* Nobody is remembered as the owner of a change that is not there. */
static uint64_t check_owners(struct db_txn *txn)
{
	static const uint8_t first[1];
	struct bytes found, value;
	struct db_cursor cursor;
	uint64_t faults = 0;
	bool more;

	db_cursor_open(txn, DB_CHANGE_OWNERS, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &found, &value);
	for (; more; more = db_cursor_next(&cursor, &found, &value)) {
		struct changes_entry entry;

		faults +=
			found.len != CHANGES_OWNER_LEN + 8 ||
			changes_get(txn, bytes_get_be64(found.data + CHANGES_OWNER_LEN), &entry) ||
			!entry.sealed.len;
	}
	db_cursor_close(&cursor);
	return faults;
}

int changes_check(struct db_txn *txn, const struct keys *keys, uint64_t *entries, uint64_t *faults)
{
	uint8_t *body = malloc(CHANGES_BODY_MAX);
	struct changes_place place;
	int error;

	if (!body)
		return BM_ENOMEM;
	/* A store of the version before, which is only read. */
	if (!changes_exist(txn)) {
		free(body);
		return txn->error;
	}
	error = changes_base(txn, &place);
	if (error == BM_ECORRUPT)
		++*faults;
	else if (!error)
		*faults += check_log(txn, keys, &place, body, entries) + check_owners(txn);
	free(body);
	return error == BM_ECORRUPT ? 0 : error ? error : txn->error;
}
