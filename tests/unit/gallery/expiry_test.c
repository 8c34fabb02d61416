/*
 * Expiry: encounters come up for erasure in the order of their time, whoever's
 * they are, and of a subject of whom nothing is left a mark stays for a while.
 */
#include "store.h"

static int init(void **state)
{
	struct test_store *s = malloc(sizeof(*s));

	test_store_init(s, 64 << 20);
	test_create_gallery(s, "g");
	*state = s;
	return 0;
}

static int deinit(void **state)
{
	test_store_deinit(*state);
	free(*state);
	return 0;
}

static void put(struct test_store *s, const char *subject, const char *encounter,
		int64_t expires_ms)
{
	uint64_t seed = (uint64_t)expires_ms;
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = "g",
					.subject = subject,
					.dim = STORE_DIM,
					.encounter = {.expires_ms = expires_ms}};
	struct gallery_outcome outcome;
	float v[STORE_DIM];

	test_vector(&seed, v, STORE_DIM);
	change.embedding = v;
	strcpy(change.encounter.id, encounter);
	assert_int_equal(test_apply(s, &change, &outcome), 0);
}

static int verify(struct test_store *s, const char *subject, int64_t now_ms)
{
	struct gallery_candidate best;
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	float v[STORE_DIM] = {1};
	uint64_t compared;
	int error;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	error = gallery_verify(snapshot, &info, subject, &any_reference, v, STORE_DIM, now_ms,
			       &best, &compared);
	gallery_snapshot_close(snapshot);
	return error;
}

static struct gallery_info facts(struct test_store *s)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	gallery_snapshot_close(snapshot);
	return info;
}

static bool has_expired(struct test_store *s, int64_t now_ms)
{
	struct gallery_snapshot *snapshot;
	bool any;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	any = gallery_has_expired(snapshot, now_ms);
	gallery_snapshot_close(snapshot);
	return any;
}

/* Erases the next one, "subject/encounter" in out. */
static int expire(struct test_store *s, int64_t now_ms, char out[256])
{
	struct gallery_expired next;
	struct gallery_outcome outcome;
	struct db_txn txn;
	int error;

	assert_int_equal(db_begin_write(s->db, &txn), 0);
	error = gallery_next_expired(s->store, &txn, now_ms, &next);
	if (!error) {
		struct gallery_change change = {.kind = GALLERY_EXPIRE,
						.gallery = next.gallery,
						.subject = next.subject,
						.now_ms = now_ms};

		snprintf(out, 256, "%s/%s", next.subject, next.encounter);
		strcpy(change.encounter.id, next.encounter);
		error = gallery_apply(s->store, &txn, &change, &outcome);
	}
	/* Marks that were dropped on the way stay dropped. */
	assert_int_equal(db_commit(&txn), 0);
	return error;
}

static void expect_expired(struct test_store *s, int64_t now_ms, const char *expected)
{
	char found[256];

	assert_true(has_expired(s, now_ms));
	assert_int_equal(expire(s, now_ms, found), 0);
	assert_string_equal(found, expected);
	test_check(s, 0);
}

static void expect_nothing(struct test_store *s, int64_t now_ms)
{
	char found[256];

	assert_false(has_expired(s, now_ms));
	assert_int_equal(expire(s, now_ms, found), BM_ENOREFERENCE);
}

static void test_in_order_of_time(void **state)
{
	struct test_store *s = *state;

	expect_nothing(s, INT64_MAX - 1);
	put(s, "ada", "late", 300);
	put(s, "ada", "early", 100);
	put(s, "bob", "middle", 200);
	put(s, "cy", "never", GALLERY_NEVER);
	put(s, "bob", "before 1970", -5);
	expect_nothing(s, -6);
	expect_expired(s, 250, "bob/before 1970");
	expect_expired(s, 250, "ada/early");
	expect_expired(s, 250, "bob/middle");
	expect_nothing(s, 250);
	assert_int_equal(facts(s).encounters, 2);
	expect_expired(s, 300, "ada/late");
	expect_nothing(s, 300);
	assert_int_equal(facts(s).subjects, 1);
}

/* From the segments as from the tail. */
static void test_from_segments(void **state)
{
	struct test_store *s = *state;
	char name[32], found[256];

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "subject-%d", i);
		put(s, name, "e", 1000 + i);
	}
	test_maintain(s);
	assert_true(facts(s).segments > 0);
	for (int i = 0; i < 150; i++)
		assert_int_equal(expire(s, 5000, found), 0);
	test_maintain(s);
	test_check(s, 0);
	assert_int_equal(facts(s).encounters, 50);
	assert_int_equal(verify(s, "subject-149", 1100), BM_EEXPIRED);
	assert_int_equal(verify(s, "subject-150", 1100), 0);
}

/* Whose references have expired is told so, before and after they are erased; who was never there
 * is not. */
static void test_expired_is_not_absent(void **state)
{
	struct test_store *s = *state;
	struct gallery_subject held;
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	struct arena arena;

	put(s, "ada", "e", 100);
	assert_int_equal(verify(s, "ada", 99), 0);
	assert_int_equal(verify(s, "ada", 100), BM_EEXPIRED);
	expect_expired(s, 100, "ada/e");
	assert_int_equal(verify(s, "ada", 100), BM_EEXPIRED);
	assert_int_equal(verify(s, "bob", 100), BM_ENOREFERENCE);
	arena_init(&arena, 4096);
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	assert_int_equal(gallery_subject(snapshot, &info, "ada", &arena, &held), BM_ENOREFERENCE);
	gallery_snapshot_close(snapshot);
	arena_deinit(&arena);
	expect_nothing(s, 100 + GALLERY_MARK_MS - 1);
	assert_true(has_expired(s, 100 + GALLERY_MARK_MS));
	expect_nothing(s, 100 + GALLERY_MARK_MS - 1);
}

