/*
 * The layout of the planes and what a kernel does with them. Everything after
 * code_probe_init is arithmetic on integers, so every kernel finds the same rows.
 *
 * Sign plane: blocks of 64 rows. Byte j of the 64 rows' codes (elements 8j..8j+7,
 * lowest bit first) stands together, dim/8 times 64 bytes; then come 64 bytes of
 * cosines in 256ths, rounded down. Within 64 bytes row r stands at sign_place(r),
 * so that the even and the odd bytes hold 32 rows in order each.
 *
 * Nibble plane: blocks of 16 rows. A row's code is dim/2 bytes: byte j holds
 * element j below and element j + dim/2 above, as steps 0..15 that stand for
 * -7.5..7.5. After the 16 codes come 16 pairs (struct nibble_fit).
 */
#ifndef SCORE_CODE_H
#define SCORE_CODE_H

#include "biomatch/code.h"

#define SIGN_BLOCK   64
#define NIBBLE_BLOCK 16
/* Blocks of signs a kernel takes at once: they stay in the first cache. */
#define SIGN_BLOCKS_AT_ONCE 4

/*
 * How a code fits its template: the template's component along the code, and the
 * code's component beside the template, in 128ths of a step; rounded against us.
 */
struct nibble_fit {
	int16_t along, beside;
};

#define NIBBLE_FIT_ONE 128

static inline size_t sign_place(size_t row)
{
	return row % 32 * 2 + row / 32;
}

static inline size_t sign_block_bytes(size_t dim)
{
	return SIGN_BLOCK * (dim / 8 + 1);
}

static inline size_t nibble_block_bytes(size_t dim)
{
	return NIBBLE_BLOCK * (dim / 2 + sizeof(struct nibble_fit));
}

/* Row passes where its sum reaches base + (cosine * slope >> 8), all within 16 bits. */
struct sign_query {
	const struct code_probe *probe;
	int16_t base;
	uint16_t slope;
};

/* Row passes where its sum reaches base + ((along * by_along + beside * by_beside) >> 10). */
struct nibble_query {
	const struct code_probe *probe;
	int32_t base;
	int16_t by_along, by_beside;
};

#define NIBBLE_CUT_SHIFT 10

struct code_kernel {
	/*
	 * At most SIGN_BLOCKS_AT_ONCE blocks: masks[p * blocks + b] gets a bit for
	 * each row of block b that passes query p.
	 */
	void (*signs)(const uint8_t *plane, size_t blocks, size_t dim,
		      const struct sign_query *queries, size_t m, uint64_t *masks);
	/* One block: masks[p] gets a bit for each of its rows that passes. */
	void (*nibbles)(const uint8_t *block, size_t dim, const struct nibble_query *queries,
			size_t m, uint16_t *masks);
	/* Keeps those of n rows that pass; returns how many. */
	size_t (*pick)(const uint8_t *plane, size_t dim, const struct nibble_query *query,
		       uint16_t *rows, size_t n);
};

extern const struct code_kernel code_portable;
#if defined(__x86_64__)
extern const struct code_kernel code_avx2;
extern const struct code_kernel code_avx512;
#elif defined(__aarch64__)
extern const struct code_kernel code_neon;
#endif

#endif
