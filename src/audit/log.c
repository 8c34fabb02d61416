#include <openssl/rand.h>
#include <stdlib.h>

#include "biomatch/wire.h"
#include "entry.h"

#define ENTRY_ARENA (64 * AUDIT_ENTRY_MAX)

/* A key that sorts as the number it is. */
struct log_key {
	uint8_t sequence[8];
};

static struct bytes key_of(uint64_t sequence, struct log_key *key)
{
	bytes_put_be64(key->sequence, sequence);
	return (struct bytes){key->sequence, sizeof(key->sequence)};
}

/* The last entry as it is stored; of length 0 in an empty log. */
static int read_last(struct db_txn *txn, uint64_t *sequence, struct bytes *packed)
{
	struct db_cursor cursor;
	struct bytes key;
	bool found;

	*sequence = 0;
	*packed = (struct bytes){0};
	db_cursor_open(txn, DB_AUDIT, &cursor);
	found = db_cursor_last(&cursor, &key, packed);
	db_cursor_close(&cursor);
	if (!found)
		return txn->error;
	if (key.len != sizeof(struct log_key))
		return BM_ECORRUPT;
	*sequence = bytes_get_be64(key.data);
	return 0;
}

int audit_head(struct db_txn *txn, struct audit_receipt *out)
{
	struct bytes packed;
	int error = read_last(txn, &out->sequence, &packed);

	return error || !out->sequence ? error : audit_hash(packed, out->hash);
}

bool audit_get(struct db_txn *txn, uint64_t sequence, struct bytes *entry)
{
	struct log_key key;

	return db_get(txn, DB_AUDIT, key_of(sequence, &key), entry);
}

/* Where the next entry goes. The hash before the first is random: it names the log. */
static int begin_entry(struct db_txn *txn, struct audit_receipt *before,
		       Biomatch__V1__AuditEntry *entry)
{
	int error = audit_head(txn, before);

	if (error)
		return error;
	if (!before->sequence && RAND_bytes(before->hash, AUDIT_HASH_LEN) != 1)
		return BM_ENOMEM;
	entry->sequence = before->sequence + 1;
	entry->previous = (ProtobufCBinaryData){AUDIT_HASH_LEN, before->hash};
	return 0;
}

int audit_append(struct db_txn *txn, const Biomatch__V1__AuditEntry *from,
		 struct audit_receipt *out)
{
	Biomatch__V1__AuditEntry entry = *from;
	struct audit_receipt before;
	struct log_key key;
	uint8_t *place;
	size_t len;
	int error = begin_entry(txn, &before, &entry);

	if (error)
		return error;
	len = protobuf_c_message_get_packed_size(&entry.base);
	if (len > AUDIT_ENTRY_MAX)
		return BM_ETOOBIG;
	place = db_reserve(txn, DB_AUDIT, key_of(entry.sequence, &key), len);
	if (!place)
		return txn->error;
	protobuf_c_message_pack(&entry.base, place);
	out->sequence = entry.sequence;
	return audit_hash((struct bytes){place, len}, out->hash);
}

/* Packs an entry with its signature behind it, into malloc'ed memory. */
static int pack_signed(const struct keys *keys, const Biomatch__V1__AuditEntry *entry,
		       uint8_t **out, size_t *len)
{
	size_t text = protobuf_c_message_get_packed_size(&entry->base);
	uint8_t *packed = malloc(text + ENTRY_SIGNATURE_LEN);
	int error;

	if (!packed)
		return BM_ENOMEM;
	protobuf_c_message_pack(&entry->base, packed);
	memcpy(packed + text, ENTRY_SIGNATURE_TAG, ENTRY_SIGNATURE_TAG_LEN);
	error = keys_sign(keys, (struct bytes){packed, text},
			  packed + text + ENTRY_SIGNATURE_TAG_LEN);
	if (error) {
		free(packed);
		return error;
	}
	*out = packed;
	*len = text + ENTRY_SIGNATURE_LEN;
	return 0;
}

