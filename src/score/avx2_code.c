/* x86-64 with AVX2: four sign bits a lookup, 32 products a step. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "code.h"

/* Half a block of signs: 16 even rows and 16 odd ones, as 16-bit sums. */
struct sums {
	__m256i even, odd;
};

static inline __m256i table_at(const uint8_t *table)
{
	return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)table));
}

static inline __m256i load(const void *at)
{
	return _mm256_loadu_si256((const __m256i *)at);
}

static inline struct sums add_plane(struct sums sums, const uint8_t *at, __m256i first,
				    __m256i second)
{
	const __m256i low = _mm256_set1_epi8(15), byte = _mm256_set1_epi16(255);
	__m256i bits = load(at);
	__m256i sum = _mm256_add_epi8(
		_mm256_shuffle_epi8(first, _mm256_and_si256(bits, low)),
		_mm256_shuffle_epi8(second, _mm256_and_si256(_mm256_srli_epi16(bits, 4), low)));

	return (struct sums){_mm256_add_epi16(sums.even, _mm256_and_si256(sum, byte)),
			     _mm256_add_epi16(sums.odd, _mm256_srli_epi16(sum, 8))};
}

/* A bit for each of 32 sums that lie below their cuts. */
static inline uint32_t below(__m256i a, __m256i b, __m256i cut_a, __m256i cut_b)
{
	__m256i both =
		_mm256_packs_epi16(_mm256_cmpgt_epi16(cut_a, a), _mm256_cmpgt_epi16(cut_b, b));

	return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(both, 0xd8));
}

static inline __m256i cut_of(__m256i cosine, const struct sign_query *query)
{
	return _mm256_add_epi16(_mm256_set1_epi16(query->base),
				_mm256_mulhi_epu16(cosine, _mm256_set1_epi16((short)query->slope)));
}

static uint64_t sign_block(const uint8_t *block, size_t dim, const struct sign_query *query)
{
	const struct code_probe *probe = query->probe;
	const uint8_t *cosines = block + dim / 8 * SIGN_BLOCK;
	const __m256i upper = _mm256_set1_epi16((short)0xff00), zero = _mm256_setzero_si256();
	__m256i c0 = load(cosines), c1 = load(cosines + 32);
	struct sums s0 = {zero, zero}, s1 = {zero, zero};
	uint64_t even, odd;

	for (size_t j = 0; j < dim / 8; j++) {
		__m256i first = table_at(probe->by_four[2 * j]);
		__m256i second = table_at(probe->by_four[2 * j + 1]);
		const uint8_t *at = block + j * SIGN_BLOCK;

		s0 = add_plane(s0, at, first, second);
		s1 = add_plane(s1, at + 32, first, second);
	}
	even = below(s0.even, s1.even, cut_of(_mm256_slli_epi16(c0, 8), query),
		     cut_of(_mm256_slli_epi16(c1, 8), query));
	odd = below(s0.odd, s1.odd, cut_of(_mm256_and_si256(c0, upper), query),
		    cut_of(_mm256_and_si256(c1, upper), query));
	return ~(even | odd << 32);
}

static void signs(const uint8_t *plane, size_t blocks, size_t dim, const struct sign_query *queries,
		  size_t m, uint64_t *masks)
{
	for (size_t b = 0; b < blocks; b++)
		for (size_t p = 0; p < m; p++)
			masks[p * blocks + b] =
				sign_block(plane + b * sign_block_bytes(dim), dim, &queries[p]);
}

static inline int32_t add_across(__m256i v)
{
	__m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	__m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));

	return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

/*
 * Pairs of products fit 16 bits: 2 * 15 * 127. The last load of a row may reach
 * into what follows it in the block; the probe is zero there.
 */
static inline int32_t row_sum(const uint8_t *code, size_t dim, const struct code_probe *probe)
{
	const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
	__m256i sum = _mm256_setzero_si256();

	for (size_t j = 0; j < dim / 2; j += 32) {
		__m256i v = load(code + j);
		__m256i v0 = _mm256_and_si256(v, low);
		__m256i v1 = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
		__m256i pairs =
			_mm256_add_epi16(_mm256_maddubs_epi16(v0, load(probe->halves[0] + j)),
					 _mm256_maddubs_epi16(v1, load(probe->halves[1] + j)));

		sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
	}
	return add_across(sum);
}

#include "code_rows.h"

static void nibbles(const uint8_t *block, size_t dim, const struct nibble_query *queries, size_t m,
		    uint16_t *masks)
{
	for (size_t p = 0; p < m; p++)
		masks[p] = passing_rows(block, dim, &queries[p]);
}

const struct code_kernel code_avx2 = {signs, nibbles, pick};
#endif
