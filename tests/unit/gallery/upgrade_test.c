/*
 * Stores of every version before this one: read as they are by whoever only reads, brought up by
 * whoever opens them to write, and refused by older software from then on.
 */
#include "store.h"

#include "../../../src/gallery/record.h"

#define MAP      (64 << 20)
#define SUBJECTS 90 /* a segment and a tail */

static const struct bytes store_key = {(const uint8_t *)"store", 5};
static const struct bytes log_key = {(const uint8_t *)"changes", 7};

static void subject_of(unsigned n, char name[16], float v[STORE_DIM])
{
	uint64_t seed = n + 1;

	snprintf(name, 16, "subject-%u", n);
	test_vector(&seed, v, STORE_DIM);
}

/* Every third subject expires. */
static void put(struct test_store *s, unsigned n)
{
	struct gallery_outcome outcome;
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = "g",
					.dim = STORE_DIM,
					.encounter = {.id = "e", .expires_ms = GALLERY_NEVER}};
	float v[STORE_DIM];
	char name[16];

	subject_of(n, name, v);
	change.subject = name;
	change.embedding = v;
	if (n % 3 == 0)
		change.encounter.expires_ms = 1000 + n;
	assert_int_equal(test_apply(s, &change, &outcome), 0);
}

static void clear(struct db_txn *txn, enum db_table table)
{
	static const uint8_t first[1];
	struct bytes key, value;
	struct db_cursor cursor;

	db_cursor_open(txn, table, &cursor);
	while (db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &key, &value))
		db_cursor_delete(&cursor);
	db_cursor_close(&cursor);
}

static uint32_t version_of(struct test_store *s)
{
	struct store_record record;
	struct bytes value;
	struct db_txn txn;

	assert_int_equal(db_begin_read(s->db, &txn), 0);
	assert_true(db_get(&txn, DB_META, store_key, &value));
	memcpy(&record, value.data, sizeof(record));
	db_abort(&txn);
	return record.version;
}

/* Takes away what came later, as nothing that older software wrote has it. */
static void make_older(struct test_store *s, uint32_t version)
{
	struct store_record record;
	struct bytes value;
	struct db_txn txn;

	assert_int_equal(db_begin_write(s->db, &txn), 0);
	if (version < 3)
		clear(&txn, DB_EXPIRY);
	if (version < 2) {
		clear(&txn, DB_CHANGES);
		clear(&txn, DB_CHANGE_OWNERS);
		db_delete(&txn, DB_META, log_key);
	}
	assert_true(db_get(&txn, DB_META, store_key, &value));
	memcpy(&record, value.data, sizeof(record));
	record.version = version;
	record.sum = bytes_checksum((const uint8_t *)&record + 8, sizeof(record) - 8);
	db_put(&txn, DB_META, store_key, (struct bytes){(const uint8_t *)&record, sizeof(record)});
	assert_int_equal(db_commit(&txn), 0);
}

static void assert_all_there(struct test_store *s, unsigned n)
{
	struct gallery_candidate best;
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	uint64_t compared;
	float v[STORE_DIM];
	char name[16];

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	assert_int_equal(info.subjects, n);
	for (unsigned i = 0; i < n; i++) {
		subject_of(i, name, v);
		assert_int_equal(gallery_verify(snapshot, &info, name, &any_reference, v, STORE_DIM,
						0, &best, &compared),
				 0);
		assert_true(best.score > 0.999f);
	}
	gallery_snapshot_close(snapshot);
	test_check(s, 0);
}

static void open_to_read(struct test_store *s)
{
	char path[128], message[256] = "";

	test_store_path(s, "store", path);
	assert_int_equal(db_open_reader(path, MAP, &s->db, message), 0);
	assert_int_equal(gallery_store_open(s->db, s->keys, &s->pack, &s->store), 0);
}

static unsigned expired(struct test_store *s)
{
	struct gallery_expired next;
	struct gallery_outcome outcome;
	struct db_txn txn;
	unsigned n = 0;
	int error;

	for (;; n++) {
		struct gallery_change change = {.kind = GALLERY_EXPIRE,
						.gallery = "g",
						.subject = next.subject,
						.now_ms = 2000};

		assert_int_equal(db_begin_write(s->db, &txn), 0);
		error = gallery_next_expired(s->store, &txn, 2000, &next);
		db_abort(&txn);
		if (error == BM_ENOREFERENCE)
			return n;
		assert_int_equal(error, 0);
		strcpy(change.encounter.id, next.encounter);
		assert_int_equal(test_apply(s, &change, &outcome), 0);
	}
}

static void upgrade(uint32_t version)
{
	struct changes_place before = {0}, after;
	struct test_store s;
	struct db_txn txn;

	test_store_init(&s, MAP);
	test_create_gallery(&s, "g");
	for (unsigned i = 0; i < SUBJECTS; i++)
		put(&s, i);
	test_maintain(&s);
	if (version > 1) {
		assert_int_equal(db_begin_read(s.db, &txn), 0);
		assert_int_equal(changes_head(&txn, &before), 0);
		db_abort(&txn);
	}
	make_older(&s, version);
	test_store_close(&s);

	open_to_read(&s);
	assert_all_there(&s, SUBJECTS);
	assert_int_equal(version_of(&s), version);
	test_store_close(&s);

	test_store_open(&s, MAP);
	assert_int_equal(version_of(&s), STORE_VERSION);
	assert_all_there(&s, SUBJECTS);
	put(&s, SUBJECTS);
	assert_all_there(&s, SUBJECTS + 1);
	/* The log goes on where it was. */
	assert_int_equal(db_begin_read(s.db, &txn), 0);
	assert_int_equal(changes_head(&txn, &after), 0);
	db_abort(&txn);
	assert_int_equal(after.sequence, before.sequence + 1);
	assert_int_equal(expired(&s), SUBJECTS / 3 + 1);
	test_check(&s, 0);
	test_store_deinit(&s);
}

static void test_every_version(void **state)
{
	(void)state;
	for (uint32_t version = STORE_VERSION_OLD; version <= STORE_VERSION; version++)
		upgrade(version);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_version)};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("upgrade", tests, NULL, NULL);
}
