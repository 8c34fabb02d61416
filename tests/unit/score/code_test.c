/* Codes: every kernel finds the rows the portable one finds, and bounds hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/score/code.h"
#include "biomatch/score.h"

#define MAX_BLOCKS 8 /* of nibbles */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 300 /* sanitizers are slow */
#else
#define ROUNDS 1500
#endif

static const size_t dims[] = {16, 32, 48, 64, 112, 128, 160, 256, 512, 768, 1024};

#define DIMS (sizeof(dims) / sizeof(dims[0]))

static uint64_t seed;

static uint64_t draw(void)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return seed >> 33;
}

static int draw_between(int least, int most)
{
	return least + (int)(draw() % (uint64_t)(most - least + 1));
}

static float draw_normal(void)
{
	float sum = 0;

	for (int i = 0; i < 6; i++)
		sum += (float)((double)draw() / 0x1p31 - 0.5);
	return sum * 1.41421356f;
}

static void draw_direction(float *v, size_t dim)
{
	for (size_t i = 0; i < dim; i++)
		v[i] = draw_normal();
	assert_int_equal(score_normalise(v, dim), 0);
}

/* One in four has nearly all of its length in a few elements. */
static void draw_unit(float *v, size_t dim)
{
	bool peaked = draw() % 4 == 0;

	for (size_t i = 0; i < dim; i++)
		v[i] = draw_normal() * (peaked && draw() % 8 != 0 ? 1e-3f : 1);
	assert_int_equal(score_normalise(v, dim), 0);
}

static const struct code_kernel *portable(void)
{
	size_t i = 0;

	while (score_kernel_at(i + 1) != NULL)
		i++;
	return score_kernel_at(i)->codes;
}

static void *allocate(size_t bytes)
{
	void *memory = aligned_alloc(CODE_ALIGN, (bytes + 63) / 64 * 64);

	assert_non_null(memory);
	memset(memory, 0, bytes);
	return memory;
}

static struct code_probe *make_probes(size_t m, size_t dim)
{
	struct code_probe *probes = allocate(m * sizeof(*probes));
	float v[CODE_MAX_DIM];

	for (size_t p = 0; p < m; p++) {
		draw_unit(v, dim);
		code_probe_init(&probes[p], v, dim);
	}
	return probes;
}

static void compare_signs(const struct code_kernel *kernel, size_t dim, size_t blocks, size_t m)
{
	uint64_t want[CODE_MAX_PROBES * SIGN_BLOCKS_AT_ONCE + 1];
	uint64_t got[CODE_MAX_PROBES * SIGN_BLOCKS_AT_ONCE + 1];
	struct sign_query queries[CODE_MAX_PROBES];
	struct code_probe *probes = make_probes(m, dim);
	uint8_t *plane = allocate(blocks * sign_block_bytes(dim));

	for (size_t i = 0; i < blocks * sign_block_bytes(dim); i++)
		plane[i] = (uint8_t)draw();
	for (size_t p = 0; p < m; p++)
		queries[p] = (struct sign_query){
			.probe = &probes[p],
			.base = (int16_t)draw_between(-probes[p].sign_sum, probes[p].sign_sum / 2),
			.slope = (uint16_t)draw_between(0, probes[p].sign_sum * 2)};
	memset(want, 0x33, sizeof(want));
	memset(got, 0x33, sizeof(got));
	portable()->signs(plane, blocks, dim, queries, m, want);
	kernel->signs(plane, blocks, dim, queries, m, got);
	assert_memory_equal(got, want, sizeof(want));
	free(plane);
	free(probes);
}

static void signs_equal_portable(void **state)
{
	(void)state;
	for (size_t k = 0; score_kernel_at(k) != NULL; k++) {
		if (!score_kernel_at(k)->usable())
			continue;
		for (size_t d = 0; d < DIMS; d++)
			for (size_t blocks = 1; blocks <= SIGN_BLOCKS_AT_ONCE; blocks++)
				for (size_t m = 1; m <= CODE_MAX_PROBES; m += 1 + m / 2 * 2)
					compare_signs(score_kernel_at(k)->codes, dims[d], blocks,
						      m);
	}
}

