/* The stages of a scan, and the bars that a row has to pass in each. */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "code.h"
#include "kernel.h"

/* What the rounding of float32 scores and lengths can move a score by. */
#define SCORE_SLACK 3e-5
/* Standard deviations of the one stage that is not certain. */
#define SIGMAS 6
/* The cosine of a random direction and its signs, sqrt(2 / pi). */
#define SIGN_RHO 0.79788456
/* Scans without signs, after they left too many rows to be worth their reading. */
#define REST 16

/*
 * The least cosine that a probe can have with a code whose cosine with its
 * template is rho, where its cosine with the template is t: the angles add up in
 * the worst case, cos(acos t + acos rho).
 */
static double worst(double t, double rho)
{
	return t * rho - sqrt((1 - rho * rho) * (1 - t * t));
}

/* Both aims are for bars above zero alone, where a bound grows with t and rho. */
static bool aim_nibbles(const struct code_probe *probe, double t, struct nibble_query *out)
{
	double scale = probe->nibble_norm * (1 << NIBBLE_CUT_SHIFT) / NIBBLE_FIT_ONE;

	t = worst(t, probe->nibble_rho);
	out->probe = probe;
	out->base = (int32_t)floor(7.5 * probe->nibble_sum);
	out->by_along = (int16_t)floor(scale * t);
	out->by_beside = (int16_t)-ceil(scale * sqrt(1 - t * t));
	return t > 0;
}

/*
 * The cosine of the probe's integers and a row's signs has the mean t * q * rho and
 * the variance (a - b * rho * rho) / (dim - 1), q and rho being the cosines of
 * probe and integers, template and signs. The bar SIGMAS below the mean is
 * convex in rho, so that its tangent at the usual rho never asks for more.
 */
static bool aim_signs(const struct code_probe *probe, double t, struct sign_query *out)
{
	double k = SIGMAS / sqrt((double)probe->dim - 1);
	double q = probe->sign_rho, a = 1 - t * t * q * q, b = q * q + t * t * (1 - 2 * q * q);
	double deviation = sqrt(a - b * SIGN_RHO * SIGN_RHO);
	double slope = t * q + k * b * SIGN_RHO / deviation;
	double at_zero = t * q * SIGN_RHO - k * deviation - slope * SIGN_RHO;
	double scale = probe->sign_norm * sqrt((double)probe->dim) / 2;

	assert(scale * (at_zero + slope) < INT16_MAX - probe->sign_sum);
	out->probe = probe;
	out->base = (int16_t)floor(probe->sign_sum / 2.0 + scale * at_zero);
	out->slope = (uint16_t)floor(scale * slope);
	return at_zero + slope > 0;
}

/* The rows of a block of signs that count. */
static uint64_t live_rows(const struct code_segment *segment, size_t block)
{
	uint64_t live = segment->live == NULL ? UINT64_MAX : segment->live[block];
	size_t left = segment->rows - block * SIGN_BLOCK;

	return left < SIGN_BLOCK ? live & ((UINT64_C(1) << left) - 1) : live;
}

static size_t blocks_of(const struct code_segment *segment)
{
	return (segment->rows + SIGN_BLOCK - 1) / SIGN_BLOCK;
}

static void take_rows(struct code_query *query, uint64_t mask, size_t first)
{
	for (; mask != 0; mask &= mask - 1)
		query->rows[query->n++] = (uint16_t)(first + (size_t)__builtin_ctzll(mask));
}

static void take_all(const struct code_segment *segment, struct code_query *query)
{
	for (size_t b = 0; b < blocks_of(segment); b++)
		take_rows(query, live_rows(segment, b), b * SIGN_BLOCK);
}

/* The codes of rows just found are wanted as soon as their segment's signs are through. */
static void fetch_nibbles(const struct code_segment *segment, const struct code_query *query,
			  size_t from)
{
	size_t dim = query->probe->dim;

	for (size_t i = from; i < query->n; i++) {
		const char *block = (const char *)segment->nibbles +
				    query->rows[i] / NIBBLE_BLOCK * nibble_block_bytes(dim);
		const char *code = block + query->rows[i] % NIBBLE_BLOCK * dim / 2;

		for (size_t k = 0; k < dim / 2; k += 64)
			__builtin_prefetch(code + k, 0, 2);
		__builtin_prefetch(block + NIBBLE_BLOCK * dim / 2, 0, 2);
	}
}

/* The queries of one stage: what the kernel needs, and where the rows go. */
struct by_signs {
	struct sign_query aim[CODE_MAX_PROBES];
	struct nibble_query next[CODE_MAX_PROBES];
	struct code_query *query[CODE_MAX_PROBES];
	size_t m;
};

