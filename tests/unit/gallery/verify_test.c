/*
 * Which of a subject's references a probe meets, and what score comes of several:
 * the best one's, or that of all fused, whichever generations of the key they are under.
 */
#include "store.h"

#include <math.h>
#include <string.h>

/* Of a float32 that was turned back and forth. */
#define SAME 2e-6f

struct visit {
	struct test_store s;
	struct gallery_candidate best;
	uint64_t compared;
};

static int init(void **state)
{
	struct visit *visit = calloc(1, sizeof(*visit));

	assert_non_null(visit);
	test_store_init(&visit->s, 64 << 20);
	test_create_gallery(&visit->s, "g");
	*state = visit;
	return 0;
}

static int deinit(void **state)
{
	test_store_deinit(&((struct visit *)*state)->s);
	free(*state);
	return 0;
}

static void face(uint64_t seed, float v[STORE_DIM])
{
	test_vector(&seed, v, STORE_DIM);
}

static void keep(struct visit *visit, const char *id, const char *type, int64_t captured_ms,
		 int64_t expires_ms, uint64_t seed)
{
	struct gallery_change change = {
		.kind = GALLERY_PUT,
		.gallery = "g",
		.subject = "ada",
		.dim = STORE_DIM,
		.encounter = {.captured_ms = captured_ms, .expires_ms = expires_ms}};
	struct gallery_outcome outcome;
	float v[STORE_DIM];

	face(seed, v);
	change.embedding = v;
	strcpy(change.encounter.id, id);
	strcpy(change.encounter.type, type);
	assert_int_equal(test_apply(&visit->s, &change, &outcome), 0);
}

static int verify(struct visit *visit, const struct gallery_references *references, uint64_t seed,
		  int64_t now_ms)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	float v[STORE_DIM];
	int error;

	face(seed, v);
	assert_int_equal(gallery_snapshot_open(visit->s.store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	error = gallery_verify(snapshot, &info, "ada", references, v, STORE_DIM, now_ms,
			       &visit->best, &visit->compared);
	gallery_snapshot_close(snapshot);
	return error;
}

static float alike(uint64_t one, uint64_t other)
{
	float a[STORE_DIM], b[STORE_DIM];

	face(one, a);
	face(other, b);
	return score_dot(a, b, STORE_DIM);
}

static void test_newest_captures(void **state)
{
	struct visit *visit = *state;
	struct gallery_references references = {.max = 2};

	/* Enrolled in another order than they were taken. */
	keep(visit, "middle", "", 2000, GALLERY_NEVER, 2);
	keep(visit, "newest", "", 3000, GALLERY_NEVER, 3);
	keep(visit, "oldest", "", 1000, GALLERY_NEVER, 1);
	assert_int_equal(verify(visit, &references, 1, 0), 0);
	assert_int_equal(visit->compared, 2);
	assert_true(visit->best.score < 0.9f);
	assert_int_equal(verify(visit, &references, 2, 0), 0);
	assert_string_equal(visit->best.encounter, "middle");
	assert_true(visit->best.score > 0.9999f);
	references.max = 1;
	assert_int_equal(verify(visit, &references, 2, 0), 0);
	assert_string_equal(visit->best.encounter, "newest");
	assert_int_equal(visit->compared, 1);
	/* The later enrolment, of two captures of one moment. */
	keep(visit, "corrected", "", 3000, GALLERY_NEVER, 4);
	assert_int_equal(verify(visit, &references, 4, 0), 0);
	assert_string_equal(visit->best.encounter, "corrected");
	references.max = GALLERY_MAX_REFERENCES;
	assert_int_equal(verify(visit, &references, 1, 0), 0);
	assert_string_equal(visit->best.encounter, "oldest");
	assert_int_equal(visit->compared, 4);
}

static void test_more_than_may_be_compared(void **state)
{
	struct visit *visit = *state;
	char id[16];

	for (int i = 0; i < GALLERY_MAX_ENCOUNTERS; i++) {
		snprintf(id, sizeof(id), "e%d", i);
		keep(visit, id, "", 7 * i % GALLERY_MAX_ENCOUNTERS, GALLERY_NEVER,
		     (uint64_t)(7 * i % GALLERY_MAX_ENCOUNTERS));
	}
	for (int i = 0; i < GALLERY_MAX_ENCOUNTERS; i++) {
		assert_int_equal(verify(visit, &any_reference, (uint64_t)i, 0), 0);
		assert_int_equal(visit->compared, GALLERY_MAX_REFERENCES);
		assert_int_equal(visit->best.score > 0.9999f,
				 i >= GALLERY_MAX_ENCOUNTERS - GALLERY_MAX_REFERENCES);
	}
}

static void test_types(void **state)
{
	static const char *const types[] = {"arrival", "document-photo-of-thirty-two-chr"};
	struct visit *visit = *state;
	struct gallery_references references = {.types = types, .n_types = 2, .max = 4};

	keep(visit, "1", "departure", 1000, GALLERY_NEVER, 1);
	assert_int_equal(verify(visit, &references, 1, 0), BM_ENOREFERENCE);
	keep(visit, "2", types[1], 1000, 500, 2);
	assert_int_equal(verify(visit, &references, 2, 499), 0);
	assert_int_equal(visit->compared, 1);
	/* What is not counted neither hides nor causes an expiry. */
	assert_int_equal(verify(visit, &references, 2, 500), BM_EEXPIRED);
	assert_int_equal(verify(visit, &any_reference, 1, 500), 0);
	keep(visit, "3", "arriva", 1000, GALLERY_NEVER, 3);
	keep(visit, "4", "", 1000, GALLERY_NEVER, 3);
	assert_int_equal(verify(visit, &references, 3, 500), BM_EEXPIRED);
	keep(visit, "5", "arrival", 1000, GALLERY_NEVER, 3);
	assert_int_equal(verify(visit, &references, 3, 500), 0);
	assert_string_equal(visit->best.encounter, "5");
}

/* (s1 + ... + sn) / |r1 + ... + rn|, in double. */
static double fused(uint64_t probe, uint64_t first, uint64_t last)
{
	double sum[STORE_DIM] = {0}, dot = 0, square = 0;
	float v[STORE_DIM];

	for (uint64_t seed = first; seed <= last; seed++) {
		face(seed, v);
		for (int i = 0; i < STORE_DIM; i++)
			sum[i] += (double)v[i];
	}
	face(probe, v);
	for (int i = 0; i < STORE_DIM; i++) {
		dot += sum[i] * (double)v[i];
		square += sum[i] * sum[i];
	}
	return dot / sqrt(square);
}

static void assert_fused(struct visit *visit)
{
	static const struct gallery_references references = {.max = 3, .fused = true};

	for (uint64_t seed = 1; seed < 8; seed++) {
		assert_int_equal(verify(visit, &references, seed, 0), 0);
		assert_int_equal(visit->compared, 3);
		assert_float_equal(visit->best.score, fused(seed, 2, 4), SAME);
	}
	assert_int_equal(verify(visit, &references, 3, 0), 0);
	assert_string_equal(visit->best.encounter, "3");
	assert_int_equal(verify(visit, &any_reference, 3, 0), 0);
	assert_float_equal(visit->best.score, 1, SAME);
	assert_int_equal(verify(visit, &any_reference, 9, 0), 0);
	assert_float_equal(visit->best.score,
			   fmaxf(fmaxf(alike(9, 1), alike(9, 2)), fmaxf(alike(9, 3), alike(9, 4))),
			   SAME);
}

static void test_fused(void **state)
{
	static const struct gallery_references one = {.max = 1, .fused = true};
	struct visit *visit = *state;

	keep(visit, "1", "", 1000, GALLERY_NEVER, 1);
	assert_int_equal(verify(visit, &one, 5, 0), 0);
	assert_float_equal(visit->best.score, alike(1, 5), SAME);
	keep(visit, "2", "", 2000, GALLERY_NEVER, 2);
	keep(visit, "3", "", 3000, GALLERY_NEVER, 3);
	keep(visit, "4", "", 4000, GALLERY_NEVER, 4);
	assert_fused(visit);
}

/* Opposite templates have a sum that points nowhere. */
static void test_fused_to_nothing(void **state)
{
	static const struct gallery_references references = {.max = 2, .fused = true};
	struct visit *visit = *state;
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = "g",
					.subject = "ada",
					.dim = STORE_DIM,
					.encounter = {.id = "2", .expires_ms = GALLERY_NEVER}};
	struct gallery_outcome outcome;
	float v[STORE_DIM];

	keep(visit, "1", "", 0, GALLERY_NEVER, 1);
	face(1, v);
	for (int i = 0; i < STORE_DIM; i++)
		v[i] = -v[i];
	change.embedding = v;
	assert_int_equal(test_apply(&visit->s, &change, &outcome), 0);
	assert_int_equal(verify(visit, &references, 2, 0), 0);
	assert_true(visit->best.score <= 1 && visit->best.score >= -1);
}

