/*
 * A gallery moves to another generation of the key while it is used: every score,
 * search, write and deletion is right at every step, a store that is opened
 * again goes on, and in the end nothing is left under the old rotation.
 */
#include "store.h"

#include <math.h>
#include <string.h>

#include "../../../src/gallery/store.h"

/* Four segments of 64 rows, some of them deleted, and a tail. */
#define PEOPLE 300
/* Of a float32 that was turned back and forth. */
#define SAME 2e-6f

struct people {
	struct test_store s;
	float faces[PEOPLE + 64][STORE_DIM];
	bool there[PEOPLE + 64];
	int n;
};

static void person_name(int i, char out[16])
{
	snprintf(out, 16, "p%d", i);
}

static void enrol(struct people *p)
{
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = "g",
					.encounter = {.expires_ms = GALLERY_NEVER},
					.embedding = p->faces[p->n],
					.dim = STORE_DIM};
	struct gallery_outcome outcome;
	char name[16];

	person_name(p->n, name);
	change.subject = name;
	assert_int_equal(test_apply(&p->s, &change, &outcome), 0);
	p->there[p->n++] = true;
}

static void leave(struct people *p, int i)
{
	struct gallery_change change = {.kind = GALLERY_DELETE_SUBJECT, .gallery = "g"};
	struct gallery_outcome outcome;
	char name[16];

	person_name(i, name);
	change.subject = name;
	assert_int_equal(test_apply(&p->s, &change, &outcome), 0);
	p->there[i] = false;
}

static int rotate(struct people *p)
{
	struct gallery_change change = {.kind = GALLERY_ROTATE, .gallery = "g"};
	struct gallery_outcome outcome;

	return test_apply(&p->s, &change, &outcome);
}

/* A key file of so many generations, the last one of this byte. */
static void write_key(struct people *p, const char *name, size_t n, uint8_t last, char path[128])
{
	uint8_t keys[4][KEYS_MASTER_LEN];

	for (size_t i = 0; i < n; i++)
		memset(keys[i], i + 1 < n ? (int)(7 + i) : last, KEYS_MASTER_LEN);
	test_store_path(&p->s, name, path);
	assert_int_equal(file_write_new(path, keys, n * KEYS_MASTER_LEN, 0600), 0);
}

static int init(void **state)
{
	struct people *p = calloc(1, sizeof(*p));
	uint64_t random = 11;
	char path[128];

	assert_non_null(p);
	test_store_init(&p->s, 1 << 25);
	test_create_gallery(&p->s, "g");
	for (int i = 0; i < PEOPLE + 64; i++)
		test_vector(&random, p->faces[i], STORE_DIM);
	for (int i = 0; i < PEOPLE; i++)
		enrol(p);
	for (int i = 0; i < PEOPLE; i += 7)
		leave(p, i);
	test_maintain(&p->s);
	write_key(p, "two", 2, 8, path);
	assert_int_equal(keys_reload(p->s.keys, path), 0);
	*state = p;
	return 0;
}

static int deinit(void **state)
{
	test_store_deinit(&((struct people *)*state)->s);
	free(*state);
	return 0;
}

static void assert_verified(struct people *p, struct gallery_snapshot *snapshot,
			    const struct gallery_info *info, int i)
{
	struct gallery_candidate best;
	uint64_t compared;
	char name[16];
	int other = (i + 1) % p->n, error;

	person_name(i, name);
	error = gallery_verify(snapshot, info, name, &any_reference, p->faces[other], STORE_DIM, 0,
			       &best, &compared);
	assert_int_equal(error, p->there[i] ? 0 : BM_ENOREFERENCE);
	if (!error)
		assert_true(fabsf(best.score - score_dot(p->faces[i], p->faces[other], STORE_DIM)) <
			    SAME);
}

/* Finds who is there, alone, by their own face. */
static void assert_identified(struct people *p, struct gallery_snapshot *snapshot,
			      const struct gallery_info *info, int i)
{
	struct gallery_search search = {.probe = p->faces[i],
					.dim = STORE_DIM,
					.threshold = 0.999f,
					.max_candidates = 5},
			      *list = &search;
	struct arena arena;
	char name[16];

	arena_init(&arena, 1 << 20);
	search.arena = &arena;
	gallery_identify(snapshot, info, &list, 1, NULL);
	assert_int_equal(search.error, 0);
	assert_int_equal(search.result.n, p->there[i]);
	person_name(i, name);
	if (search.result.n)
		assert_string_equal(search.result.candidates[0].subject, name);
	assert_int_equal(search.result.compared, info->encounters);
	arena_deinit(&arena);
}

