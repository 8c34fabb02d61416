/* References drawn at random: never one's own, never one that is gone, all of them in the end. */
#include "store.h"

#include <math.h>

#define PEOPLE 300
#define DRAWS  2000

struct person {
	float vector[STORE_DIM];
	bool gone;
	unsigned met;
};

static void change_person(struct test_store *s, struct person *people, int i,
			  enum gallery_change_kind kind)
{
	char subject[16];
	struct gallery_change change = {.kind = kind,
					.gallery = "g",
					.subject = subject,
					.encounter = {.id = "e", .expires_ms = GALLERY_NEVER},
					.embedding = people[i].vector,
					.dim = STORE_DIM,
					.now_ms = 1000};
	struct gallery_outcome outcome;

	snprintf(subject, sizeof(subject), "s%d", i);
	assert_int_equal(test_apply(s, &change, &outcome), 0);
}

/* Whose score this is; rotated vectors give it to a few units in the last place. */
static int find_scored(const struct person *people, const float *probe, float score)
{
	float nearest = 1e-5f;
	int found = -1;

	for (int i = 0; i < PEOPLE; i++) {
		float off = fabsf(score_dot(people[i].vector, probe, STORE_DIM) - score);

		if (off < nearest) {
			nearest = off;
			found = i;
		}
	}
	return found;
}

static void draw(struct test_store *s, struct person *people, uint64_t seed, size_t max)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info gallery;
	float scores[GALLERY_MAX_SAMPLE];
	size_t n;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &gallery), 0);
	assert_int_equal(gallery_sample(snapshot, &gallery, "s0", people[0].vector, STORE_DIM, seed,
					scores, max, &n),
			 0);
	gallery_snapshot_close(snapshot);
	assert_true(n <= max);
	for (size_t i = 0; i < n; i++) {
		int met = find_scored(people, people[0].vector, scores[i]);

		assert_in_range(met, 1, PEOPLE - 1);
		assert_false(people[met].gone);
		people[met].met++;
		for (size_t j = 0; j < i; j++)
			assert_true(scores[i] != scores[j]);
	}
}

static void test_draws(void **state)
{
	struct person *people = calloc(PEOPLE, sizeof(*people));
	uint64_t random = 5, total = 0;
	struct test_store s;

	(void)state;
	assert_non_null(people);
	test_store_init(&s, UINT64_C(256) << 20);
	test_create_gallery(&s, "g");
	test_vector(&random, people[0].vector, STORE_DIM);
	draw(&s, people, 1, 8); /* nobody there */
	for (int i = 0; i < PEOPLE; i++) {
		test_vector(&random, people[i].vector, STORE_DIM);
		change_person(&s, people, i, GALLERY_PUT);
		if (i == 0)
			draw(&s, people, 2, 8); /* nobody but the one who asks */
	}
	test_maintain(&s); /* segments of 64, and a tail */
	for (int i = 100; i < 220; i += 2) {
		change_person(&s, people, i, GALLERY_DELETE_SUBJECT);
		people[i].gone = true;
	}
	for (uint64_t seed = 0; seed < DRAWS; seed++)
		draw(&s, people, seed, 8);
	for (int i = 1; i < PEOPLE; i++) {
		total += people[i].met;
		if (!people[i].gone && !people[i].met)
			fail_msg("%d was never drawn", i);
	}
	assert_true(total > DRAWS * 7);
	test_store_deinit(&s);
	free(people);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_draws),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
