/* The reference: plain C over the tables of four. */

#include "code.h"

static int sign_cut(const struct sign_query *query, uint8_t cosine)
{
	return query->base + (cosine * query->slope >> 8);
}

static uint64_t sign_block(const uint8_t *block, size_t dim, const struct sign_query *query)
{
	int sums[SIGN_BLOCK] = {0};
	uint64_t mask = 0;

	for (size_t j = 0; j < dim / 8; j++)
		for (size_t i = 0; i < SIGN_BLOCK; i++) {
			uint8_t bits = block[j * SIGN_BLOCK + i];

			sums[i] += query->probe->by_four[2 * j][bits & 15] +
				   query->probe->by_four[2 * j + 1][bits >> 4];
		}
	for (size_t row = 0; row < SIGN_BLOCK; row++) {
		size_t place = sign_place(row);
		uint8_t cosine = block[dim / 8 * SIGN_BLOCK + place];

		mask |= (uint64_t)(sums[place] >= sign_cut(query, cosine)) << row;
	}
	return mask;
}

static void signs(const uint8_t *plane, size_t blocks, size_t dim, const struct sign_query *queries,
		  size_t m, uint64_t *masks)
{
	for (size_t p = 0; p < m; p++)
		for (size_t b = 0; b < blocks; b++)
			masks[p * blocks + b] =
				sign_block(plane + b * sign_block_bytes(dim), dim, &queries[p]);
}

static int32_t row_sum(const uint8_t *code, size_t dim, const struct code_probe *probe)
{
	int32_t sum = 0;

	for (size_t j = 0; j < dim / 2; j++)
		sum += (code[j] & 15) * probe->halves[0][j] + (code[j] >> 4) * probe->halves[1][j];
	return sum;
}

#include "code_rows.h"

static void nibbles(const uint8_t *block, size_t dim, const struct nibble_query *queries, size_t m,
		    uint16_t *masks)
{
	for (size_t p = 0; p < m; p++)
		masks[p] = passing_rows(block, dim, &queries[p]);
}

const struct code_kernel code_portable = {signs, nibbles, pick};
