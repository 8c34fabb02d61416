/* The kernels: every one equal to the portable one in every bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/score.h"

#define MAX_DIM    1024
#define MAX_ROWS   11
#define MAX_PROBES 5

static uint64_t seed;

static uint64_t draw(void)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return seed >> 33;
}

/* Mostly ordinary values, now and then one at an end of the range. */
static float draw_float(bool extreme)
{
	static const float ends[] = {0.0f,   0x1p-149f,        -0x1p-149f, FLT_MIN, -FLT_MIN,
				     1e-30f, -1e-30f,          1e18f,      -1e18f,  1.0f,
				     -1.0f,  0x1.fffffep-127f, 3e8f,       -3e8f,   FLT_EPSILON};

	if (extreme && draw() % 3 == 0)
		return ends[draw() % (sizeof(ends) / sizeof(ends[0]))];
	return (float)((double)draw() / 0x1p30 - 1.0);
}

static const struct score_kernel *portable(void)
{
	const struct score_kernel *kernel = NULL;

	for (size_t i = 0; score_kernel_at(i) != NULL; i++)
		kernel = score_kernel_at(i);
	assert_string_equal(kernel->name, "portable");
	return kernel;
}

/* One shape, at an odd address, with guards behind the results. */
static void compare_shape(const struct score_kernel *kernel, size_t dim, size_t n, size_t m,
			  bool extreme)
{
	static float rows_space[MAX_ROWS * MAX_DIM + 1], probes_space[MAX_PROBES * MAX_DIM + 1];
	float want[MAX_PROBES * MAX_ROWS + 1], got[MAX_PROBES * MAX_ROWS + 1];
	float *rows = rows_space + draw() % 2, *probes = probes_space + draw() % 2;

	for (size_t i = 0; i < n * dim; i++)
		rows[i] = draw_float(extreme);
	for (size_t i = 0; i < m * dim; i++)
		probes[i] = draw_float(extreme);
	memset(want, 0x55, sizeof(want));
	memset(got, 0x55, sizeof(got));
	portable()->scan(rows, n, probes, m, dim, want);
	kernel->scan(rows, n, probes, m, dim, got);
	assert_memory_equal(got, want, sizeof(want));
	for (size_t r = 0; r < n; r++) {
		float one = kernel->dot(rows + r * dim, probes, dim);

		assert_memory_equal(&one, &want[r], sizeof(one));
	}
}

static void equals_portable(void **state)
{
	static const size_t dims[] = {16, 32, 48, 112, 128, 192, 512, 1024};

	(void)state;
	for (size_t i = 0; score_kernel_at(i) != NULL; i++) {
		if (!score_kernel_at(i)->usable())
			continue;
		seed = i;
		for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
			for (size_t n = 1; n <= MAX_ROWS; n += 1 + draw() % 2)
				for (size_t m = 1; m <= MAX_PROBES; m++)
					compare_shape(score_kernel_at(i), dims[d], n, m,
						      draw() % 2);
	}
}

/* The order of the door, written out in another way. */
static void keeps_the_stated_order(void **state)
{
	float a[64], b[64], lane[16];

	(void)state;
	seed = 7;
	for (size_t round = 0; round < 200; round++) {
		for (size_t i = 0; i < 64; i++) {
			a[i] = draw_float(false);
			b[i] = draw_float(false);
		}
		for (size_t i = 0; i < 16; i++) {
			lane[i] = a[i] * b[i];
			for (size_t k = i + 16; k < 64; k += 16)
				lane[i] = fmaf(a[k], b[k], lane[i]);
		}
		for (size_t i = 0; i < 8; i++)
			lane[i] = lane[i] + lane[i + 8];
		for (size_t i = 0; i < 4; i++)
			lane[i] = lane[i] + lane[i + 4];
		lane[0] = (lane[0] + lane[2]) + (lane[1] + lane[3]);
		for (size_t i = 0; score_kernel_at(i) != NULL; i++) {
			if (score_kernel_at(i)->usable()) {
				float got = score_kernel_at(i)->dot(a, b, 64);

				assert_memory_equal(&got, &lane[0], sizeof(got));
			}
		}
	}
}

static void no_rows_write_nothing(void **state)
{
	float probe[16] = {1}, out = 42;

	(void)state;
	for (size_t i = 0; score_kernel_at(i) != NULL; i++) {
		if (score_kernel_at(i)->usable())
			score_kernel_at(i)->scan(probe, 0, probe, 1, 16, &out);
		assert_true(out == 42);
	}
}

static void is_chosen_by_name(void **state)
{
	(void)state;
	assert_string_equal(score_kernel()->name, "portable");
	assert_int_equal(score_init("no such kernel"), BM_EINVAL);
	assert_int_equal(score_init(""), BM_EINVAL);
	assert_string_equal(score_kernel()->name, "portable");
	for (size_t i = 0; score_kernel_at(i) != NULL; i++) {
		const struct score_kernel *kernel = score_kernel_at(i);

		assert_int_equal(score_init(kernel->name), kernel->usable() ? 0 : BM_EINVAL);
		if (kernel->usable())
			assert_ptr_equal(score_kernel(), kernel);
	}
}

static void automatic_is_the_fastest_usable(void **state)
{
	size_t i = 0;

	(void)state;
	while (!score_kernel_at(i)->usable())
		i++;
	assert_int_equal(score_init("portable"), 0);
	assert_int_equal(score_init(NULL), 0);
	assert_ptr_equal(score_kernel(), score_kernel_at(i));
	assert_int_equal(score_init("portable"), 0);
	assert_int_equal(score_init("auto"), 0);
	assert_ptr_equal(score_kernel(), score_kernel_at(i));
}

static void normalises(void **state)
{
	float v[512];

	(void)state;
	seed = 3;
	for (size_t round = 0; round < 50; round++) {
		float scale = powf(10.0f, (float)(draw() % 60) - 30.0f);

		for (size_t i = 0; i < 512; i++)
			v[i] = draw_float(false) * scale;
		assert_int_equal(score_normalise(v, 512), 0);
		assert_true(fabsf(score_dot(v, v, 512) - 1.0f) < 1e-6f);
	}
	memset(v, 0, sizeof(v));
	v[17] = -0x1p-149f;
	assert_int_equal(score_normalise(v, 512), 0);
	assert_true(v[17] == -1.0f);
}

static void refuses_what_has_no_direction(void **state)
{
	float v[16] = {0};

	(void)state;
	assert_int_equal(score_normalise(v, 16), BM_EINVAL);
	v[3] = INFINITY;
	assert_int_equal(score_normalise(v, 16), BM_EINVAL);
	v[3] = NAN;
	assert_int_equal(score_normalise(v, 16), BM_EINVAL);
	assert_int_equal(score_normalise(v, 0), BM_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_chosen_by_name),
		cmocka_unit_test(automatic_is_the_fastest_usable),
		cmocka_unit_test(equals_portable),
		cmocka_unit_test(keeps_the_stated_order),
		cmocka_unit_test(no_rows_write_nothing),
		cmocka_unit_test(normalises),
		cmocka_unit_test(refuses_what_has_no_direction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