static void test_mark_goes(void **state)
{
	struct test_store *s = *state;
	char found[256];

	put(s, "ada", "e", 100);
	expect_expired(s, 100, "ada/e");
	assert_int_equal(expire(s, 100 + GALLERY_MARK_MS, found), BM_ENOREFERENCE);
	expect_nothing(s, 100 + GALLERY_MARK_MS);
	assert_int_equal(verify(s, "ada", 100), BM_ENOREFERENCE);
	test_check(s, 0);
}

/* Who comes back is a subject like any other, and its new encounter is safe from the old mark. */
static void test_mark_gives_way(void **state)
{
	struct test_store *s = *state;

	put(s, "ada", "e", 100);
	expect_expired(s, 100, "ada/e");
	put(s, "ada", "again", GALLERY_NEVER);
	assert_int_equal(facts(s).subjects, 1);
	expect_nothing(s, 100 + GALLERY_MARK_MS);
	assert_int_equal(verify(s, "ada", 100 + GALLERY_MARK_MS), 0);
	test_check(s, 0);
}

/* A gallery may go before the marks in it. */
static void test_marks_outlive_their_gallery(void **state)
{
	struct test_store *s = *state;
	struct gallery_change drop = {.kind = GALLERY_DROP, .gallery = "g"};
	struct gallery_outcome outcome;
	char found[256];

	put(s, "ada", "e", 100);
	expect_expired(s, 100, "ada/e");
	assert_int_equal(test_apply(s, &drop, &outcome), 0);
	assert_int_equal(expire(s, 100 + GALLERY_MARK_MS, found), BM_ENOREFERENCE);
	expect_nothing(s, INT64_MAX - 1);
	test_check(s, 0);
}

static void test_not_before_its_time(void **state)
{
	struct test_store *s = *state;
	struct gallery_change change = {.kind = GALLERY_EXPIRE,
					.gallery = "g",
					.subject = "ada",
					.encounter = {.id = "e"},
					.now_ms = 99};
	struct gallery_outcome outcome;

	put(s, "ada", "e", 100);
	assert_int_equal(test_apply(s, &change, &outcome), BM_EINVAL);
	change.encounter.id[0] = 'x';
	assert_int_equal(test_apply(s, &change, &outcome), BM_ENOENCOUNTER);
	change.subject = "bob";
	assert_int_equal(test_apply(s, &change, &outcome), BM_ENOREFERENCE);
	assert_int_equal(facts(s).encounters, 1);
}

/* What is deleted leaves no place behind. */
static void test_deletion_takes_the_place(void **state)
{
	struct test_store *s = *state;
	struct gallery_change change = {.kind = GALLERY_DELETE_ENCOUNTER,
					.gallery = "g",
					.subject = "ada",
					.encounter = {.id = "b"}};
	struct gallery_outcome outcome;

	put(s, "ada", "a", 100);
	put(s, "ada", "b", 100);
	put(s, "ada", "c", 100);
	assert_int_equal(test_apply(s, &change, &outcome), 0);
	test_check(s, 0);
	change.kind = GALLERY_DELETE_SUBJECT;
	assert_int_equal(test_apply(s, &change, &outcome), 0);
	test_check(s, 0);
	expect_nothing(s, INT64_MAX - 1);
	assert_int_equal(verify(s, "ada", 0), BM_ENOREFERENCE);
}

/* Removes the whole order, and makes the store one of this version. */
static void lose_order(struct test_store *s, uint8_t version)
{
	static const struct bytes name = {(const uint8_t *)"store", 5};
	struct bytes first = {(const uint8_t *)"", 1}, found, value;
	struct db_cursor cursor;
	uint8_t record[64];
	struct db_txn txn;
	uint64_t sum;

	assert_int_equal(db_begin_write(s->db, &txn), 0);
	db_cursor_open(&txn, DB_EXPIRY, &cursor);
	while (db_cursor_seek(&cursor, first, &found, &value))
		db_cursor_delete(&cursor);
	db_cursor_close(&cursor);
	assert_true(db_get(&txn, DB_META, name, &value));
	memcpy(record, value.data, value.len);
	record[8] = version;
	sum = bytes_checksum(record + 8, value.len - 8);
	memcpy(record, &sum, 8);
	db_put(&txn, DB_META, name, (struct bytes){record, value.len});
	assert_int_equal(db_commit(&txn), 0);
}

static void test_damage_is_found(void **state)
{
	struct test_store *s = *state;

	put(s, "ada", "a", 100);
	put(s, "ada", "b", 200);
	lose_order(s, 3);
	/* Two that are in no place, and one sum that does not agree. */
	test_check(s, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, init, deinit)
	const struct CMUnitTest tests[] = {
		TEST(test_in_order_of_time),      TEST(test_from_segments),
		TEST(test_expired_is_not_absent), TEST(test_mark_goes),
		TEST(test_mark_gives_way),        TEST(test_marks_outlive_their_gallery),
		TEST(test_not_before_its_time),   TEST(test_deletion_takes_the_place),
		TEST(test_damage_is_found),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("expiry", tests, NULL, NULL);
}