/* Everything is as it was; gives the rows that are still to be moved. */
static uint64_t check_all(struct people *p)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	float scores[8];
	uint64_t rows;
	size_t n;

	assert_int_equal(gallery_snapshot_open(p->s.store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	for (int i = 0; i < p->n; i++)
		assert_verified(p, snapshot, &info, i);
	for (int i = 0; i < p->n; i += 5)
		assert_identified(p, snapshot, &info, i);
	assert_int_equal(
		gallery_sample(snapshot, &info, "p1", p->faces[1], STORE_DIM, 3, scores, 8, &n), 0);
	for (size_t i = 0; i < n; i++)
		assert_true(scores[i] < 0.9f);
	assert_int_equal(gallery_rows_to_reencode(snapshot, &info, &rows), 0);
	gallery_snapshot_close(snapshot);
	test_check(&p->s, 0);
	return rows;
}

/* One step; true when there was something to do. */
static bool step(struct people *p)
{
	struct db_txn txn;
	bool more;

	assert_int_equal(db_begin_write(p->s.db, &txn), 0);
	assert_int_equal(gallery_maintain(p->s.store, &txn, &more), 0);
	assert_int_equal(db_commit(&txn), 0);
	return more;
}

static void test_every_step(void **state)
{
	struct people *p = *state;
	uint64_t left, before = check_all(p);
	int steps = 0;

	assert_int_equal(before, 0);
	assert_int_equal(rotate(p), 0);
	before = check_all(p);
	assert_true(before > 200);
	assert_int_equal(rotate(p), BM_EREENCODING);
	while (step(p)) {
		left = check_all(p);
		assert_true(left <= before);
		before = left;
		/* Somebody comes, somebody who was there leaves, of whichever generation. */
		enrol(p);
		leave(p, 7 * steps + 1);
		if (++steps == 2) {
			test_store_close(&p->s);
			test_store_open(&p->s, 1 << 25);
		}
	}
	assert_true(steps >= 4);
	assert_int_equal(check_all(p), 0);
	assert_int_equal(rotate(p), BM_EKEYNEWEST);
}

static bool file_holds(const struct test_store *s, const float *template)
{
	uint8_t *data;
	char path[128];
	size_t len;
	bool found;

	test_store_path(s, "store/data.mdb", path);
	assert_int_equal(file_read(path, 1 << 26, &data, &len), 0);
	found = memmem(data, len, template, STORE_DIM * sizeof(float));
	free(data);
	return found;
}

static void scrub(struct test_store *s)
{
	bool more = true;

	while (more)
		assert_int_equal(db_scrub(s->db, &more), 0);
}

static void test_nothing_is_left(void **state)
{
	_Alignas(64) float old[STORE_DIM], new[STORE_DIM], turned[STORE_DIM];
	struct people *p = *state;
	struct gallery_store *store = p->s.store;

	for (int i = 1; i < PEOPLE; i += 50) {
		assert_int_equal(rotation_apply(store, 1, 0, p->faces[i], STORE_DIM, old), 0);
		assert_true(file_holds(&p->s, old) == p->there[i]);
	}
	assert_int_equal(rotate(p), 0);
	test_maintain(&p->s);
	scrub(&p->s);
	for (int i = 1; i < PEOPLE; i += 50) {
		assert_int_equal(rotation_apply(store, 1, 0, p->faces[i], STORE_DIM, old), 0);
		assert_int_equal(rotation_apply(store, 1, 1, p->faces[i], STORE_DIM, new), 0);
		assert_int_equal(rotation_turn(store, 1, 0, 1, old, STORE_DIM, turned), 0);
		assert_true(fabsf(score_dot(new, turned, STORE_DIM) - 1) < SAME);
		assert_true(score_dot(new, old, STORE_DIM) < 0.9f);
		assert_false(file_holds(&p->s, old));
		assert_true(file_holds(&p->s, turned) == p->there[i]);
	}
}

/* Without the generation that a gallery is under, or with another in its place, nothing opens. */
static void test_wrong_keys(void **state)
{
	struct people *p = *state;
	struct gallery_store *store;
	struct keys *keys;
	char path[128];

	assert_int_equal(rotate(p), 0);
	gallery_store_close(p->s.store);
	test_store_path(&p->s, "key", path);
	assert_int_equal(keys_open(path, &keys), 0);
	assert_int_equal(gallery_store_open(p->s.db, keys, &p->s.pack, &store), BM_EKEY);
	keys_close(keys);
	write_key(p, "other", 2, 99, path);
	assert_int_equal(keys_open(path, &keys), 0);
	assert_int_equal(gallery_store_open(p->s.db, keys, &p->s.pack, &store), BM_EKEY);
	keys_close(keys);
	assert_int_equal(gallery_store_open(p->s.db, p->s.keys, &p->s.pack, &p->s.store), 0);
	gallery_store_set_segment_rows(p->s.store, 64);
	check_all(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_step, init, deinit),
		cmocka_unit_test_setup_teardown(test_nothing_is_left, init, deinit),
		cmocka_unit_test_setup_teardown(test_wrong_keys, init, deinit),
	};

	return cmocka_run_group_tests_name("reencode", tests, NULL, NULL);
}
