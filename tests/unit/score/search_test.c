/* Whole searches over codes against an exhaustive scan: same rows, order and bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/code.h"
#include "biomatch/score.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GALLERIES 1000 /* of the same 10,000: sanitizers are slow */
#else
#define GALLERIES 10000
#endif
#define MAX_ROWS 400
#define MAX_DIM  512
#define MAX_K    20

static uint64_t seed;

static uint64_t draw(void)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return seed >> 33;
}

static float draw_uniform(void)
{
	return (float)((double)draw() / 0x1p31);
}

struct hit {
	float score;
	size_t row;
};

struct hits {
	size_t n;
	struct hit hit[MAX_ROWS];
};

/* One random gallery in segments, and its probes. */
struct gallery {
	size_t dim, rows, segment_rows, m;
	float rows_at[MAX_ROWS * MAX_DIM];
	float probes[CODE_MAX_PROBES * MAX_DIM];
	bool dead[MAX_ROWS];
	float threshold;
	size_t k;
};

static struct gallery gallery;
static struct hits want[CODE_MAX_PROBES], got[CODE_MAX_PROBES];
static struct code_probe probes[CODE_MAX_PROBES];
static _Alignas(CODE_ALIGN) uint8_t planes[(MAX_ROWS + 64) * (MAX_DIM / 2 + MAX_DIM / 8 + 8)];

static void draw_unit(float *v, size_t dim)
{
	for (size_t i = 0; i < dim; i++)
		v[i] = draw_uniform() + draw_uniform() + draw_uniform() - 1.5f;
	assert_int_equal(score_normalise(v, dim), 0);
}

/* Some rows repeat an earlier one, so that scores tie; some are near a probe. */
static void draw_row(size_t row)
{
	size_t dim = gallery.dim;
	float *v = gallery.rows_at + row * dim;
	float near = draw_uniform();
	const float *probe = gallery.probes + draw() % gallery.m * dim;

	if (row > 0 && draw() % 4 == 0) {
		memcpy(v, gallery.rows_at + draw() % row * dim, dim * sizeof(float));
		return;
	}
	draw_unit(v, dim);
	if (draw() % 8 != 0)
		return;
	for (size_t i = 0; i < dim; i++)
		v[i] = near * probe[i] + (1 - near) * v[i];
	assert_int_equal(score_normalise(v, dim), 0);
}

static void draw_gallery(void)
{
	static const size_t dims[] = {16, 48, 64, 128, 128, 256, 512};
	static const float thresholds[] = {-1, 0, 0.1f, 0.25f, 0.4f, 0.6f, 0.9f, 1};

	gallery.dim = dims[draw() % (sizeof(dims) / sizeof(dims[0]))];
	gallery.rows = 1 + draw() % (gallery.dim <= 128 ? MAX_ROWS : MAX_ROWS / 8);
	gallery.segment_rows = 1 + draw() % 300;
	gallery.m = draw() % 8 == 0 ? 1 + draw() % CODE_MAX_PROBES : 1 + draw() % 2;
	gallery.k = 1 + draw() % MAX_K;
	for (size_t p = 0; p < gallery.m; p++)
		draw_unit(gallery.probes + p * gallery.dim, gallery.dim);
	for (size_t row = 0; row < gallery.rows; row++) {
		draw_row(row);
		gallery.dead[row] = draw() % 5 == 0;
	}
	gallery.threshold = thresholds[draw() % (sizeof(thresholds) / sizeof(thresholds[0]))];
	if (draw() % 3 == 0) /* exactly a row's score */
		gallery.threshold = score_dot(gallery.probes,
					      gallery.rows_at + draw() % gallery.rows * gallery.dim,
					      gallery.dim);
}

static int compare_hits(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return x->row < y->row ? -1 : 1;
}

static void keep_best(struct hits *hits)
{
	qsort(hits->hit, hits->n, sizeof(hits->hit[0]), compare_hits);
	if (hits->n > gallery.k)
		hits->n = gallery.k;
}

