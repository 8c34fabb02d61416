/* Error rates of labelled templates, held against counting by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/accuracy.h"
#include "biomatch/score.h"

#define DIM 512

/* Newcombe, Statistics in Medicine 17 (1998), table I, method 3. */
static void test_interval_of_wilson(void **state)
{
	static const struct {
		double k, n, low, high;
	} published[] = {
		{81, 263, 0.2553, 0.3662},
		{15, 148, 0.0624, 0.1605},
		{0, 20, 0, 0.1611},
		{1, 29, 0.0061, 0.1718},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++) {
		struct accuracy_rate r = accuracy_share(published[i].k, published[i].n);

		assert_float_equal(r.rate, published[i].k / published[i].n, 1e-12);
		assert_float_equal(r.low, published[i].low, 5e-5);
		assert_float_equal(r.high, published[i].high, 5e-5);
	}
	assert_float_equal(accuracy_share(20, 20).high, 1, 0);
	assert_float_equal(accuracy_share(0, 0).high, 1, 0);
}

static float draw(unsigned *seed)
{
	float sum = 0;

	for (int i = 0; i < 12; i++)
		sum += (float)rand_r(seed) / (float)RAND_MAX;
	return sum - 6;
}

static void draw_face(unsigned *seed, const float *base, float noise, float *out)
{
	for (size_t i = 0; i < DIM; i++)
		out[i] = (base ? base[i] : 0) + noise * draw(seed) / sqrtf(DIM);
	assert_int_equal(score_normalise(out, DIM), 0);
}

/* Some people's pictures are not alike: an eighth part of them, whatever the pair. */
static struct accuracy_set make_set(unsigned seed, size_t people, size_t pictures)
{
	struct accuracy_set set = {.n = people * pictures, .dim = DIM, .n_people = people};
	float *rows = malloc(set.n * DIM * sizeof(*rows)), base[DIM];
	uint32_t *owners = malloc(set.n * sizeof(*owners));

	assert_non_null(rows);
	assert_non_null(owners);
	for (size_t p = 0; p < people; p++) {
		int goat = rand_r(&seed) % 8 == 0;

		draw_face(&seed, NULL, 1, base);
		for (size_t i = 0; i < pictures; i++) {
			owners[p * pictures + i] = (uint32_t)p;
			draw_face(&seed, goat ? NULL : base, 1, rows + (p * pictures + i) * DIM);
		}
	}
	set.rows = rows;
	set.people = owners;
	return set;
}

static void free_set(struct accuracy_set *set)
{
	free((void *)(uintptr_t)set->rows);
	free((void *)(uintptr_t)set->people);
}

static void test_rates_are_those_counted(void **state)
{
	struct accuracy_set set = make_set(1, 60, 3);
	struct accuracy a;

	(void)state;
	assert_int_equal(accuracy_measure(&set, &a), 0);
	assert_int_equal(a.mates, 60 * 3);
	assert_int_equal(a.non_mates, 180 * 179 / 2 - 180);
	/* 15,930 pairs: 31 at 2e-3, and 16 would be too few. */
	assert_int_equal(a.n_points, 6);
	for (size_t i = 0; i < a.n_points; i++) {
		size_t matched = 0, missed = 0, above = 0;

		for (size_t x = 0; x < set.n; x++) {
			for (size_t y = x + 1; y < set.n; y++) {
				float score =
					score_dot(set.rows + x * DIM, set.rows + y * DIM, DIM);
				int mates = set.people[x] == set.people[y];

				matched += !mates && score >= a.points[i].score;
				missed += mates && score < a.points[i].score;
				above += !mates && score >= a.points[i].score - 1e-4f;
			}
		}
		assert_float_equal(a.points[i].fmr.rate, (double)matched / (double)a.non_mates,
				   1e-12);
		assert_float_equal(a.points[i].fnmr.rate, (double)missed / (double)a.mates, 1e-12);
		/* No more than asked for, and the next lower score would be too low. */
		assert_true(a.points[i].fmr.rate <= a.targets[i]);
		assert_true((double)above > a.targets[i] * (double)a.non_mates);
		assert_true(a.points[i].fmr.low < a.points[i].fmr.rate);
		assert_true(a.points[i].fmr.high > a.points[i].fmr.rate);
	}
	free_set(&set);
}

/* All pairs of a person fail together: to take them for independent would be too sure. */
static void test_intervals_hold_the_truth(void **state)
{
	unsigned held = 0, naive = 0, sets = 200;

	(void)state;
	for (unsigned s = 0; s < sets; s++) {
		struct accuracy_set set = make_set(100 + s, 80, 4);
		struct accuracy_rate r, plain;
		struct accuracy a;
		double truth;

		assert_int_equal(accuracy_measure(&set, &a), 0);
		r = a.points[a.n_points - 1].fnmr;
		truth = (1 - a.targets[a.n_points - 1]) / 8;
		plain = accuracy_share(r.rate * (double)a.mates, (double)a.mates);
		held += r.low <= truth && truth <= r.high;
		naive += plain.low <= truth && truth <= plain.high;
		free_set(&set);
	}
	assert_in_range(held, sets * 90 / 100, sets);
	assert_in_range(naive, 0, sets * 80 / 100);
}

static void test_needs_pairs_of_both_kinds(void **state)
{
	struct accuracy_set set = make_set(2, 4, 1);
	struct accuracy a;

	(void)state;
	assert_int_equal(accuracy_measure(&set, &a), BM_EINVAL);
	set.n = 0;
	assert_int_equal(accuracy_measure(&set, &a), BM_EINVAL);
	free_set(&set);
	set = make_set(3, 1, 4);
	assert_int_equal(accuracy_measure(&set, &a), BM_EINVAL);
	free_set(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interval_of_wilson),
		cmocka_unit_test(test_rates_are_those_counted),
		cmocka_unit_test(test_intervals_hold_the_truth),
		cmocka_unit_test(test_needs_pairs_of_both_kinds),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
