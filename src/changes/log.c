#include <openssl/rand.h>

#include "record.h"

int changes_begin(struct db_txn *txn)
{
	struct state_record state = {.base = {.epoch = 1}};

	/* Random: it tells this log from every other. */
	if (RAND_bytes(state.base.hash, CHANGES_HASH_LEN) != 1)
		return BM_ENOMEM;
	state_write(txn, &state);
	return txn->error;
}

int changes_base(struct db_txn *txn, struct changes_place *out)
{
	struct state_record state;
	int error = state_read(txn, &state);

	if (!error)
		*out = state.base;
	return error;
}

int changes_head(struct db_txn *txn, struct changes_place *out)
{
	struct change_record record;
	struct changes_entry entry;
	struct bytes key, value;
	struct db_cursor cursor;
	bool found;
	int error;

	db_cursor_open(txn, DB_CHANGES, &cursor);
	found = db_cursor_last(&cursor, &key, &value);
	db_cursor_close(&cursor);
	if (!found)
		return txn->error ? txn->error : changes_base(txn, out);
	if (key.len != sizeof(struct change_key))
		return BM_ECORRUPT;
	error = change_parse(bytes_get_be64(key.data), value, &record, &entry);
	if (!error)
		*out = entry.place;
	return error;
}

/* Why a change is not there. */
static int missing(struct db_txn *txn, uint64_t sequence)
{
	struct changes_place base, head;
	int error = changes_base(txn, &base);

	if (!error)
		error = changes_head(txn, &head);
	if (error)
		return error;
	if (sequence <= base.sequence)
		return BM_EPRUNED;
	return sequence > head.sequence ? BM_EDIVERGED : BM_ECORRUPT;
}

int changes_get(struct db_txn *txn, uint64_t sequence, struct changes_entry *out)
{
	struct change_record record;
	struct change_key key;
	struct bytes value;

	if (!db_get(txn, DB_CHANGES, change_key(sequence, &key), &value))
		return txn->error ? txn->error : missing(txn, sequence);
	return change_parse(sequence, value, &record, out);
}

int changes_find(struct db_txn *txn, const struct changes_place *place)
{
	struct changes_entry entry;
	int error = changes_base(txn, &entry.place);

	if (!error && place->sequence != entry.place.sequence)
		error = changes_get(txn, place->sequence, &entry);
	if (error)
		return error;
	return place->epoch == entry.place.epoch &&
			       !memcmp(place->hash, entry.place.hash, CHANGES_HASH_LEN)
		       ? 0
		       : BM_EDIVERGED;
}

int changes_unseal(const struct keys *keys, const struct changes_entry *entry, uint8_t *out)
{
	struct seal_context facts;
	struct bytes context =
		seal_context(entry->place.sequence, entry->place.epoch, entry->time_ms, &facts);
	int error = keys_unseal(keys, KEYS_CHANGE, context, entry->sealed, out);

	return error == BM_ETEMPLATE ? BM_ECORRUPT : error;
}

/* Writes a change whose record is complete but for its checksum. */
static int write_change(struct db_txn *txn, const struct keys *keys, uint64_t sequence,
			struct change_record *record, struct bytes body)
{
	size_t len = sizeof(*record) + KEYS_SEAL_OVERHEAD + body.len;
	struct seal_context facts;
	struct change_key key;
	uint8_t *value = db_reserve(txn, DB_CHANGES, change_key(sequence, &key), len);
	int error;

	if (!value)
		return txn->error;
	error = keys_seal(keys, KEYS_CHANGE,
			  seal_context(sequence, record->epoch, record->time_ms, &facts), body,
			  value + sizeof(*record));
	memcpy(value, record, sizeof(*record));
	record->sum = bytes_checksum(value + sizeof(uint64_t), len - sizeof(uint64_t));
	memcpy(value, &record->sum, sizeof(record->sum));
	return error;
}

static int append(struct db_txn *txn, const struct keys *keys, const struct changes_place *before,
		  uint64_t epoch, const struct changes_new *change)
{
	struct change_record record = {.epoch = epoch, .time_ms = change->time_ms};
	struct owner_key key;
	int error;

	if (change->body.len > CHANGES_BODY_MAX || change->tag.len > CHANGES_TAG_MAX)
		return BM_ETOOBIG;
	error = change_hash(before, epoch, change->time_ms, change->body, record.hash);
	if (!error && change->owner) {
		memcpy(record.owner, change->owner, CHANGES_OWNER_LEN);
		record.has_owner = 1;
		db_put(txn, DB_CHANGE_OWNERS, owner_key(change->owner, before->sequence + 1, &key),
		       change->tag);
	}
	if (!error)
		error = write_change(txn, keys, before->sequence + 1, &record, change->body);
	return error ? error : txn->error;
}

int changes_append(struct db_txn *txn, const struct keys *keys, const struct changes_new *change)
{
	struct changes_place before;
	int error = changes_head(txn, &before);

	return error ? error : append(txn, keys, &before, before.epoch, change);
}

