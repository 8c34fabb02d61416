/*
 * What kernels share that take nibbles row by row. The file that includes this
 * defines before:
 *
 *   row_sum(code, dim, probe)   the sum of products of one row's steps with a probe
 */
#ifndef SCORE_CODE_ROWS_H
#define SCORE_CODE_ROWS_H

#include <stdbool.h>
#include <string.h>

#include "code.h"

static inline bool passes(const uint8_t *block, size_t within, size_t dim,
			  const struct nibble_query *query)
{
	struct nibble_fit fit;
	int32_t cut;

	memcpy(&fit, block + NIBBLE_BLOCK * dim / 2 + within * sizeof(fit), sizeof(fit));
	cut = fit.along * query->by_along + fit.beside * query->by_beside;
	return row_sum(block + within * dim / 2, dim, query->probe) >=
	       query->base + (cut >> NIBBLE_CUT_SHIFT);
}

static inline uint16_t passing_rows(const uint8_t *block, size_t dim,
				    const struct nibble_query *query)
{
	uint16_t mask = 0;

	for (size_t i = 0; i < NIBBLE_BLOCK; i++)
		mask |= (uint16_t)(passes(block, i, dim, query) << i);
	return mask;
}

static size_t pick(const uint8_t *plane, size_t dim, const struct nibble_query *query,
		   uint16_t *rows, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		const uint8_t *block = plane + rows[i] / NIBBLE_BLOCK * nibble_block_bytes(dim);

		if (passes(block, rows[i] % NIBBLE_BLOCK, dim, query))
			rows[kept++] = rows[i];
	}
	return kept;
}

#endif
