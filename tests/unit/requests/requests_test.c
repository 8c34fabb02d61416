/*
 * Remembered requests: recalled, refused to others, forgotten in time; an answer is erased with
 * any of its owners, and that it was asked stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "biomatch/file.h"
#include "biomatch/log.h"
#include "biomatch/requests.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

struct fixture {
	char dir[64];
	struct db *db;
	struct keys *keys;
};

static int init(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint8_t key[KEYS_MASTER_LEN] = {7};
	char path[128], message[256];

	assert_non_null(f);
	log_set_level(LOG_LEVEL_ERROR);
	strcpy(f->dir, "/dev/shm/biomatch-requests-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(path, sizeof(path), "%s/key", f->dir);
	assert_int_equal(file_write_new(path, key, sizeof(key), 0600), 0);
	assert_int_equal(keys_open(path, &f->keys), 0);
	assert_int_equal(db_open(f->dir, 16 << 20, 8, &f->db, message), 0);
	*state = f;
	return 0;
}

static int deinit(void **state)
{
	struct fixture *f = *state;
	char command[128];

	db_close(f->db);
	keys_close(f->keys);
	snprintf(command, sizeof(command), "rm -r %s", f->dir);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static struct requests_id id_of(uint8_t n, uint8_t digest)
{
	struct requests_id id;

	memset(id.request, n, sizeof(id.request));
	memset(id.digest, digest, sizeof(id.digest));
	return id;
}

static struct requests_owner owner_of(uint8_t n, const char *tag)
{
	struct requests_owner owner = {0};

	memset(owner.key, n, sizeof(owner.key));
	strcpy(owner.tag, tag);
	return owner;
}

static void remember(struct fixture *f, uint8_t n, int64_t now_ms, const char *reply,
		     const struct requests_owner *owners, size_t n_owners)
{
	struct requests_id id = id_of(n, n);
	struct db_txn txn;

	assert_int_equal(db_begin_write(f->db, &txn), 0);
	assert_int_equal(requests_remember(&txn, f->keys, &id, now_ms,
					   (struct bytes){(const uint8_t *)reply, strlen(reply)},
					   owners, n_owners),
			 0);
	assert_int_equal(db_commit(&txn), 0);
}

/* What is recalled, as text; NULL where nothing is remembered. */
static int recall(struct fixture *f, uint8_t n, uint8_t digest, int64_t now_ms,
		  const char *expected)
{
	struct requests_id id = id_of(n, digest);
	struct bytes reply = {0};
	struct db_txn txn;
	bool found;
	int error;

	assert_int_equal(db_begin_write(f->db, &txn), 0);
	error = requests_recall(&txn, f->keys, &id, now_ms, &reply, &found);
	assert_int_equal(db_commit(&txn), 0);
	if (error)
		return error;
	assert_int_equal(found, expected != NULL);
	if (found) {
		assert_int_equal(reply.len, strlen(expected));
		assert_memory_equal(reply.data, expected, reply.len);
		free((void *)(uintptr_t)reply.data);
	}
	return 0;
}

static void erase(struct fixture *f, uint8_t n, const char *tag)
{
	struct requests_owner owner = owner_of(n, tag);
	struct db_txn txn;

	assert_int_equal(db_begin_write(f->db, &txn), 0);
	assert_int_equal(
		requests_erase(&txn, owner.key, (struct bytes){(const uint8_t *)tag, strlen(tag)}),
		0);
	assert_int_equal(db_commit(&txn), 0);
}

static void forget_old(struct fixture *f, int64_t now_ms)
{
	struct db_txn txn;

	assert_int_equal(db_begin_write(f->db, &txn), 0);
	assert_int_equal(requests_forget_old(&txn, now_ms), 0);
	assert_int_equal(db_commit(&txn), 0);
}

static uint64_t entries(struct fixture *f, enum db_table table)
{
	static const uint8_t first[1];
	struct bytes key, value;
	struct db_cursor cursor;
	struct db_txn txn;
	uint64_t n = 0;
	bool more;

	assert_int_equal(db_begin_read(f->db, &txn), 0);
	db_cursor_open(&txn, table, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, 1}, &key, &value);
	for (; more; more = db_cursor_next(&cursor, &key, &value))
		n++;
	db_cursor_close(&cursor);
	db_abort(&txn);
	return n;
}

static void assert_faults(struct fixture *f, uint64_t expected)
{
	struct db_txn txn;
	uint64_t faults = 0;

	assert_int_equal(db_begin_read(f->db, &txn), 0);
	assert_int_equal(requests_check(&txn, &faults), 0);
	assert_int_equal(faults, expected);
	db_abort(&txn);
}

