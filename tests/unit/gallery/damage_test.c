/*
 * What must never become a NO_MATCH: damaged records, other models, other
 * versions; and what must be gone once it is deleted.
 */
#include "store.h"

#include <math.h>

#include "../../../src/gallery/store.h"

#define SUBJECTS 64

static const char gallery_name[] = "g";

/* Subject i has one encounter; its template and vector follow from i. */
static void subject_of(int i, char name[16], float v[STORE_DIM])
{
	uint64_t state = (uint64_t)i + 1;

	snprintf(name, 16, "subject-%d", i);
	test_vector(&state, v, STORE_DIM);
}

static void put(struct test_store *s, int i)
{
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = gallery_name,
					.dim = STORE_DIM,
					.encounter = {.id = "e", .expires_ms = GALLERY_NEVER}};
	struct gallery_outcome outcome;
	float v[STORE_DIM];
	char name[16];

	subject_of(i, name, v);
	change.subject = name;
	change.embedding = v;
	assert_int_equal(test_apply(s, &change, &outcome), 0);
}

static void delete_subject(struct test_store *s, int i)
{
	struct gallery_change change = {.kind = GALLERY_DELETE_SUBJECT, .gallery = gallery_name};
	struct gallery_outcome outcome;
	float v[STORE_DIM];
	char name[16];

	subject_of(i, name, v);
	change.subject = name;
	assert_int_equal(test_apply(s, &change, &outcome), 0);
}

/* Rows 1..64 in a segment, row 65 in the tail. */
static int init(void **state)
{
	struct test_store *s = malloc(sizeof(*s));

	test_store_init(s, 64 << 20);
	test_create_gallery(s, gallery_name);
	for (int i = 0; i < SUBJECTS; i++)
		put(s, i);
	test_maintain(s);
	put(s, SUBJECTS);
	test_check(s, 0);
	*state = s;
	return 0;
}

static int deinit(void **state)
{
	test_store_deinit(*state);
	free(*state);
	return 0;
}

static int verify(struct test_store *s, int i)
{
	struct gallery_candidate best;
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	uint64_t compared;
	float v[STORE_DIM];
	char name[16];
	int error;

	subject_of(i, name, v);
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, gallery_name, &info), 0);
	error = gallery_verify(snapshot, &info, name, &any_reference, v, STORE_DIM, 0, &best,
			       &compared);
	gallery_snapshot_close(snapshot);
	return error;
}

static int identify_with(struct gallery_snapshot *snapshot, int i, bool (*stop)(void *ctx),
			 size_t *n)
{
	struct gallery_search search = {
		.dim = STORE_DIM, .threshold = 0.9f, .max_candidates = 4, .stop = stop};
	struct gallery_search *searches = &search;
	struct gallery_info info;
	struct arena arena;
	float v[STORE_DIM];
	char name[16];

	arena_init(&arena, 1 << 20);
	subject_of(i, name, v);
	search.probe = v;
	search.arena = &arena;
	assert_int_equal(gallery_find(snapshot, gallery_name, &info), 0);
	gallery_identify(snapshot, &info, &searches, 1, NULL);
	if (!search.error && search.result.n)
		assert_string_equal(search.result.candidates[0].subject, name);
	*n = search.result.n;
	arena_deinit(&arena);
	return search.error;
}

static int identify(struct test_store *s, int i, size_t *n)
{
	struct gallery_snapshot *snapshot;
	int error;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	error = identify_with(snapshot, i, NULL, n);
	gallery_snapshot_close(snapshot);
	return error;
}

/* Changes one bit of a stored value. */
static void damage(struct test_store *s, enum db_table table, struct record_key key, size_t at)
{
	struct bytes value;
	struct db_txn txn;
	uint8_t *copy;

	assert_int_equal(db_begin_write(s->db, &txn), 0);
	assert_true(db_get(&txn, table, key_bytes(&key), &value));
	assert_true(at < value.len);
	copy = malloc(value.len);
	assert_non_null(copy);
	memcpy(copy, value.data, value.len);
	copy[at] ^= 1;
	db_put(&txn, table, key_bytes(&key), (struct bytes){copy, value.len});
	assert_int_equal(db_commit(&txn), 0);
	free(copy);
}

static struct record_key plane(enum plane which)
{
	return plane_key(1, SUBJECTS, which, 0);
}

static uint64_t count_faults(struct test_store *s)
{
	struct gallery_snapshot *snapshot;
	uint64_t faults;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_check(snapshot, test_report, NULL, &faults), 0);
	gallery_snapshot_close(snapshot);
	return faults;
}

static void test_damaged_template(void **state)
{
	struct test_store *s = *state;
	size_t row = 5, n;

	/* The lowest bit of a number's fraction: no score tells. */
	damage(s, DB_SEGMENTS, plane(PLANE_F32), VECTOR_OFFSET + row * STORE_DIM * sizeof(float));
	assert_int_equal(verify(s, (int)row), BM_ECORRUPT);
	assert_int_equal(identify(s, (int)row, &n), BM_ECORRUPT);
	assert_int_equal(verify(s, 6), 0);
	assert_int_equal(identify(s, 6, &n), 0);
	assert_int_equal(n, 1);
	assert_true(count_faults(s) >= 1);

	damage(s, DB_TAIL, row_key(1, SUBJECTS + 1), VECTOR_OFFSET);
	assert_int_equal(verify(s, SUBJECTS), BM_ECORRUPT);
	assert_int_equal(identify(s, SUBJECTS, &n), BM_ECORRUPT);
	assert_true(count_faults(s) >= 2);
}