struct by_nibbles {
	struct nibble_query aim[CODE_MAX_PROBES];
	struct code_query *query[CODE_MAX_PROBES];
	size_t m;
};

static void scan_signs(const struct code_segment *segment, size_t dim, const struct by_signs *stage)
{
	const struct code_kernel *kernel = score_kernel()->codes;
	uint64_t masks[CODE_MAX_PROBES * SIGN_BLOCKS_AT_ONCE], live[SIGN_BLOCKS_AT_ONCE];

	for (size_t b = 0; b < blocks_of(segment); b += SIGN_BLOCKS_AT_ONCE) {
		const uint8_t *at = (const uint8_t *)segment->signs + b * sign_block_bytes(dim);
		size_t blocks = blocks_of(segment) - b;
		uint64_t any = 0;

		blocks = blocks < SIGN_BLOCKS_AT_ONCE ? blocks : SIGN_BLOCKS_AT_ONCE;
		for (size_t i = 0; i < blocks; i++)
			any |= live[i] = live_rows(segment, b + i);
		if (any == 0)
			continue;
		kernel->signs(at, blocks, dim, stage->aim, stage->m, masks);
		for (size_t p = 0; p < stage->m; p++) {
			size_t from = stage->query[p]->n;

			for (size_t i = 0; i < blocks; i++)
				take_rows(stage->query[p], masks[p * blocks + i] & live[i],
					  (b + i) * SIGN_BLOCK);
			fetch_nibbles(segment, stage->query[p], from);
		}
	}
}

/* Signs pay where what they leave costs less than the reading they save. */
static void pace(struct code_query *query, uint64_t live)
{
	if (query->n * 4 > live)
		query->rest = REST;
}

static void settle_signs(const struct code_segment *segment, size_t dim,
			 const struct by_signs *stage, uint64_t live)
{
	const struct code_kernel *kernel = score_kernel()->codes;

	for (size_t p = 0; p < stage->m; p++) {
		struct code_query *query = stage->query[p];

		query->by_signs += query->n;
		pace(query, live);
		query->n =
			kernel->pick(segment->nibbles, dim, &stage->next[p], query->rows, query->n);
	}
}

static void scan_nibbles(const struct code_segment *segment, size_t dim,
			 const struct by_nibbles *stage)
{
	const struct code_kernel *kernel = score_kernel()->codes;
	uint16_t masks[CODE_MAX_PROBES];

	for (size_t first = 0; first < segment->rows; first += NIBBLE_BLOCK) {
		const uint8_t *block = (const uint8_t *)segment->nibbles +
				       first / NIBBLE_BLOCK * nibble_block_bytes(dim);
		uint16_t live =
			(uint16_t)(live_rows(segment, first / SIGN_BLOCK) >> first % SIGN_BLOCK);

		if (live == 0)
			continue;
		kernel->nibbles(block, dim, stage->aim, stage->m, masks);
		for (size_t p = 0; p < stage->m; p++)
			take_rows(stage->query[p], masks[p] & live, first);
	}
}

void code_scan(const struct code_segment *segment, struct code_query *queries, size_t m)
{
	struct by_signs signs = {.m = 0};
	struct by_nibbles nibbles = {.m = 0};
	uint64_t live = 0;
	size_t dim;

	assert(m > 0 && m <= CODE_MAX_PROBES && segment->rows <= CODE_MAX_ROWS);
	dim = queries[0].probe->dim;
	for (size_t b = 0; b < blocks_of(segment); b++)
		live += (uint64_t)__builtin_popcountll(live_rows(segment, b));
	for (size_t p = 0; p < m; p++) {
		struct code_query *query = &queries[p];
		double t = fmin((double)query->bar - SCORE_SLACK, 1);
		bool rests = query->rest > 0;

		assert(query->probe->dim == dim);
		query->n = 0;
		query->seen += live;
		if (rests)
			query->rest--;
		if (t <= 0 || !aim_nibbles(query->probe, t, &nibbles.aim[nibbles.m])) {
			take_all(segment, query);
		} else if (query->mode == CODE_FAST && !rests &&
			   aim_signs(query->probe, t, &signs.aim[signs.m])) {
			signs.next[signs.m] = nibbles.aim[nibbles.m];
			signs.query[signs.m++] = query;
		} else {
			nibbles.query[nibbles.m++] = query;
		}
	}
	if (signs.m > 0)
		scan_signs(segment, dim, &signs);
	settle_signs(segment, dim, &signs, live);
	if (nibbles.m > 0)
		scan_nibbles(segment, dim, &nibbles);
	for (size_t p = 0; p < m; p++)
		queries[p].by_nibbles += queries[p].n;
}