/* Codes and fits of any value, the largest among them. */
static void fill_nibbles(uint8_t *plane, size_t blocks, size_t dim)
{
	for (size_t b = 0; b < blocks; b++) {
		uint8_t *block = plane + b * nibble_block_bytes(dim);

		for (size_t i = 0; i < NIBBLE_BLOCK * dim / 2; i++)
			block[i] = draw() % 16 == 0 ? 0xff : (uint8_t)draw();
		for (size_t i = 0; i < NIBBLE_BLOCK; i++) {
			struct nibble_fit fit = {(int16_t)draw_between(-30720, 30720),
						 (int16_t)draw_between(0, 30720)};

			memcpy(block + NIBBLE_BLOCK * dim / 2 + i * sizeof(fit), &fit, sizeof(fit));
		}
	}
}

static void compare_nibbles(const struct code_kernel *kernel, size_t dim, size_t m)
{
	uint16_t want[CODE_MAX_PROBES + 1], got[CODE_MAX_PROBES + 1];
	uint16_t want_rows[MAX_BLOCKS * NIBBLE_BLOCK], got_rows[MAX_BLOCKS * NIBBLE_BLOCK];
	struct nibble_query queries[CODE_MAX_PROBES];
	struct code_probe *probes = make_probes(m, dim);
	uint8_t *plane = allocate(MAX_BLOCKS * nibble_block_bytes(dim));
	size_t n = 0, kept;

	fill_nibbles(plane, MAX_BLOCKS, dim);
	for (size_t p = 0; p < m; p++)
		queries[p] = (struct nibble_query){
			.probe = &probes[p],
			.base = (int32_t)(7.5 * probes[p].nibble_sum) + draw_between(-900, 900),
			.by_along = (int16_t)draw_between(0, draw() % 2 ? 100 : 32512),
			.by_beside = (int16_t)-draw_between(0, draw() % 2 ? 100 : 32512)};
	memset(want, 0x33, sizeof(want));
	memset(got, 0x33, sizeof(got));
	portable()->nibbles(plane, dim, queries, m, want);
	kernel->nibbles(plane, dim, queries, m, got);
	assert_memory_equal(got, want, sizeof(want));
	for (size_t row = 0; row < MAX_BLOCKS * NIBBLE_BLOCK; row++)
		if (draw() % 3 == 0)
			want_rows[n] = got_rows[n] = (uint16_t)row, n++;
	kept = portable()->pick(plane, dim, queries, want_rows, n);
	assert_int_equal(kernel->pick(plane, dim, queries, got_rows, n), kept);
	assert_memory_equal(got_rows, want_rows, kept * sizeof(want_rows[0]));
	free(plane);
	free(probes);
}

static void nibbles_equal_portable(void **state)
{
	(void)state;
	for (size_t k = 0; score_kernel_at(k) != NULL; k++) {
		if (!score_kernel_at(k)->usable())
			continue;
		for (size_t d = 0; d < DIMS; d++)
			for (size_t m = 1; m <= CODE_MAX_PROBES; m += 1 + m / 2 * 2)
				compare_nibbles(score_kernel_at(k)->codes, dims[d], m);
	}
}

static void planes_have_the_stated_sizes(void **state)
{
	(void)state;
	assert_int_equal(code_sign_bytes(4096, 512), 4096 * 65);
	assert_int_equal(code_nibble_bytes(4096, 512), 4096 * 260);
	assert_int_equal(code_sign_bytes(1, 16), 64 * 3);
	assert_int_equal(code_nibble_bytes(17, 16), 32 * 12);
	assert_int_equal(code_sign_bytes(0, 512), 0);
	for (size_t d = 0; d < DIMS; d++)
		for (size_t rows = 1; rows < 200; rows += 7) {
			assert_int_equal(code_sign_bytes(rows, dims[d]) % CODE_ALIGN, 0);
			assert_int_equal(code_nibble_bytes(rows, dims[d]) % CODE_ALIGN, 0);
		}
}

