/* The scores against another implementation of the dot product. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cblas.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "biomatch/score.h"

#define DIM    512
#define ROWS   301
#define PROBES 5

static float rows[ROWS * DIM], probes[PROBES * DIM];

static void fill_unit(float *v, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n * DIM; i++) {
		seed = seed * 1664525u + 1013904223u;
		v[i] = (float)(seed >> 8) / 0x1p23f - 1.0f;
	}
	for (size_t i = 0; i < n; i++)
		assert_int_equal(score_normalise(v + i * DIM, DIM), 0);
}

static void agrees_with_sgemm(void **state)
{
	static float want[PROBES * ROWS], got[PROBES * ROWS];

	(void)state;
	fill_unit(rows, ROWS, 1);
	fill_unit(probes, PROBES, 2);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, PROBES, ROWS, DIM, 1.0f, probes, DIM,
		    rows, DIM, 0.0f, want, ROWS);
	for (size_t i = 0; score_kernel_at(i) != NULL; i++) {
		if (!score_kernel_at(i)->usable())
			continue;
		score_kernel_at(i)->scan(rows, ROWS, probes, PROBES, DIM, got);
		for (size_t k = 0; k < PROBES * ROWS; k++)
			assert_true(fabsf(got[k] - want[k]) < 1e-5f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_sgemm)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
