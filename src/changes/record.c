#include "record.h"

#include <openssl/evp.h>

static const char state_key_name[] = "changes";

static struct bytes state_key(void)
{
	return (struct bytes){(const uint8_t *)state_key_name, sizeof(state_key_name) - 1};
}

struct bytes change_key(uint64_t sequence, struct change_key *key)
{
	bytes_put_be64(key->data, sequence);
	return (struct bytes){key->data, sizeof(key->data)};
}

struct bytes owner_key(const uint8_t owner[CHANGES_OWNER_LEN], uint64_t sequence,
		       struct owner_key *key)
{
	memcpy(key->data, owner, CHANGES_OWNER_LEN);
	bytes_put_be64(key->data + CHANGES_OWNER_LEN, sequence);
	return (struct bytes){key->data, sizeof(key->data)};
}

static uint64_t sum_of(const void *record, size_t len)
{
	return bytes_checksum((const uint8_t *)record + sizeof(uint64_t), len - sizeof(uint64_t));
}

bool changes_exist(struct db_txn *txn)
{
	struct bytes value;

	return db_get(txn, DB_META, state_key(), &value);
}

int state_read(struct db_txn *txn, struct state_record *out)
{
	struct bytes value;

	if (!db_get(txn, DB_META, state_key(), &value))
		return txn->error ? txn->error : BM_ECORRUPT;
	if (value.len != sizeof(*out))
		return BM_ECORRUPT;
	memcpy(out, value.data, sizeof(*out));
	return out->sum == sum_of(out, sizeof(*out)) ? 0 : BM_ECORRUPT;
}

void state_write(struct db_txn *txn, struct state_record *state)
{
	state->sum = sum_of(state, sizeof(*state));
	db_put(txn, DB_META, state_key(), (struct bytes){(const uint8_t *)state, sizeof(*state)});
}

int change_parse(uint64_t sequence, struct bytes value, struct change_record *record,
		 struct changes_entry *out)
{
	if (value.len < sizeof(*record))
		return BM_ECORRUPT;
	memcpy(record, value.data, sizeof(*record));
	if (record->sum != sum_of(value.data, value.len))
		return BM_ECORRUPT;
	out->place = (struct changes_place){.sequence = sequence, .epoch = record->epoch};
	memcpy(out->place.hash, record->hash, CHANGES_HASH_LEN);
	out->time_ms = record->time_ms;
	out->sealed = (struct bytes){value.data + sizeof(*record), value.len - sizeof(*record)};
	return 0;
}

struct bytes seal_context(uint64_t sequence, uint64_t epoch, int64_t time_ms,
			  struct seal_context *context)
{
	bytes_put_be64(context->data, sequence);
	bytes_put_be64(context->data + 8, epoch);
	bytes_put_be64(context->data + 16, (uint64_t)time_ms);
	return (struct bytes){context->data, sizeof(context->data)};
}

int change_hash(const struct changes_place *before, uint64_t epoch, int64_t time_ms,
		struct bytes body, uint8_t out[CHANGES_HASH_LEN])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct seal_context facts;
	struct bytes head = seal_context(before->sequence + 1, epoch, time_ms, &facts);
	int ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) &&
		 EVP_DigestUpdate(ctx, before->hash, CHANGES_HASH_LEN) &&
		 EVP_DigestUpdate(ctx, head.data, head.len) &&
		 EVP_DigestUpdate(ctx, body.data, body.len) && EVP_DigestFinal_ex(ctx, out, NULL);

	EVP_MD_CTX_free(ctx);
	return ok ? 0 : BM_ENOMEM;
}
