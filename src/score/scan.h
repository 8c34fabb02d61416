/*
 * The scan of a kernel, in tiles of rows by probes: one accumulator for each
 * pair, so that the sums of a tile hide each other's latency and a row is read
 * once for all probes of the tile. The file that includes this defines before:
 *
 *   struct lanes                          SCORE_LANES partial sums
 *   lanes_zero(), lanes_fma(a, b, sums)   sums + a[0..15] * b[0..15], fused
 *   lanes_sum(sums)                       the tree of the door
 *   TILE_PAIRS                            pairs whose sums fit in registers: 4 or 16
 */
#ifndef SCORE_SCAN_H
#define SCORE_SCAN_H

#include <assert.h>

#include "kernel.h"

#define TILE_PROBES 4
#define TILE_ROWS   (TILE_PAIRS / TILE_PROBES)

static inline __attribute__((always_inline)) void tile(const float *rows, size_t nr,
						       const float *probes, size_t np, size_t dim,
						       float *out, size_t stride)
{
	struct lanes sums[TILE_ROWS][TILE_PROBES];

#pragma GCC unroll 4
	for (size_t r = 0; r < nr; r++)
#pragma GCC unroll 4
		for (size_t p = 0; p < np; p++)
			sums[r][p] = lanes_zero();
	for (size_t i = 0; i < dim; i += SCORE_LANES)
#pragma GCC unroll 4
		for (size_t r = 0; r < nr; r++)
#pragma GCC unroll 4
			for (size_t p = 0; p < np; p++)
				sums[r][p] = lanes_fma(rows + r * dim + i, probes + p * dim + i,
						       sums[r][p]);
#pragma GCC unroll 4
	for (size_t r = 0; r < nr; r++)
#pragma GCC unroll 4
		for (size_t p = 0; p < np; p++)
			out[p * stride + r] = lanes_sum(sums[r][p]);
}

static inline __attribute__((always_inline)) void
tile_rows(const float *rows, size_t n, const float *probes, size_t np, size_t dim, float *out)
{
	/* One probe waits for memory, which is fastest where rows follow one another. */
	const size_t step = np == 1 ? 1 : TILE_ROWS;
	size_t r = 0;

	for (; r + step <= n; r += step)
		tile(rows + r * dim, step, probes, np, dim, out + r, n);
	for (; r < n; r++)
		tile(rows + r * dim, 1, probes, np, dim, out + r, n);
}

static float dot(const float *a, const float *b, size_t dim)
{
	float sum;

	assert(dim % SCORE_LANES == 0);
	tile(a, 1, b, 1, dim, &sum, 1);
	return sum;
}

static void scan(const float *rows, size_t n, const float *probes, size_t m, size_t dim, float *out)
{
	size_t p = 0;

	assert(dim % SCORE_LANES == 0);
	for (; p + TILE_PROBES <= m; p += TILE_PROBES)
		tile_rows(rows, n, probes + p * dim, TILE_PROBES, dim, out + p * n);
	for (; p < m; p++)
		tile_rows(rows, n, probes + p * dim, 1, dim, out + p * n);
}

#endif
