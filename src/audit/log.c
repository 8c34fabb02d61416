#include <openssl/rand.h>
#include <stdlib.h>

#include "biomatch/wire.h"
#include "entry.h"

/* The longest checkpoint, without its signature, is far shorter. */
#define CHECKPOINT_ARENA ((size_t)1 << 20)

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

	if (!error && out->sequence)
		entry_hash(packed, out->hash);
	return error;
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
	entry_hash((struct bytes){place, len}, out->hash);
	return 0;
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
	entry_hash((struct bytes){packed, len}, out->hash);
	free(packed);
	return txn->error;
}

int audit_checkpoint(struct db_txn *txn, const struct keys *keys, int64_t now_ms,
		     struct audit_receipt *out)
{
	Biomatch__V1__AuditEntry *last;
	bool stands = false;
	struct bytes packed;
	struct arena arena;
	int error = read_last(txn, &out->sequence, &packed);

	if (error)
		return error;
	if (out->sequence) {
		arena_init(&arena, CHECKPOINT_ARENA);
		error = entry_unpack(packed, &arena, &last);
		stands = !error && last->signature.len;
		arena_deinit(&arena);
	}
	if (stands)
		entry_hash(packed, out->hash);
	return error || stands ? error : append_checkpoint(txn, keys, now_ms, out);
}