/* An encounter that seems to have expired must not be left out as if it had. */
static void test_damaged_facts(void **state)
{
	struct test_store *s = *state;
	size_t expires = offsetof(struct row_facts, expires_ms) + 7, row = 5, n;

	damage(s, DB_SEGMENTS, plane(PLANE_FACTS), row * sizeof(struct row_facts) + expires);
	assert_int_equal(verify(s, (int)row), BM_ECORRUPT);
	assert_int_equal(identify(s, (int)row, &n), BM_ECORRUPT);
	assert_int_equal(count_faults(s), 1);
	damage(s, DB_TAIL, row_key(1, SUBJECTS + 1),
	       VECTOR_OFFSET + STORE_DIM * sizeof(float) + expires);
	assert_int_equal(identify(s, SUBJECTS, &n), BM_ECORRUPT);
	assert_int_equal(count_faults(s), 2);
}

static void test_damaged_segment(void **state)
{
	struct test_store *s = *state;
	size_t n;

	damage(s, DB_SEGMENTS, plane(PLANE_CODES), VECTOR_OFFSET);
	assert_int_equal(count_faults(s), 1);
	damage(s, DB_SEGMENTS, plane(PLANE_CODES), VECTOR_OFFSET);
	assert_int_equal(count_faults(s), 0);
	/* A live bit that fell over would hide a face. */
	damage(s, DB_SEGMENTS, plane(PLANE_HEAD), sizeof(struct segment_head));
	assert_int_equal(verify(s, 5), BM_ECORRUPT);
	assert_int_equal(identify(s, 5, &n), BM_ECORRUPT);
	assert_true(count_faults(s) >= SUBJECTS);
	/* The check goes on behind the damage, into the next gallery. */
	test_create_gallery(s, "h");
	assert_true(count_faults(s) >= SUBJECTS);
}

static void test_damaged_subject(void **state)
{
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN], other[KEYS_PSEUDONYM_LEN];
	struct test_store *s = *state;
	struct record_key to, from;
	struct bytes value;
	struct db_txn txn;
	size_t n;

	assert_int_equal(subject_pseudonym(s->store, 1, "subject-5", pseudonym), 0);
	assert_int_equal(subject_pseudonym(s->store, 1, "subject-6", other), 0);
	to = subject_key(1, pseudonym);
	from = subject_key(1, other);

	/* A whole record in the wrong place: the row says whose it is. */
	assert_int_equal(db_begin_write(s->db, &txn), 0);
	assert_true(db_get(&txn, DB_SUBJECTS, key_bytes(&from), &value));
	db_put(&txn, DB_SUBJECTS, key_bytes(&to), value);
	assert_int_equal(db_commit(&txn), 0);
	assert_int_equal(verify(s, 5), BM_ECORRUPT);
	assert_int_equal(identify(s, 5, &n), BM_ECORRUPT);
	assert_int_equal(count_faults(s), 1);

	damage(s, DB_SUBJECTS, to, 20);
	assert_int_equal(verify(s, 5), BM_ECORRUPT);
}

/* The bytes of a value or key anywhere in the tables of a gallery. */
static bool is_stored(struct test_store *s, const void *bytes, size_t len)
{
	static const enum db_table tables[] = {DB_SUBJECTS, DB_TAIL, DB_SEGMENTS};
	struct bytes key, value, first = {(const uint8_t *)"", 1};
	struct db_cursor cursor;
	struct db_txn txn;
	bool found = false;

	assert_int_equal(db_begin_read(s->db, &txn), 0);
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
		bool more;

		db_cursor_open(&txn, tables[t], &cursor);
		for (more = db_cursor_seek(&cursor, first, &key, &value); more;
		     more = db_cursor_next(&cursor, &key, &value))
			found |= memmem(key.data, key.len, bytes, len) ||
				 memmem(value.data, value.len, bytes, len);
		db_cursor_close(&cursor);
	}
	assert_int_equal(txn.error, 0);
	db_abort(&txn);
	return found;
}

static void test_deleted_is_gone(void **state)
{
	static const int gone[] = {5, 63, SUBJECTS};
	struct test_store *s = *state;

	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		float v[STORE_DIM], rotated[STORE_DIM];
		uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
		char name[16];
		size_t n;

		subject_of(gone[i], name, v);
		assert_int_equal(rotation_apply(s->store, 1, 0, v, STORE_DIM, rotated), 0);
		assert_int_equal(subject_pseudonym(s->store, 1, name, pseudonym), 0);
		assert_true(is_stored(s, rotated, 3 * sizeof(float)));
		assert_true(is_stored(s, pseudonym, sizeof(pseudonym)));
		delete_subject(s, gone[i]);
		assert_false(is_stored(s, rotated, 3 * sizeof(float)));
		assert_false(is_stored(s, pseudonym, sizeof(pseudonym)));
		assert_int_equal(verify(s, gone[i]), BM_ENOREFERENCE);
		assert_int_equal(identify(s, gone[i], &n), 0);
		assert_int_equal(n, 0);
		/* This looks at the codes, too. */
		test_check(s, 0);
	}
}