static int append_checkpoint(struct db_txn *txn, const struct keys *keys, int64_t now_ms,
			     struct audit_receipt *out)
{
	Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Biomatch__V1__AuditEntry entry = BIOMATCH__V1__AUDIT_ENTRY__INIT;
	struct audit_receipt before;
	struct log_key key;
	uint8_t *packed;
	size_t len;
	int error = begin_entry(txn, &before, &entry);

	if (error)
		return error;
	time.seconds = now_ms / 1000;
	time.nanos = (int32_t)(now_ms % 1000) * 1000000;
	entry.time = &time;
	entry.operation = (char *)(uintptr_t)AUDIT_CHECKPOINT;
	error = pack_signed(keys, &entry, &packed, &len);
	if (error)
		return error;
	db_put(txn, DB_AUDIT, key_of(entry.sequence, &key), (struct bytes){packed, len});
	out->sequence = entry.sequence;
	error = audit_hash((struct bytes){packed, len}, out->hash);
	free(packed);
	return error ? error : txn->error;
}

static int is_checkpoint(struct bytes packed, bool *out)
{
	Biomatch__V1__AuditEntry *entry;
	struct arena arena;
	int error;

	arena_init(&arena, ENTRY_ARENA);
	error = entry_unpack(packed, &arena, &entry);
	*out = !error && entry->signature.len;
	arena_deinit(&arena);
	return error;
}

int audit_checkpoint(struct db_txn *txn, const struct keys *keys, int64_t now_ms,
		     struct audit_receipt *out)
{
	bool stands = false;
	struct bytes packed;
	int error = read_last(txn, &out->sequence, &packed);

	if (!error && out->sequence)
		error = is_checkpoint(packed, &stands);
	if (error)
		return error;
	return stands ? audit_hash(packed, out->hash) : append_checkpoint(txn, keys, now_ms, out);
}

int audit_first(struct db_txn *txn, uint64_t *out)
{
	struct db_cursor cursor;
	struct bytes key, packed;
	struct log_key zero = {{0}};

	*out = 0;
	db_cursor_open(txn, DB_AUDIT, &cursor);
	if (db_cursor_seek(&cursor, (struct bytes){zero.sequence, sizeof(zero.sequence)}, &key,
			   &packed)) {
		if (key.len == sizeof(zero.sequence))
			*out = bytes_get_be64(key.data);
		else
			txn->error = BM_ECORRUPT;
	}
	db_cursor_close(&cursor);
	return txn->error;
}

/* Whoever knows the hash of a checkpoint has it, or what was proven to end with it. */
static int find_checkpoint(struct db_txn *txn, const struct audit_receipt *wanted)
{
	uint8_t hash[AUDIT_HASH_LEN];
	struct bytes packed;
	bool is_signed;
	int error;

	if (!audit_get(txn, wanted->sequence, &packed))
		return txn->error ? txn->error : BM_EINVAL;
	error = is_checkpoint(packed, &is_signed);
	if (!error)
		error = audit_hash(packed, hash);
	if (error)
		return error;
	return is_signed && !memcmp(hash, wanted->hash, sizeof(hash)) ? 0 : BM_EINVAL;
}

int audit_prune(struct db_txn *txn, const struct audit_receipt *checkpoint, uint64_t max,
		uint64_t *pruned, uint64_t *left)
{
	uint64_t first, before;
	struct log_key key;
	int error = find_checkpoint(txn, checkpoint);

	if (!error)
		error = audit_first(txn, &first);
	if (error)
		return error;
	before = checkpoint->sequence - first;
	*pruned = before < max ? before : max;
	*left = before - *pruned;
	for (uint64_t i = 0; i < *pruned && !txn->error; i++)
		db_delete(txn, DB_AUDIT, key_of(first + i, &key));
	return txn->error;
}