static void two_generations(struct visit *visit)
{
	uint8_t keys[2][KEYS_MASTER_LEN];
	char path[128];

	memset(keys[0], 7, KEYS_MASTER_LEN);
	memset(keys[1], 8, KEYS_MASTER_LEN);
	test_store_path(&visit->s, "two", path);
	assert_int_equal(file_write_new(path, keys, sizeof(keys), 0600), 0);
	assert_int_equal(keys_reload(visit->s.keys, path), 0);
}

/* References enrolled before the change of key and after it, of which one is moved late. */
static void test_fused_across_generations(void **state)
{
	struct visit *visit = *state;
	struct gallery_change change = {.kind = GALLERY_ROTATE, .gallery = "g"};
	struct gallery_outcome outcome;

	keep(visit, "1", "", 1000, GALLERY_NEVER, 1);
	keep(visit, "3", "", 3000, GALLERY_NEVER, 3);
	two_generations(visit);
	assert_int_equal(test_apply(&visit->s, &change, &outcome), 0);
	keep(visit, "2", "", 2000, GALLERY_NEVER, 2);
	keep(visit, "4", "", 4000, GALLERY_NEVER, 4);
	assert_fused(visit);
	test_maintain(&visit->s);
	assert_fused(visit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_newest_captures, init, deinit),
		cmocka_unit_test_setup_teardown(test_more_than_may_be_compared, init, deinit),
		cmocka_unit_test_setup_teardown(test_types, init, deinit),
		cmocka_unit_test_setup_teardown(test_fused, init, deinit),
		cmocka_unit_test_setup_teardown(test_fused_to_nothing, init, deinit),
		cmocka_unit_test_setup_teardown(test_fused_across_generations, init, deinit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
