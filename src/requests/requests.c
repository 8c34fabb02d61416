/*
 *   requests        request -> struct request_record, sealed reply; nothing behind the
 *                              record of one that was erased
 *   request_age     time, request -> the keys of the answer's owners, one behind another
 *   request_owners  owner, request -> tag
 */
#include "biomatch/requests.h"

#include <stdlib.h>

#define REMEMBERED_MS (INT64_C(24) * 3600 * 1000)
/* Removed with one commit at most, so that none is delayed by many. */
#define FORGOTTEN_AT_ONCE 64
#define AGE_KEY_LEN       (8 + KEYS_PSEUDONYM_LEN)
#define OWNER_KEY_LEN     (REQUESTS_OWNER_LEN + KEYS_PSEUDONYM_LEN)

struct request_record {
	uint64_t sum; /* of all that follows, the sealed reply included */
	int64_t answered_ms;
	uint8_t digest[REQUESTS_DIGEST_LEN];
	/* sealed reply */
};

static struct bytes request_key(const uint8_t request[KEYS_PSEUDONYM_LEN])
{
	return (struct bytes){request, KEYS_PSEUDONYM_LEN};
}

static struct bytes age_key(int64_t answered_ms, const uint8_t *request, uint8_t out[AGE_KEY_LEN])
{
	bytes_put_be64(out, (uint64_t)answered_ms);
	memcpy(out + 8, request, KEYS_PSEUDONYM_LEN);
	return (struct bytes){out, AGE_KEY_LEN};
}

static struct bytes owner_key(const uint8_t *owner, const uint8_t *request,
			      uint8_t out[OWNER_KEY_LEN])
{
	memcpy(out, owner, REQUESTS_OWNER_LEN);
	memcpy(out + REQUESTS_OWNER_LEN, request, KEYS_PSEUDONYM_LEN);
	return (struct bytes){out, OWNER_KEY_LEN};
}

static uint64_t sum_of(const uint8_t *record, size_t len)
{
	return bytes_checksum(record + sizeof(uint64_t), len - sizeof(uint64_t));
}

static int parse(struct bytes value, struct request_record *out)
{
	if (value.len != sizeof(*out) && value.len < sizeof(*out) + KEYS_SEAL_OVERHEAD)
		return BM_ECORRUPT;
	memcpy(out, value.data, sizeof(*out));
	return out->sum == sum_of(value.data, value.len) ? 0 : BM_ECORRUPT;
}

static int unseal_reply(const struct keys *keys, const uint8_t *request, struct bytes sealed,
			struct bytes *out)
{
	size_t len = sealed.len - KEYS_SEAL_OVERHEAD;
	uint8_t *reply = malloc(len + 1);
	int error;

	if (!reply)
		return BM_ENOMEM;
	error = keys_unseal(keys, KEYS_REQUEST, request_key(request), sealed, reply);
	if (error) {
		free(reply);
		return error == BM_ETEMPLATE ? BM_ECORRUPT : error;
	}
	*out = (struct bytes){reply, len};
	return 0;
}

/* Takes the owners out of both orders; the answer's place in the one stays. */
static void forget_owners(struct db_txn *txn, const uint8_t *request, int64_t answered_ms)
{
	uint8_t keys[REQUESTS_MAX_OWNERS][REQUESTS_OWNER_LEN], key[OWNER_KEY_LEN], age[AGE_KEY_LEN];
	struct bytes place = age_key(answered_ms, request, age), owners;
	size_t n;

	if (!db_get(txn, DB_REQUEST_AGE, place, &owners) || owners.len < REQUESTS_OWNER_LEN)
		return;
	/* The next write may move what the map has. */
	n = owners.len / REQUESTS_OWNER_LEN;
	n = n < REQUESTS_MAX_OWNERS ? n : REQUESTS_MAX_OWNERS;
	memcpy(keys, owners.data, n * REQUESTS_OWNER_LEN);
	for (size_t i = 0; i < n; i++)
		db_delete(txn, DB_REQUEST_OWNERS, owner_key(keys[i], request, key));
	db_put(txn, DB_REQUEST_AGE, place, (struct bytes){0});
}