/* Encoding by parts gives the same planes, and touches nothing outside them. */
static void encodes_in_parts(void **state)
{
	const size_t dim = 128, rows = 150;
	size_t signs = code_sign_bytes(rows, dim), nibbles = code_nibble_bytes(rows, dim);
	uint8_t *whole = allocate(signs + nibbles + 64), *parts = allocate(signs + nibbles + 64);
	float *v = allocate(rows * dim * sizeof(float));

	(void)state;
	for (size_t i = 0; i < rows; i++)
		draw_unit(v + i * dim, dim);
	code_encode(v, 0, rows, dim, whole, whole + signs);
	for (size_t first = 0; first < rows; first += 64)
		code_encode(v + first * dim, first, rows - first < 64 ? rows - first : 64, dim,
			    parts, parts + signs);
	assert_memory_equal(whole, parts, signs + nibbles + 64);
	free(whole);
	free(parts);
	free(v);
}

/* Erased, a row leaves the planes as they are without it. */
static void erases_a_row(void **state)
{
	const size_t rows = 150;

	(void)state;
	for (size_t d = 0; d < DIMS; d++) {
		size_t dim = dims[d], gone = draw() % rows;
		size_t signs = code_sign_bytes(rows, dim), nibbles = code_nibble_bytes(rows, dim);
		uint8_t *erased = allocate(signs + nibbles + 64);
		uint8_t *without = allocate(signs + nibbles + 64);
		float *v = allocate(rows * dim * sizeof(float));

		for (size_t i = 0; i < rows; i++)
			draw_unit(v + i * dim, dim);
		code_encode(v, 0, rows, dim, erased, erased + signs);
		code_erase(gone, dim, erased, erased + signs);
		code_encode(v, 0, gone, dim, without, without + signs);
		code_encode(v + (gone + 1) * dim, gone + 1, rows - gone - 1, dim, without,
			    without + signs);
		assert_memory_equal(erased, without, signs + nibbles + 64);
		free(erased);
		free(without);
		free(v);
	}
}

/* A probe at this cosine with a template, in a random direction. */
static void draw_mate(const float *x, double cosine, size_t dim, float *out)
{
	float other[CODE_MAX_DIM];
	double along = 0, rest = 0;

	draw_direction(other, dim);
	for (size_t i = 0; i < dim; i++)
		along += (double)x[i] * (double)other[i];
	for (size_t i = 0; i < dim; i++) {
		other[i] -= (float)along * x[i];
		rest += (double)other[i] * (double)other[i];
	}
	for (size_t i = 0; i < dim; i++)
		out[i] = (float)(cosine * (double)x[i] +
				 sqrt((1 - cosine * cosine) / rest) * (double)other[i]);
	assert_int_equal(score_normalise(out, dim), 0);
}

/* The one row is found at every bar up to its own score, the score itself included. */
static void never_loses_a_row(void **state)
{
	struct code_probe *probe = allocate(sizeof(*probe));
	uint8_t *plane = allocate(code_sign_bytes(1, 1024) + code_nibble_bytes(1, 1024));
	float x[CODE_MAX_DIM], q[CODE_MAX_DIM];

	(void)state;
	assert_int_equal(score_init(NULL), 0);
	for (size_t round = 0; round < 4 * ROUNDS; round++) {
		size_t dim = dims[round % DIMS];
		uint8_t *nibbles = plane + code_sign_bytes(1, dim);
		uint16_t rows[64];
		struct code_segment segment = {plane, nibbles, NULL, 1};
		struct code_query query = {.probe = probe, .rows = rows};

		memset(plane, 0, code_sign_bytes(1, dim) + code_nibble_bytes(1, dim));
		draw_unit(x, dim);
		draw_mate(x, draw_between(-1000, 1000) / 1000.0, dim, q);
		code_encode(x, 0, 1, dim, plane, nibbles);
		code_probe_init(probe, q, dim);
		for (int mode = CODE_CERTIFIED; mode <= CODE_FAST; mode++) {
			query.mode = mode;
			query.bar = score_dot(x, q, dim);
			code_scan(&segment, &query, 1);
			assert_int_equal(query.n, 1);
			query.bar -= (float)draw_between(0, 100) / 100;
			code_scan(&segment, &query, 1);
			assert_int_equal(query.n, 1);
		}
	}
	free(probe);
	free(plane);
}