static void test_recalled_for_a_day(void **state)
{
	struct fixture *f = *state;
	struct requests_owner owner = owner_of(1, "e");

	remember(f, 1, 1000, "first", &owner, 1);
	remember(f, 2, 2000, "", NULL, 0);
	assert_int_equal(recall(f, 1, 1, 1000, "first"), 0);
	assert_int_equal(recall(f, 2, 2, 2000, ""), 0);
	assert_int_equal(recall(f, 3, 3, 2000, NULL), 0);
	assert_int_equal(recall(f, 1, 2, 2000, ""), BM_EREUSED);
	assert_faults(f, 0);
	assert_int_equal(recall(f, 1, 1, 999 + DAY_MS, "first"), 0);
	assert_int_equal(recall(f, 1, 1, 1000 + DAY_MS, NULL), 0);
	assert_int_equal(entries(f, DB_REQUESTS), 1);
	assert_int_equal(entries(f, DB_REQUEST_OWNERS), 0);
	remember(f, 1, 1000 + DAY_MS, "again", &owner, 1);
	forget_old(f, 2000 + DAY_MS);
	assert_int_equal(recall(f, 2, 2, 2000, NULL), 0);
	assert_int_equal(recall(f, 1, 1, 2000 + DAY_MS, "again"), 0);
	forget_old(f, 1000 + 2 * DAY_MS);
	for (int table = DB_REQUESTS; table <= DB_REQUEST_AGE; table++)
		assert_int_equal(entries(f, table), 0);
	assert_int_equal(entries(f, DB_REQUEST_OWNERS), 0);
	assert_faults(f, 0);
}

static void test_erased_with_an_owner(void **state)
{
	struct fixture *f = *state;
	struct requests_owner both[] = {owner_of(1, "a"), owner_of(2, "b")},
			      other = owner_of(1, "c");

	remember(f, 1, 1000, "of both", both, 2);
	remember(f, 2, 1000, "of the other", &other, 1);
	remember(f, 3, 1000, "of nobody", NULL, 0);
	erase(f, 1, "b");
	erase(f, 3, "");
	assert_int_equal(recall(f, 1, 1, 1000, "of both"), 0);
	erase(f, 1, "a");
	/* Asked it was; nothing is told, and nothing is done again. */
	assert_int_equal(recall(f, 1, 1, 1000, ""), BM_EERASED);
	assert_int_equal(recall(f, 1, 2, 1000, ""), BM_EREUSED);
	assert_int_equal(recall(f, 2, 2, 1000, "of the other"), 0);
	assert_faults(f, 0);
	/* Once more, by the other one. */
	erase(f, 2, "");
	erase(f, 1, "");
	assert_int_equal(recall(f, 2, 2, 1000, ""), BM_EERASED);
	assert_int_equal(recall(f, 3, 3, 1000, "of nobody"), 0);
	assert_faults(f, 0);
	forget_old(f, 1000 + DAY_MS);
	assert_int_equal(recall(f, 1, 1, 1000 + DAY_MS, NULL), 0);
	assert_int_equal(entries(f, DB_REQUEST_OWNERS), 0);
}

static void test_as_many_owners_as_there_may_be(void **state)
{
	struct requests_owner *owners = calloc(REQUESTS_MAX_OWNERS + 1, sizeof(*owners));
	struct requests_id id = id_of(9, 9);
	struct fixture *f = *state;
	struct db_txn txn;

	assert_non_null(owners);
	for (unsigned i = 0; i <= REQUESTS_MAX_OWNERS; i++) {
		owners[i].key[0] = (uint8_t)i;
		owners[i].key[1] = (uint8_t)(i >> 8);
		owners[i].key[2] = 1;
	}
	assert_int_equal(db_begin_write(f->db, &txn), 0);
	assert_int_equal(requests_remember(&txn, f->keys, &id, 1, (struct bytes){0}, owners,
					   REQUESTS_MAX_OWNERS + 1),
			 BM_EINVAL);
	db_abort(&txn);
	remember(f, 1, 1000, "of all", owners, REQUESTS_MAX_OWNERS);
	assert_int_equal(entries(f, DB_REQUEST_OWNERS), REQUESTS_MAX_OWNERS);
	assert_int_equal(recall(f, 1, 1, 1000, "of all"), 0);
	forget_old(f, 1000 + DAY_MS);
	assert_int_equal(entries(f, DB_REQUEST_OWNERS), 0);
	assert_int_equal(entries(f, DB_REQUESTS), 0);
	free(owners);
}

/* What a table has first is taken out. */
static void take_out(struct fixture *f, enum db_table table)
{
	static const uint8_t first[1];
	struct bytes key, value;
	struct db_cursor cursor;
	struct db_txn txn;

	assert_int_equal(db_begin_write(f->db, &txn), 0);
	db_cursor_open(&txn, table, &cursor);
	assert_true(db_cursor_seek(&cursor, (struct bytes){first, 1}, &key, &value));
	db_cursor_delete(&cursor);
	db_cursor_close(&cursor);
	assert_int_equal(db_commit(&txn), 0);
}

static void test_damage_is_found(void **state)
{
	struct fixture *f = *state;
	struct requests_owner owner = owner_of(1, "a");

	remember(f, 1, 1000, "one", &owner, 1);
	assert_faults(f, 0);
	take_out(f, DB_REQUEST_OWNERS);
	assert_faults(f, 1);
	remember(f, 1, 1000, "one", &owner, 1);
	assert_faults(f, 0);
	take_out(f, DB_REQUEST_AGE);
	assert_faults(f, 1);
	take_out(f, DB_REQUESTS);
	assert_faults(f, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_recalled_for_a_day, init, deinit),
		cmocka_unit_test_setup_teardown(test_erased_with_an_owner, init, deinit),
		cmocka_unit_test_setup_teardown(test_as_many_owners_as_there_may_be, init, deinit),
		cmocka_unit_test_setup_teardown(test_damage_is_found, init, deinit),
	};

	return cmocka_run_group_tests_name("requests", tests, NULL, NULL);
}