/* With its places in the orders, or they would take the next answer under its id with them. */
static void forget(struct db_txn *txn, const uint8_t *request, int64_t answered_ms)
{
	uint8_t age[AGE_KEY_LEN];

	db_want_scrub(txn->db);
	forget_owners(txn, request, answered_ms);
	db_delete(txn, DB_REQUEST_AGE, age_key(answered_ms, request, age));
	db_delete(txn, DB_REQUESTS, request_key(request));
}

int requests_recall(struct db_txn *txn, const struct keys *keys, const struct requests_id *id,
		    int64_t now_ms, struct bytes *reply, bool *found)
{
	struct request_record record;
	struct bytes value;

	*found = db_get(txn, DB_REQUESTS, request_key(id->request), &value);
	if (!*found)
		return txn->error;
	if (parse(value, &record))
		return BM_ECORRUPT;
	if (record.answered_ms <= now_ms - REMEMBERED_MS) {
		*found = false;
		forget(txn, id->request, record.answered_ms);
		return txn->error;
	}
	if (memcmp(record.digest, id->digest, sizeof(record.digest)))
		return BM_EREUSED;
	if (value.len == sizeof(record))
		return BM_EERASED;
	return unseal_reply(keys, id->request,
			    (struct bytes){value.data + sizeof(record), value.len - sizeof(record)},
			    reply);
}

static void add_owners(struct db_txn *txn, const struct requests_id *id, struct bytes age,
		       const struct requests_owner *owners, size_t n)
{
	uint8_t *list = db_reserve(txn, DB_REQUEST_AGE, age, n * REQUESTS_OWNER_LEN);
	uint8_t key[OWNER_KEY_LEN];

	if (!list)
		return;
	for (size_t i = 0; i < n; i++)
		memcpy(list + i * REQUESTS_OWNER_LEN, owners[i].key, REQUESTS_OWNER_LEN);
	for (size_t i = 0; i < n; i++)
		db_put(txn, DB_REQUEST_OWNERS, owner_key(owners[i].key, id->request, key),
		       (struct bytes){(const uint8_t *)owners[i].tag, strlen(owners[i].tag)});
}

int requests_remember(struct db_txn *txn, const struct keys *keys, const struct requests_id *id,
		      int64_t now_ms, struct bytes reply, const struct requests_owner *owners,
		      size_t n_owners)
{
	struct request_record record = {.answered_ms = now_ms};
	size_t len = sizeof(record) + reply.len + KEYS_SEAL_OVERHEAD;
	uint8_t age[AGE_KEY_LEN], *value;
	int error;

	if (n_owners > REQUESTS_MAX_OWNERS)
		return BM_EINVAL;
	value = malloc(len);
	if (!value)
		return BM_ENOMEM;
	error = keys_seal(keys, KEYS_REQUEST, request_key(id->request), reply,
			  value + sizeof(record));
	if (!error) {
		memcpy(record.digest, id->digest, sizeof(record.digest));
		memcpy(value, &record, sizeof(record));
		record.sum = sum_of(value, len);
		memcpy(value, &record, sizeof(record));
		db_put(txn, DB_REQUESTS, request_key(id->request), (struct bytes){value, len});
		add_owners(txn, id, age_key(now_ms, id->request, age), owners, n_owners);
		error = txn->error;
	}
	free(value);
	return error;
}

/* What is left says that it was asked, and not of whom. */
static int erase_reply(struct db_txn *txn, const uint8_t *request)
{
	struct request_record record;
	struct bytes value;

	if (!db_get(txn, DB_REQUESTS, request_key(request), &value))
		return txn->error ? txn->error : BM_ECORRUPT;
	if (parse(value, &record))
		return BM_ECORRUPT;
	forget_owners(txn, request, record.answered_ms);
	record.sum = sum_of((const uint8_t *)&record, sizeof(record));
	db_put(txn, DB_REQUESTS, request_key(request),
	       (struct bytes){(const uint8_t *)&record, sizeof(record)});
	return txn->error;
}