/* The direction that the nibbles of row 0 stand for. */
static void decode(const uint8_t *code, size_t dim, float *out)
{
	for (size_t i = 0; i < dim / 2; i++) {
		out[i] = (float)(code[i] & 15) - 7.5f;
		out[i + dim / 2] = (float)(code[i] >> 4) - 7.5f;
	}
	assert_int_equal(score_normalise(out, dim), 0);
}

/*
 * The probe that a code misleads most: at this cosine with the template, on the
 * side away from the code. The bound leaves nothing to spare there.
 */
static void never_loses_the_worst_row(void **state)
{
	struct code_probe *probe = allocate(sizeof(*probe));
	uint8_t *plane = allocate(code_sign_bytes(1, 1024) + code_nibble_bytes(1, 1024));
	float x[CODE_MAX_DIM], coded[CODE_MAX_DIM], q[CODE_MAX_DIM];
	size_t pruned = 0;

	(void)state;
	for (size_t round = 0; round < ROUNDS; round++) {
		size_t dim = dims[round % DIMS];
		double t = draw_between(300, 999) / 1000.0, rho;
		uint16_t rows[64];
		struct code_segment segment = {plane, plane + code_sign_bytes(1, dim), NULL, 1};
		struct code_query query = {.probe = probe, .rows = rows};

		memset(plane, 0, code_sign_bytes(1, dim) + code_nibble_bytes(1, dim));
		draw_unit(x, dim);
		code_encode(x, 0, 1, dim, plane, plane + code_sign_bytes(1, dim));
		decode(plane + code_sign_bytes(1, dim), dim, coded);
		rho = (double)score_dot(x, coded, dim);
		for (size_t i = 0; i < dim; i++)
			q[i] = (float)(t * (double)x[i] -
				       sqrt((1 - t * t) / (1 - rho * rho)) *
					       ((double)coded[i] - rho * (double)x[i]));
		assert_int_equal(score_normalise(q, dim), 0);
		code_probe_init(probe, q, dim);
		query.bar = score_dot(x, q, dim);
		code_scan(&segment, &query, 1);
		assert_int_equal(query.n, 1);
		query.bar += 0.05f;
		code_scan(&segment, &query, 1);
		pruned += query.n == 0;
	}
	assert_true(pruned > ROUNDS * 9 / 10);
	free(probe);
	free(plane);
}

/* A random segment without mates: what each stage leaves of it at this bar. */
static struct code_query scan_strangers(size_t rows, size_t dim, float bar, size_t scans)
{
	struct code_probe *probe = allocate(sizeof(*probe));
	uint8_t *signs = allocate(code_sign_bytes(rows, dim));
	uint8_t *nibbles = allocate(code_nibble_bytes(rows, dim));
	uint16_t *found = allocate(rows * sizeof(*found));
	struct code_segment segment = {signs, nibbles, NULL, rows};
	struct code_query query = {.probe = probe, .mode = CODE_FAST, .bar = bar, .rows = found};
	float x[CODE_MAX_DIM];

	draw_direction(x, dim);
	code_probe_init(probe, x, dim);
	for (size_t row = 0; row < rows; row++) {
		draw_direction(x, dim);
		code_encode(x, row, 1, dim, signs, nibbles);
	}
	while (scans-- > 0)
		code_scan(&segment, &query, 1);
	free(probe);
	free(signs);
	free(nibbles);
	free(found);
	return query;
}

