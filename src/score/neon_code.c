/* ARMv8-A: four sign bits a lookup, 16 products a step. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "code.h"

/* A quarter of a block of signs: 8 even rows and 8 odd ones, as 16-bit sums. */
struct sums {
	uint16x8_t even, odd;
};

static inline struct sums add_plane(struct sums sums, uint8x16_t bits, uint8x16_t first,
				    uint8x16_t second)
{
	uint8x16_t sum = vaddq_u8(vqtbl1q_u8(first, vandq_u8(bits, vdupq_n_u8(15))),
				  vqtbl1q_u8(second, vshrq_n_u8(bits, 4)));
	uint16x8_t pair = vreinterpretq_u16_u8(sum);

	return (struct sums){vaddq_u16(sums.even, vandq_u16(pair, vdupq_n_u16(255))),
			     vsraq_n_u16(sums.odd, pair, 8)};
}

/* A bit for each of eight sums that reach their cuts. */
static inline uint64_t reaching(uint16x8_t sums, uint16x8_t cosines, const struct sign_query *query)
{
	static const uint16_t bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
	uint16x8_t slope = vdupq_n_u16(query->slope);
	uint16x8_t product = vcombine_u16(
		vshrn_n_u32(vmull_u16(vget_low_u16(cosines), vget_low_u16(slope)), 8),
		vshrn_n_u32(vmull_u16(vget_high_u16(cosines), vget_high_u16(slope)), 8));
	int16x8_t cut = vaddq_s16(vdupq_n_s16(query->base), vreinterpretq_s16_u16(product));

	return vaddvq_u16(vandq_u16(vcgeq_s16(vreinterpretq_s16_u16(sums), cut), vld1q_u16(bit)));
}

static uint64_t sign_block(const uint8_t *block, size_t dim, const struct sign_query *query)
{
	const struct code_probe *probe = query->probe;
	const uint16x8_t zero = vdupq_n_u16(0);
	struct sums sums[4] = {{zero, zero}, {zero, zero}, {zero, zero}, {zero, zero}};
	uint64_t mask = 0;

	for (size_t j = 0; j < dim / 8; j++) {
		uint8x16_t first = vld1q_u8(probe->by_four[2 * j]);
		uint8x16_t second = vld1q_u8(probe->by_four[2 * j + 1]);

		for (size_t k = 0; k < 4; k++)
			sums[k] = add_plane(sums[k], vld1q_u8(block + j * SIGN_BLOCK + 16 * k),
					    first, second);
	}
	for (size_t k = 0; k < 4; k++) {
		uint16x8_t pair =
			vreinterpretq_u16_u8(vld1q_u8(block + dim / 8 * SIGN_BLOCK + 16 * k));

		mask |= reaching(sums[k].even, vandq_u16(pair, vdupq_n_u16(255)), query) << 8 * k;
		mask |= reaching(sums[k].odd, vshrq_n_u16(pair, 8), query) << (8 * k + 32);
	}
	return mask;
}

static void signs(const uint8_t *plane, size_t blocks, size_t dim, const struct sign_query *queries,
		  size_t m, uint64_t *masks)
{
	for (size_t b = 0; b < blocks; b++)
		for (size_t p = 0; p < m; p++)
			masks[p * blocks + b] =
				sign_block(plane + b * sign_block_bytes(dim), dim, &queries[p]);
}

static inline int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b)
{
	sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
	return vpadalq_s16(sum, vmull_high_s8(a, b));
}

/*
 * The last load of a row may reach into what follows it in the block; the probe
 * is zero there.
 */
static inline int32_t row_sum(const uint8_t *code, size_t dim, const struct code_probe *probe)
{
	int32x4_t sum = vdupq_n_s32(0);

	for (size_t j = 0; j < dim / 2; j += 16) {
		uint8x16_t v = vld1q_u8(code + j);

		sum = add_products(sum, vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))),
				   vld1q_s8(probe->halves[0] + j));
		sum = add_products(sum, vreinterpretq_s8_u8(vshrq_n_u8(v, 4)),
				   vld1q_s8(probe->halves[1] + j));
	}
	return vaddvq_s32(sum);
}

#include "code_rows.h"

static void nibbles(const uint8_t *block, size_t dim, const struct nibble_query *queries, size_t m,
		    uint16_t *masks)
{
	for (size_t p = 0; p < m; p++)
		masks[p] = passing_rows(block, dim, &queries[p]);
}

const struct code_kernel code_neon = {signs, nibbles, pick};
#endif