static void search_exhaustively(size_t p)
{
	const float *probe = gallery.probes + p * gallery.dim;

	want[p].n = 0;
	for (size_t row = 0; row < gallery.rows; row++) {
		float score = score_dot(probe, gallery.rows_at + row * gallery.dim, gallery.dim);

		if (!gallery.dead[row] && score >= gallery.threshold)
			want[p].hit[want[p].n++] = (struct hit){score, row};
	}
	keep_best(&want[p]);
}

/* What a caller does with the rows of a segment. */
static void settle(struct code_query *query, size_t p, size_t first)
{
	struct hits *hits = &got[p];

	for (size_t i = 0; i < query->n; i++) {
		size_t row = first + query->rows[i];
		float score = score_dot(gallery.probes + p * gallery.dim,
					gallery.rows_at + row * gallery.dim, gallery.dim);

		assert_true(row < gallery.rows && !gallery.dead[row]);
		assert_true(i == 0 || query->rows[i] > query->rows[i - 1]);
		if (score >= gallery.threshold)
			hits->hit[hits->n++] = (struct hit){score, row};
	}
	keep_best(hits);
	query->bar = hits->n == gallery.k ? hits->hit[hits->n - 1].score : gallery.threshold;
}

static void search_codes(enum code_mode mode)
{
	static uint16_t rows[CODE_MAX_PROBES][MAX_ROWS];
	struct code_query queries[CODE_MAX_PROBES] = {0};

	for (size_t p = 0; p < gallery.m; p++) {
		got[p].n = 0;
		queries[p].probe = &probes[p];
		queries[p].mode = mode;
		queries[p].bar = gallery.threshold;
		queries[p].rows = rows[p];
		code_probe_init(&probes[p], gallery.probes + p * gallery.dim, gallery.dim);
	}
	for (size_t first = 0; first < gallery.rows; first += gallery.segment_rows) {
		size_t n = gallery.rows - first;
		uint64_t live[(MAX_ROWS + 63) / 64] = {0};
		uint8_t *nibbles;
		struct code_segment segment;

		n = n < gallery.segment_rows ? n : gallery.segment_rows;
		nibbles = planes + code_sign_bytes(n, gallery.dim);
		segment = (struct code_segment){planes, nibbles, live, n};
		memset(planes, 0,
		       code_sign_bytes(n, gallery.dim) + code_nibble_bytes(n, gallery.dim));
		code_encode(gallery.rows_at + first * gallery.dim, 0, n, gallery.dim, planes,
			    nibbles);
		for (size_t i = 0; i < n; i++)
			live[i / 64] |= (uint64_t)!gallery.dead[first + i] << i % 64;
		code_scan(&segment, queries, gallery.m);
		for (size_t p = 0; p < gallery.m; p++)
			settle(&queries[p], p, first);
	}
}

static void compare_results(void)
{
	for (size_t p = 0; p < gallery.m; p++) {
		assert_int_equal(got[p].n, want[p].n);
		for (size_t i = 0; i < want[p].n; i++) {
			assert_int_equal(got[p].hit[i].row, want[p].hit[i].row);
			assert_memory_equal(&got[p].hit[i].score, &want[p].hit[i].score,
					    sizeof(float));
		}
	}
}

/* The slow reference takes a share; what is not usable here leaves it to the fastest. */
static void choose_kernel(size_t number)
{
	size_t kernels = 0;

	while (score_kernel_at(kernels) != NULL)
		kernels++;
	if (score_init(score_kernel_at(number % 16 == 0 ? kernels - 1 : number % kernels)->name) !=
	    0)
		assert_int_equal(score_init(NULL), 0);
}

static void equals_an_exhaustive_scan(void **state)
{
	size_t found = 0;

	(void)state;
	for (size_t number = 0; number < GALLERIES; number++) {
		choose_kernel(number);
		seed = number * 7919;
		draw_gallery();
		for (size_t p = 0; p < gallery.m; p++) {
			search_exhaustively(p);
			found += want[p].n;
		}
		search_codes(CODE_CERTIFIED);
		compare_results();
		search_codes(CODE_FAST);
		compare_results();
	}
	assert_true(found > GALLERIES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(equals_an_exhaustive_scan)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