static void leaves_few_rows(void **state)
{
	struct code_query query = scan_strangers(2000, 512, 0.4f, 1);

	(void)state;
	assert_int_equal(query.seen, 2000);
	assert_true(query.by_signs < 100);
	assert_true(query.by_nibbles <= 2);
	assert_true(query.n == query.by_nibbles);
	assert_int_equal(query.rest, 0);
}

/* Where signs leave most rows, they are left unread for a while. */
static void rests_signs_that_do_not_pay(void **state)
{
	struct code_query query = scan_strangers(500, 64, 0.3f, 3);

	(void)state;
	assert_true(query.by_signs > 125 && query.by_signs <= 500);
	assert_true(query.rest > 0);
	assert_int_equal(query.seen, 1500);
}

static void takes_every_row_at_no_bar(void **state)
{
	struct code_query query = scan_strangers(130, 128, -1, 1);

	(void)state;
	assert_int_equal(query.n, 130);
}

/* The sum of the portable kernel for the one row of a plane. */
static double sign_cosine(const uint8_t *plane, size_t dim, const struct code_probe *probe)
{
	int sum = 0;

	for (size_t j = 0; j < dim / 8; j++)
		sum += probe->by_four[2 * j][plane[j * SIGN_BLOCK] & 15] +
		       probe->by_four[2 * j + 1][plane[j * SIGN_BLOCK] >> 4];
	return (2 * sum - probe->sign_sum) / (probe->sign_norm * sqrt((double)dim));
}

/* Six deviations mean what docs/identify.md says only if the deviation is right. */
static void signs_deviate_as_derived(void **state)
{
	static const double cosines[] = {0, 0.2, 0.4, 0.6, 0.8};
	static const size_t sizes[] = {128, 512};
	struct code_probe *probe = allocate(sizeof(*probe));
	uint8_t *plane = allocate(code_sign_bytes(1, 512) + code_nibble_bytes(1, 512));
	float x[512], v[512];

	(void)state;
	for (size_t c = 0; c < 10; c++) {
		size_t dim = sizes[c % 2], rounds = ROUNDS;
		double t = cosines[c / 2], sum = 0, squares = 0, largest = 0;

		for (size_t round = 0; round < rounds; round++) {
			double q, r, mean, deviation, z;

			draw_direction(x, dim);
			draw_mate(x, t, dim, v);
			memset(plane, 0, code_sign_bytes(1, dim) + code_nibble_bytes(1, dim));
			code_encode(x, 0, 1, dim, plane, plane + code_sign_bytes(1, dim));
			code_probe_init(probe, v, dim);
			q = probe->sign_rho;
			r = plane[dim / 8 * SIGN_BLOCK] / 256.0 + 1.0 / 512;
			mean = t * q * r;
			deviation = sqrt(
				(1 - q * q * r * r - t * t * (q * q + r * r - 2 * q * q * r * r)) /
				(double)(dim - 1));
			z = (sign_cosine(plane, dim, probe) - mean) / deviation;
			sum += z;
			squares += z * z;
			largest = fmax(largest, fabs(z));
		}
		assert_true(fabs(sum / (double)rounds) < 0.3);
		assert_true(fabs(sqrt(squares / (double)rounds) - 1) < 0.15);
		assert_true(largest < 5);
	}
	free(probe);
	free(plane);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(planes_have_the_stated_sizes),
		cmocka_unit_test(encodes_in_parts),
		cmocka_unit_test(erases_a_row),
		cmocka_unit_test(signs_equal_portable),
		cmocka_unit_test(nibbles_equal_portable),
		cmocka_unit_test(never_loses_a_row),
		cmocka_unit_test(never_loses_the_worst_row),
		cmocka_unit_test(leaves_few_rows),
		cmocka_unit_test(rests_signs_that_do_not_pay),
		cmocka_unit_test(takes_every_row_at_no_bar),
		cmocka_unit_test(signs_deviate_as_derived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
