/*
 * The keyed rotation: it keeps lengths and scores, is the same after every start,
 * and another one for another gallery or key.
 */
#include "store.h"

#include <math.h>

#include "../../../src/gallery/store.h"

static int init(void **state)
{
	struct test_store *s = malloc(sizeof(*s));

	test_store_init(s, 1 << 20);
	*state = s;
	return 0;
}

static int deinit(void **state)
{
	test_store_deinit(*state);
	free(*state);
	return 0;
}

static void rotate(struct test_store *s, uint32_t gallery, const float *in, size_t dim, float *out)
{
	assert_int_equal(rotation_apply(s->store, gallery, 0, in, dim, out), 0);
}

static void test_keeps_scores(void **state)
{
	static const size_t dims[] = {16, 48, 128, 512};
	struct test_store *s = *state;
	uint64_t random = 1;

	for (uint32_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
		float v[512], w[512], rv[512], rw[512];

		for (int i = 0; i < 20; i++) {
			test_vector(&random, v, dims[d]);
			test_vector(&random, w, dims[d]);
			rotate(s, d + 1, v, dims[d], rv);
			rotate(s, d + 1, w, dims[d], rw);
			/* A turned template can be stored and turned again: its length holds. */
			assert_true(fabsf(score_dot(rv, rv, dims[d]) - 1) < 2e-6f);
			assert_true(fabsf(score_dot(rv, rw, dims[d]) - score_dot(v, w, dims[d])) <
				    2e-6f);
			assert_true(score_dot(v, rv, dims[d]) < 0.95f);
		}
	}
}

static void test_follows_gallery_and_key(void **state)
{
	float v[STORE_DIM], first[STORE_DIM], again[STORE_DIM];
	struct test_store *s = *state;
	struct keys *keys = s->keys;
	uint64_t random = 1;
	char path[128];

	test_vector(&random, v, STORE_DIM);
	rotate(s, 1, v, STORE_DIM, first);
	rotate(s, 2, v, STORE_DIM, again);
	assert_true(fabsf(score_dot(first, again, STORE_DIM)) < 0.95f);
	test_store_close(s);
	test_store_open(s, 1 << 20);
	rotate(s, 1, v, STORE_DIM, again);
	assert_memory_equal(first, again, sizeof(first));

	test_store_close(s);
	test_store_key(s, "other", 8);
	test_store_path(s, "other", path);
	assert_int_equal(keys_open(path, &s->keys), 0);
	keys_close(keys);
	test_store_path(s, "store/data.mdb", path);
	assert_int_equal(unlink(path), 0);
	test_store_open(s, 1 << 20);
	rotate(s, 1, v, STORE_DIM, again);
	assert_true(fabsf(score_dot(first, again, STORE_DIM)) < 0.95f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_keeps_scores, init, deinit),
		cmocka_unit_test_setup_teardown(test_follows_gallery_and_key, init, deinit),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("gallery rotation", tests, NULL, NULL);
}