int changes_raise_epoch(struct db_txn *txn, const struct keys *keys, int64_t now_ms)
{
	const struct changes_new change = {.time_ms = now_ms};
	struct changes_place before;
	int error = changes_head(txn, &before);

	return error ? error : append(txn, keys, &before, before.epoch + 1, &change);
}

/* A change without its body; the place keeps its hash, which the next one follows from. */
static void write_erased(struct db_txn *txn, const struct changes_entry *entry)
{
	struct change_record record = {.epoch = entry->place.epoch, .time_ms = entry->time_ms};
	struct change_key key;

	memcpy(record.hash, entry->place.hash, CHANGES_HASH_LEN);
	record.sum = bytes_checksum((const uint8_t *)&record + sizeof(uint64_t),
				    sizeof(record) - sizeof(uint64_t));
	db_put(txn, DB_CHANGES, change_key(entry->place.sequence, &key),
	       (struct bytes){(const uint8_t *)&record, sizeof(record)});
}

int changes_append_erased(struct db_txn *txn, const struct changes_entry *entry)
{
	struct changes_place before;
	int error = changes_head(txn, &before);

	if (error)
		return error;
	if (entry->place.sequence != before.sequence + 1 || entry->place.epoch != before.epoch)
		return BM_EDIVERGED;
	write_erased(txn, entry);
	return txn->error;
}

static int erase_change(struct db_txn *txn, uint64_t sequence)
{
	struct changes_entry entry;
	int error = changes_get(txn, sequence, &entry);

	if (error)
		return error;
	write_erased(txn, &entry);
	return txn->error;
}

int changes_erase(struct db_txn *txn, const uint8_t owner[CHANGES_OWNER_LEN], struct bytes tag)
{
	struct bytes found, value;
	struct db_cursor cursor;
	struct owner_key key;
	uint64_t sequence = 0;
	int error = 0;

	db_cursor_open(txn, DB_CHANGE_OWNERS, &cursor);
	while (!error &&
	       db_cursor_seek(&cursor, owner_key(owner, sequence, &key), &found, &value)) {
		if (found.len != sizeof(key.data) || memcmp(found.data, owner, CHANGES_OWNER_LEN))
			break;
		sequence = bytes_get_be64(found.data + CHANGES_OWNER_LEN);
		if (!tag.len || (tag.len == value.len && !memcmp(tag.data, value.data, tag.len))) {
			db_want_scrub(txn->db);
			db_cursor_delete(&cursor);
			error = erase_change(txn, sequence);
		}
		sequence++;
	}
	db_cursor_close(&cursor);
	return error ? error : txn->error;
}

static bool beyond(const struct changes_limits *limits, const struct changes_entry *entry,
		   uint64_t head, int64_t now_ms)
{
	return head - entry->place.sequence >= limits->entries ||
	       entry->time_ms < now_ms - limits->age_ms;
}

static int prune_change(struct db_txn *txn, uint64_t sequence, const struct changes_limits *limits,
			uint64_t head, int64_t now_ms, struct changes_place *base)
{
	struct change_record record;
	struct changes_entry entry;
	struct change_key key;
	struct owner_key owner;
	struct bytes value;
	int error;

	if (!db_get(txn, DB_CHANGES, change_key(sequence, &key), &value))
		return txn->error ? txn->error : BM_ECORRUPT;
	error = change_parse(sequence, value, &record, &entry);
	if (error || !beyond(limits, &entry, head, now_ms))
		return error;
	if (record.has_owner)
		db_delete(txn, DB_CHANGE_OWNERS, owner_key(record.owner, sequence, &owner));
	db_delete(txn, DB_CHANGES, change_key(sequence, &key));
	*base = entry.place;
	return txn->error;
}

int changes_prune(struct db_txn *txn, const struct changes_limits *limits, int64_t now_ms,
		  unsigned max)
{
	struct changes_place head, base;
	struct state_record state;
	int error = state_read(txn, &state);

	if (!error)
		error = changes_head(txn, &head);
	if (error)
		return error;
	base = state.base;
	for (unsigned i = 0; !error && i < max && base.sequence < head.sequence; i++) {
		uint64_t before = base.sequence;

		error = prune_change(txn, before + 1, limits, head.sequence, now_ms, &base);
		if (base.sequence == before)
			break;
	}
	if (!error && base.sequence != state.base.sequence) {
		state.base = base;
		state_write(txn, &state);
	}
	return error ? error : txn->error;
}

enum changes_role changes_role(struct db_txn *txn)
{
	struct state_record state;
	int error = state_read(txn, &state);

	if (error)
		txn->error = error;
	return error ? CHANGES_AS_CONFIGURED : (enum changes_role)state.role;
}

void changes_set_role(struct db_txn *txn, enum changes_role role)
{
	struct state_record state;
	int error = state_read(txn, &state);

	if (error) {
		txn->error = error;
		return;
	}
	state.role = (uint32_t)role;
	state_write(txn, &state);
}
