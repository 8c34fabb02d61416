#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "biomatch/db.h"
#include "biomatch/file.h"
#include "biomatch/log.h"
#include "fault.h"

static char dir[64];

static struct bytes text(const char *s)
{
	return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static struct db *open_db(uint64_t map_size)
{
	char message[256] = "";
	struct db *db;

	if (db_open(dir, map_size, 16, &db, message))
		fail_msg("%s", message);
	return db;
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	strcpy(dir, "/tmp/biomatch-db-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static void test_directory_refused(void **state)
{
	char message[256] = "";
	struct db *db;

	(void)state;
	assert_int_equal(db_open("/nonexistent/store", 1 << 20, 16, &db, message), BM_EIO);
	assert_non_null(strstr(message, "/nonexistent/store: No such file or directory; create"));
	assert_int_equal(db_open("/dev/null", 1 << 20, 16, &db, message), BM_EIO);
	assert_non_null(strstr(message, "/dev/null: Not a directory"));
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(db_open(dir, 1 << 20, 16, &db, message), BM_EIO);
	assert_non_null(strstr(message, "writable by nobody but its owner"));
	if (geteuid()) /* only root can give a directory away */
		return;
	assert_int_equal(chmod(dir, 0755), 0);
	assert_int_equal(chown(dir, 12345, 0), 0);
	assert_int_equal(db_open(dir, 1 << 20, 16, &db, message), BM_EIO);
	assert_non_null(strstr(message, "belongs to user 12345 and must belong to user 0"));
}

static void test_second_daemon_refused(void **state)
{
	char message[256] = "";
	struct db *db = open_db(1 << 20), *second;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(db_open(dir, 1 << 20, 16, &second, message), BM_ELOCKED);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(db_open(dir, 1 << 20, 16, &second, message) == BM_ELOCKED ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	db_close(db);
	db = open_db(1 << 20);
	db_close(db);
}

static void test_transactions(void **state)
{
	struct db *db = open_db(1 << 20);
	struct db_txn txn, nested;
	struct bytes value;

	(void)state;
	assert_int_equal(db_begin_write(db, &txn), 0);
	db_put(&txn, DB_META, text("a"), text("1"));
	assert_int_equal(db_begin_nested(&txn, &nested), 0);
	db_put(&nested, DB_META, text("b"), text("2"));
	db_abort(&nested);
	assert_int_equal(db_begin_nested(&txn, &nested), 0);
	db_put(&nested, DB_META, text("c"), text("3"));
	assert_int_equal(db_commit(&nested), 0);
	assert_int_equal(db_commit(&txn), 0);

	assert_int_equal(db_begin_read(db, &txn), 0);
	assert_true(db_get(&txn, DB_META, text("a"), &value));
	assert_memory_equal(value.data, "1", 1);
	assert_false(db_get(&txn, DB_META, text("b"), &value));
	assert_true(db_get(&txn, DB_META, text("c"), &value));
	assert_int_equal(txn.error, 0);
	db_abort(&txn);
	db_close(db);
}

static void test_cursor(void **state)
{
	struct db *db = open_db(1 << 20);
	struct bytes key, value;
	struct db_cursor cursor;
	struct db_txn txn;

	(void)state;
	assert_int_equal(db_begin_write(db, &txn), 0);
	db_put(&txn, DB_TAIL, text("b"), text("2"));
	db_put(&txn, DB_TAIL, text("d"), text("4"));
	db_cursor_open(&txn, DB_TAIL, &cursor);
	assert_true(db_cursor_seek(&cursor, text("c"), &key, &value));
	assert_memory_equal(key.data, "d", 1);
	assert_false(db_cursor_next(&cursor, &key, &value));
	assert_true(db_cursor_last(&cursor, &key, &value));
	db_cursor_delete(&cursor);
	assert_true(db_cursor_last(&cursor, &key, &value));
	assert_memory_equal(key.data, "b", 1);
	db_cursor_close(&cursor);
	assert_true(db_delete(&txn, DB_TAIL, text("b")));
	assert_false(db_delete(&txn, DB_TAIL, text("b")));
	assert_int_equal(db_commit(&txn), 0);
	db_close(db);
}

static void commit_one(struct db *db, const char *value)
{
	struct db_txn txn;

	assert_int_equal(db_begin_write(db, &txn), 0);
	db_put(&txn, DB_META, text("key"), text(value));
	assert_int_equal(db_commit(&txn), 0);
}

static void test_stat(void **state)
{
	struct db *db = open_db(1 << 20);
	struct db_txn old, young;
	struct db_stat stat;

	(void)state;
	assert_int_equal(db_stat(db, &stat), 0);
	assert_int_equal(stat.map_bytes, 1 << 20);
	assert_in_range(stat.used_bytes, 4096, 1 << 20);
	assert_int_equal(stat.readers, 0);
	assert_int_equal(stat.oldest_reader, 0);
	assert_int_equal(db_begin_read(db, &old), 0);
	commit_one(db, "1");
	commit_one(db, "2");
	assert_int_equal(db_begin_read(db, &young), 0);
	assert_int_equal(db_stat(db, &stat), 0);
	assert_int_equal(stat.readers, 2);
	assert_int_equal(stat.oldest_reader, 2);
	db_abort(&old);
	assert_int_equal(db_stat(db, &stat), 0);
	assert_int_equal(stat.readers, 1);
	assert_int_equal(stat.oldest_reader, 0);
	db_abort(&young);
	db_close(db);
}

/* The first failure sticks, later calls do nothing, and nothing of it is kept. */
static void test_map_full(void **state)
{
	struct db *db = open_db(256 << 10);
	struct bytes value;
	struct db_txn txn;
	char key[16];

	(void)state;
	assert_int_equal(db_begin_write(db, &txn), 0);
	db_put(&txn, DB_META, text("first"), text("1"));
	assert_int_equal(db_commit(&txn), 0);

	assert_int_equal(db_begin_write(db, &txn), 0);
	for (int i = 0; !txn.error && i < 1000; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		if (db_reserve(&txn, DB_SEGMENTS, text(key), 4096))
			assert_int_equal(txn.error, 0);
	}
	assert_int_equal(txn.error, BM_EMAPFULL);
	db_put(&txn, DB_META, text("later"), text("2"));
	assert_int_equal(db_commit(&txn), BM_EMAPFULL);
	assert_false(db_is_read_only(db));

	assert_int_equal(db_begin_write(db, &txn), 0);
	assert_false(db_get(&txn, DB_META, text("later"), &value));
	assert_false(db_get(&txn, DB_SEGMENTS, text("k0"), &value));
	assert_true(db_get(&txn, DB_META, text("first"), &value));
	db_put(&txn, DB_META, text("after"), text("3"));
	assert_int_equal(db_commit(&txn), 0);
	db_close(db);
}

struct grower {
	struct db *db;
	atomic_bool grown;
};

static void *grow_map(void *arg)
{
	struct grower *grower = arg;
	int error = db_grow(grower->db, 16 << 20);

	atomic_store(&grower->grown, true);
	return error ? grower : NULL;
}

/* The map moves only between transactions: what a reader borrowed stays where it is. */
static void test_map_grows(void **state)
{
	struct grower grower = {.db = open_db(256 << 10)};
	struct db_txn reader, txn;
	struct bytes value;
	pthread_t thread;
	void *failed;

	(void)state;
	assert_int_equal(db_begin_write(grower.db, &txn), 0);
	db_put(&txn, DB_META, text("key"), text("value"));
	assert_int_equal(db_commit(&txn), 0);
	assert_int_equal(db_begin_read(grower.db, &reader), 0);
	assert_true(db_get(&reader, DB_META, text("key"), &value));
	assert_int_equal(db_grow(grower.db, 16 << 20), BM_EBUSY);
	assert_int_equal(pthread_create(&thread, NULL, grow_map, &grower), 0);
	assert_false(atomic_load(&grower.grown));
	assert_memory_equal(value.data, "value", 5);
	db_abort(&reader);
	pthread_join(thread, &failed);
	assert_null(failed);

	assert_int_equal(db_begin_write(grower.db, &txn), 0);
	assert_non_null(db_reserve(&txn, DB_SEGMENTS, text("large"), 8 << 20));
	assert_int_equal(db_commit(&txn), 0);
	db_close(grower.db);
}

/* A commit whose write fails leaves the store readable and nothing more. */
static void test_failed_commit_is_final(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	db_close(open_db(64 << 20));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct db *db = open_db(64 << 20);
		struct bytes value;
		struct db_txn txn;
		int ok;

		if (db_begin_write(db, &txn))
			_exit(2);
		db_put(&txn, DB_META, text("kept"), text("1"));
		if (db_commit(&txn) || db_begin_write(db, &txn))
			_exit(3);
		if (!db_reserve(&txn, DB_SEGMENTS, text("large"), 8 << 20))
			_exit(4);
		ok = fault_lose_data_file() && db_commit(&txn) == BM_EIO && db_is_read_only(db) &&
		     db_begin_write(db, &txn) == BM_EREADONLY && !db_begin_read(db, &txn) &&
		     db_get(&txn, DB_META, text("kept"), &value) &&
		     !db_get(&txn, DB_SEGMENTS, text("large"), &value);
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_directory_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_second_daemon_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transactions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cursor, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stat, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_grows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_commit_is_final, setup, teardown),
	};

	return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
