#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "biomatch/db.h"
#include "biomatch/file.h"
#include "biomatch/log.h"

#define ENTRIES 400
#define ROUNDS  12
#define MARK    24

static char dir[64];

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	strcpy(dir, "/dev/shm/biomatch-scrub-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

/* An entry's life: its value is its mark again and again, another mark each time. */
struct entry {
	unsigned version; /* 0: not there */
	size_t len;
};

static struct entry entries[ENTRIES], before[ENTRIES]; /* now, and when last scrubbed */

static void make_mark(unsigned n, unsigned version, char out[MARK + 1])
{
	snprintf(out, MARK + 1, "<entry %06u of %06u>", n % 1000000, version % 1000000);
}

static struct bytes key_of(unsigned n, char out[16])
{
	snprintf(out, 16, "key-%u", n);
	return (struct bytes){(const uint8_t *)out, strlen(out)};
}

static void put(struct db_txn *txn, unsigned n, unsigned version, size_t len)
{
	char mark[MARK + 1], key[16];
	uint8_t *value = db_reserve(txn, DB_SUBJECTS, key_of(n, key), len);

	assert_non_null(value);
	make_mark(n, version, mark);
	for (size_t at = 0; at < len; at++)
		value[at] = (uint8_t)mark[at % strlen(mark)];
	entries[n] = (struct entry){version, len};
}

/* Lengths of all sorts: in leaves, in one page of their own, in runs of pages. */
static void change_one(struct db_txn *txn, unsigned version, unsigned *seed)
{
	static const size_t lengths[] = {72, 312, 1512, 2112, 3000, 4056, 4080, 4104, 9000, 72000};
	unsigned n = (unsigned)rand_r(seed) % ENTRIES;
	char key[16];

	if (entries[n].version && rand_r(seed) % 2) {
		assert_true(db_delete(txn, DB_SUBJECTS, key_of(n, key)));
		entries[n].version = 0;
	} else {
		put(txn, n, version, lengths[(unsigned)rand_r(seed) % 10]);
	}
}

/* In a group of nested transactions, of which a later one undoes what an earlier one wrote. */
static void churn(struct db *db, unsigned round, unsigned *seed)
{
	struct db_txn group, txn;

	assert_int_equal(db_begin_write(db, &group), 0);
	for (unsigned i = 0; i < ENTRIES / 4; i++) {
		if (i % 20 == 0)
			assert_int_equal(db_begin_nested(&group, &txn), 0);
		change_one(&txn, round * ENTRIES + i + 1, seed);
		if (i % 20 == 19)
			assert_int_equal(db_commit(&txn), 0);
	}
	assert_int_equal(db_commit(&group), 0);
}

/* Six digits of a mark; scanf takes minutes for all of them. */
static unsigned number_at(const uint8_t *digits)
{
	unsigned number = 0;

	for (size_t i = 0; i < 6; i++)
		number = number * 10 + (unsigned)(digits[i] - '0');
	return number;
}

/*
 * Counts the marks in the file that no entry has any more; *live is the number of others.
 * *back counts those that had been erased before the last scrub.
 */
static unsigned count_remains(unsigned fresh, unsigned *live, unsigned *back)
{
	uint8_t *data, *at;
	unsigned stale = 0, n, version;
	char path[96];
	size_t len;

	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	assert_int_equal(file_read(path, 256 << 20, &data, &len), 0);
	*live = *back = 0;
	for (at = data; (at = memmem(at, len - (size_t)(at - data), "<entry ", 7)); at++) {
		if ((size_t)(at - data) + MARK > len)
			break;
		n = number_at(at + 7);
		version = number_at(at + 17);
		if (n < ENTRIES && entries[n].version == version) {
			++*live;
			continue;
		}
		stale++;
		*back += before[n % ENTRIES].version != version && version < fresh;
	}
	free(data);
	return stale;
}

static void check_entries(struct db *db)
{
	struct db_txn txn;

	assert_int_equal(db_begin_read(db, &txn), 0);
	for (unsigned n = 0; n < ENTRIES; n++) {
		char mark[MARK + 1], key[16];
		struct bytes value;
		bool found = db_get(&txn, DB_SUBJECTS, key_of(n, key), &value);

		assert_int_equal(found, entries[n].version != 0);
		if (!found)
			continue;
		make_mark(n, entries[n].version, mark);
		assert_int_equal(value.len, entries[n].len);
		for (size_t at = 0; at < value.len; at++)
			assert_int_equal(value.data[at], mark[at % strlen(mark)]);
	}
	db_abort(&txn);
}

static struct db *open_db(void)
{
	char message[256] = "";
	struct db *db;

	memset(entries, 0, sizeof(entries));
	if (db_open(dir, 256 << 20, 16, &db, message))
		fail_msg("%s", message);
	return db;
}

static void scrub_all(struct db *db)
{
	bool more = true;

	db_want_scrub(db);
	while (more)
		assert_int_equal(db_scrub(db, &more), 0);
}

static void test_nothing_deleted_remains(void **state)
{
	struct db *db = open_db();
	unsigned seed = 1, live, back, left = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		churn(db, round, &seed);
		left += count_remains(round * ENTRIES, &live, &back);
		/* Neither free pages nor the buffers that LMDB keeps bring back what was gone. */
		if (round && back)
			fail_msg("round %u: %u marks came back", round, back);
		scrub_all(db);
		assert_false(db_wants_scrub(db));
		check_entries(db);
		if (count_remains(0, &live, &back))
			fail_msg("round %u: %u marks of deleted entries", round,
				 count_remains(0, &live, &back));
		assert_true(live > 0);
		memcpy(before, entries, sizeof(before));
	}
	/* Without it there would be: the test sees what it is there to see. */
	assert_true(left > 1000);
	db_close(db);
}

static void test_readers_keep_what_they_see(void **state)
{
	struct db *db = open_db();
	struct bytes value;
	struct db_txn reader, txn;
	unsigned live, back;
	char key[16];

	(void)state;
	assert_int_equal(db_begin_write(db, &txn), 0);
	put(&txn, 1, 7, 3000);
	put(&txn, 2, 8, 100);
	assert_int_equal(db_commit(&txn), 0);
	assert_int_equal(db_begin_read(db, &reader), 0);
	assert_true(db_get(&reader, DB_SUBJECTS, key_of(1, key), &value));
	assert_int_equal(db_begin_write(db, &txn), 0);
	assert_true(db_delete(&txn, DB_SUBJECTS, key_of(1, key)));
	assert_int_equal(db_commit(&txn), 0);
	entries[1].version = 0;

	scrub_all(db);
	assert_true(db_wants_scrub(db));
	assert_memory_equal(value.data, "<entry 000001 of 000007>", MARK);
	db_abort(&reader);
	assert_true(count_remains(0, &live, &back) > 0);
	scrub_all(db);
	assert_false(db_wants_scrub(db));
	assert_int_equal(count_remains(0, &live, &back), 0);
	check_entries(db);
	db_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_deleted_remains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readers_keep_what_they_see, setup, teardown),
	};

	return cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
}