static void test_sparse_segment_is_emptied(void **state)
{
	struct test_store *s = *state;
	struct gallery_snapshot *before;
	struct gallery_info info;
	size_t n;

	assert_int_equal(gallery_snapshot_open(s->store, &before), 0);
	for (int i = 0; i < 40; i++)
		delete_subject(s, i);
	test_maintain(s);
	test_check(s, 0);
	for (int i = 40; i <= SUBJECTS; i++) {
		assert_int_equal(verify(s, i), 0);
		assert_int_equal(identify(s, i, &n), 0);
		assert_int_equal(n, 1);
	}
	/* A view opened before still shows what was there. */
	assert_int_equal(identify_with(before, 5, NULL, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(gallery_find(before, gallery_name, &info), 0);
	assert_int_equal(info.segments, 1);
	gallery_snapshot_close(before);
	assert_int_equal(gallery_snapshot_open(s->store, &before), 0);
	assert_int_equal(gallery_find(before, gallery_name, &info), 0);
	assert_int_equal(info.segments, 0);
	assert_int_equal(info.tail_rows, SUBJECTS + 1 - 40);
	assert_int_equal(info.next_row, SUBJECTS + 2 + SUBJECTS - 40);
	gallery_snapshot_close(before);
}

/* The same name of a model may hide other files: the digest decides. */
static void test_other_model_is_refused(void **state)
{
	struct test_store *s = *state;
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = gallery_name,
					.subject = "new",
					.dim = STORE_DIM,
					.encounter = {.expires_ms = GALLERY_NEVER}};
	struct gallery_outcome outcome;
	float v[STORE_DIM];
	char name[16];
	size_t n;

	subject_of(1, name, v);
	change.embedding = v;
	s->pack.digest[0] ^= 1;
	assert_int_equal(verify(s, 1), BM_EMODEL);
	assert_int_equal(identify(s, 1, &n), BM_EMODEL);
	assert_int_equal(test_apply(s, &change, &outcome), BM_EMODEL);
	s->pack.digest[0] ^= 1;
	v[3] = (float)NAN;
	assert_int_equal(test_apply(s, &change, &outcome), BM_EINVAL);
	v[3] = 2;
	assert_int_equal(test_apply(s, &change, &outcome), BM_EINVAL);
	test_check(s, 0);
}

static bool stop_at_once(void *ctx)
{
	(void)ctx;
	return true;
}

static void test_search_is_stopped(void **state)
{
	struct test_store *s = *state;
	struct gallery_snapshot *snapshot;
	size_t n;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(identify_with(snapshot, 1, stop_at_once, &n), BM_ECANCELLED);
	gallery_snapshot_close(snapshot);
}

static void write_store_record(struct test_store *s, struct store_record *record)
{
	struct db_txn txn;

	record->sum = record_sum(record, sizeof(*record));
	assert_int_equal(db_begin_write(s->db, &txn), 0);
	db_put(&txn, DB_META, text_bytes("store"),
	       (struct bytes){(const uint8_t *)record, sizeof(*record)});
	assert_int_equal(db_commit(&txn), 0);
}

static void test_other_version_is_refused(void **state)
{
	struct store_record record = {.version = STORE_VERSION + 1, .next_gallery = 2};
	struct test_store *s = *state;
	struct gallery_store *store;

	keys_fingerprint(s->keys, 0, record.key_fingerprint);
	write_store_record(s, &record);
	assert_int_equal(gallery_store_open(s->db, s->keys, &s->pack, &store), BM_ESTORENEW);
	record.version = STORE_VERSION_OLD - 1;
	write_store_record(s, &record);
	assert_int_equal(gallery_store_open(s->db, s->keys, &s->pack, &store), BM_ESTOREVER);
	record.version = STORE_VERSION;
	write_store_record(s, &record);
	assert_int_equal(gallery_store_open(s->db, s->keys, &s->pack, &store), 0);
	gallery_store_close(store);
	damage(s, DB_META, (struct record_key){.data = "store", .len = 5}, 9);
	assert_int_equal(gallery_store_open(s->db, s->keys, &s->pack, &store), BM_ECORRUPT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, init, deinit)
	const struct CMUnitTest tests[] = {
		TEST(test_damaged_template),         TEST(test_damaged_facts),
		TEST(test_damaged_segment),          TEST(test_damaged_subject),
		TEST(test_deleted_is_gone),          TEST(test_sparse_segment_is_emptied),
		TEST(test_other_model_is_refused),   TEST(test_search_is_stopped),
		TEST(test_other_version_is_refused),
	};
#undef TEST

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("gallery damage", tests, NULL, NULL);
}
