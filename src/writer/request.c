#include "request.h"

#include <stdlib.h>

#define REMEMBERED_MS (INT64_C(24) * 3600 * 1000)
/* Removed with one commit at most, so that none is delayed by many. */
#define FORGOTTEN_AT_ONCE 64
#define AGE_KEY_LEN       (8 + KEYS_PSEUDONYM_LEN)

struct request_record {
	uint64_t sum; /* of all that follows, the sealed reply included */
	int64_t answered_ms;
	uint8_t digest[WRITER_DIGEST_LEN];
	/* sealed reply */
};

static struct bytes request_key(const uint8_t request[KEYS_PSEUDONYM_LEN])
{
	return (struct bytes){request, KEYS_PSEUDONYM_LEN};
}

static uint64_t sum_of(const uint8_t *record, size_t len)
{
	return bytes_checksum(record + sizeof(uint64_t), len - sizeof(uint64_t));
}

static int unseal_reply(const struct keys *keys, struct writer_job *job, struct bytes sealed)
{
	size_t len = sealed.len - KEYS_SEAL_OVERHEAD;
	uint8_t *reply = malloc(len + 1);
	int error;

	if (!reply)
		return BM_ENOMEM;
	error = keys_unseal(keys, KEYS_REQUEST, request_key(job->request), sealed, reply);
	if (error) {
		free(reply);
		return error == BM_ETEMPLATE ? BM_ECORRUPT : error;
	}
	job->reply = (struct bytes){reply, len};
	job->repeated = true;
	return 0;
}

static void age_key(int64_t answered_ms, const uint8_t *request, uint8_t out[AGE_KEY_LEN])
{
	bytes_put_be64(out, (uint64_t)answered_ms);
	memcpy(out + 8, request, KEYS_PSEUDONYM_LEN);
}

/*
 * Its time is over, and nobody came to forget it: the id is free. Its place in
 * the order of forgetting goes too, or it would take the next answer with it.
 */
static void forget(struct db_txn *txn, const uint8_t *request, int64_t answered_ms)
{
	uint8_t age[AGE_KEY_LEN];

	age_key(answered_ms, request, age);
	db_delete(txn, DB_REQUEST_AGE, (struct bytes){age, sizeof(age)});
	db_delete(txn, DB_REQUESTS, request_key(request));
}

int request_recall(const struct keys *keys, struct db_txn *txn, struct writer_job *job,
		   int64_t now_ms, bool *found)
{
	struct request_record record;
	struct bytes value;

	*found = db_get(txn, DB_REQUESTS, request_key(job->request), &value);
	if (!*found)
		return txn->error;
	if (value.len < sizeof(record) + KEYS_SEAL_OVERHEAD)
		return BM_ECORRUPT;
	memcpy(&record, value.data, sizeof(record));
	if (record.sum != sum_of(value.data, value.len))
		return BM_ECORRUPT;
	if (record.answered_ms <= now_ms - REMEMBERED_MS) {
		*found = false;
		forget(txn, job->request, record.answered_ms);
		return txn->error;
	}
	if (memcmp(record.digest, job->digest, sizeof(record.digest)))
		return BM_EREUSED;
	return unseal_reply(
		keys, job, (struct bytes){value.data + sizeof(record), value.len - sizeof(record)});
}

int request_remember(const struct keys *keys, struct db_txn *txn, const struct writer_job *job,
		     int64_t now_ms)
{
	struct request_record record = {.answered_ms = now_ms};
	size_t len = sizeof(record) + job->reply.len + KEYS_SEAL_OVERHEAD;
	uint8_t age[AGE_KEY_LEN], *value = malloc(len);
	int error;

	if (!value)
		return BM_ENOMEM;
	error = keys_seal(keys, KEYS_REQUEST, request_key(job->request), job->reply,
			  value + sizeof(record));
	if (!error) {
		memcpy(record.digest, job->digest, sizeof(record.digest));
		memcpy(value, &record, sizeof(record));
		record.sum = sum_of(value, len);
		memcpy(value, &record, sizeof(record));
		age_key(now_ms, job->request, age);
		db_put(txn, DB_REQUESTS, request_key(job->request), (struct bytes){value, len});
		db_put(txn, DB_REQUEST_AGE, (struct bytes){age, sizeof(age)}, (struct bytes){0});
		error = txn->error;
	}
	free(value);
	return error;
}

int request_forget_old(struct db_txn *txn, int64_t now_ms)
{
	struct bytes first = {(const uint8_t *)"", 1}, found, value;
	struct db_cursor cursor;

	db_cursor_open(txn, DB_REQUEST_AGE, &cursor);
	for (int i = 0; i < FORGOTTEN_AT_ONCE && db_cursor_seek(&cursor, first, &found, &value);
	     i++) {
		if (found.len != AGE_KEY_LEN) {
			db_cursor_close(&cursor);
			return BM_ECORRUPT;
		}
		if ((int64_t)bytes_get_be64(found.data) > now_ms - REMEMBERED_MS)
			break;
		db_want_scrub(txn->db);
		db_delete(txn, DB_REQUESTS, (struct bytes){found.data + 8, KEYS_PSEUDONYM_LEN});
		db_cursor_delete(&cursor);
	}
	db_cursor_close(&cursor);
	return txn->error;
}

/* A request and its place in the order of forgetting stand for each other. */
static bool is_whole(struct db_txn *txn, struct bytes request, struct bytes value)
{
	struct request_record record;
	uint8_t age[AGE_KEY_LEN];
	struct bytes nothing;

	if (request.len != KEYS_PSEUDONYM_LEN || value.len < sizeof(record) + KEYS_SEAL_OVERHEAD)
		return false;
	memcpy(&record, value.data, sizeof(record));
	age_key(record.answered_ms, request.data, age);
	return record.sum == sum_of(value.data, value.len) &&
	       db_get(txn, DB_REQUEST_AGE, (struct bytes){age, sizeof(age)}, &nothing);
}

int writer_check(struct db_txn *txn, uint64_t *faults)
{
	static const uint8_t first[1];
	struct bytes request, value;
	struct db_cursor cursor;
	bool more;

	db_cursor_open(txn, DB_REQUESTS, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &request, &value);
	for (; more; more = db_cursor_next(&cursor, &request, &value))
		*faults += !is_whole(txn, request, value);
	db_cursor_close(&cursor);
	return txn->error;
}