int requests_erase(struct db_txn *txn, const uint8_t owner[REQUESTS_OWNER_LEN], struct bytes tag)
{
	uint8_t key[OWNER_KEY_LEN + 1] = {0}, request[KEYS_PSEUDONYM_LEN];
	struct bytes at = {key, REQUESTS_OWNER_LEN}, found, value;
	struct db_cursor cursor;
	int error = 0;

	memcpy(key, owner, REQUESTS_OWNER_LEN);
	db_cursor_open(txn, DB_REQUEST_OWNERS, &cursor);
	while (!error && db_cursor_seek(&cursor, at, &found, &value)) {
		if (found.len != OWNER_KEY_LEN || memcmp(found.data, owner, REQUESTS_OWNER_LEN))
			break;
		/* The next one sorts just behind this key with a zero added. */
		memcpy(key, found.data, OWNER_KEY_LEN);
		at.len = sizeof(key);
		memcpy(request, found.data + REQUESTS_OWNER_LEN, sizeof(request));
		if (tag.len && (tag.len != value.len || memcmp(tag.data, value.data, tag.len)))
			continue;
		db_want_scrub(txn->db);
		error = erase_reply(txn, request);
	}
	db_cursor_close(&cursor);
	return error ? error : txn->error;
}

int requests_forget_old(struct db_txn *txn, int64_t now_ms)
{
	struct bytes first = {(const uint8_t *)"", 1}, found, value;
	uint8_t request[KEYS_PSEUDONYM_LEN];
	int64_t answered_ms;

	for (int i = 0; i < FORGOTTEN_AT_ONCE; i++) {
		struct db_cursor cursor;
		bool any;

		db_cursor_open(txn, DB_REQUEST_AGE, &cursor);
		any = db_cursor_seek(&cursor, first, &found, &value);
		db_cursor_close(&cursor);
		if (!any)
			break;
		if (found.len != AGE_KEY_LEN)
			return BM_ECORRUPT;
		answered_ms = (int64_t)bytes_get_be64(found.data);
		if (answered_ms > now_ms - REMEMBERED_MS)
			break;
		memcpy(request, found.data + 8, sizeof(request));
		forget(txn, request, answered_ms);
	}
	return txn->error;
}

/* A request and its places in the orders stand for each other. */
static bool is_whole(struct db_txn *txn, struct bytes request, struct bytes value, uint64_t *places)
{
	uint8_t age[AGE_KEY_LEN], key[OWNER_KEY_LEN];
	struct request_record record;
	struct bytes owners, tag;

	if (request.len != KEYS_PSEUDONYM_LEN || parse(value, &record) ||
	    !db_get(txn, DB_REQUEST_AGE, age_key(record.answered_ms, request.data, age), &owners) ||
	    owners.len % REQUESTS_OWNER_LEN)
		return false;
	for (size_t at = 0; at < owners.len; at += REQUESTS_OWNER_LEN) {
		if (!db_get(txn, DB_REQUEST_OWNERS, owner_key(owners.data + at, request.data, key),
			    &tag))
			return false;
		++*places;
	}
	return true;
}

static uint64_t count(struct db_txn *txn, enum db_table table)
{
	static const uint8_t first[1];
	struct bytes key, value;
	struct db_cursor cursor;
	uint64_t n = 0;
	bool more;

	db_cursor_open(txn, table, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &key, &value);
	for (; more; more = db_cursor_next(&cursor, &key, &value))
		n++;
	db_cursor_close(&cursor);
	return n;
}

int requests_check(struct db_txn *txn, uint64_t *faults)
{
	static const uint8_t first[1];
	struct bytes request, value;
	struct db_cursor cursor;
	uint64_t n = 0, places = 0, damaged = 0;
	bool more;

	db_cursor_open(txn, DB_REQUESTS, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &request, &value);
	for (; more; more = db_cursor_next(&cursor, &request, &value), n++)
		damaged += !is_whole(txn, request, value, &places);
	db_cursor_close(&cursor);
	/* And nothing else has one. */
	if (!damaged)
		damaged =
			count(txn, DB_REQUEST_AGE) != n || count(txn, DB_REQUEST_OWNERS) != places;
	*faults += damaged;
	return txn->error;
}
