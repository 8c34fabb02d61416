/* x86-64 with AVX-512 VNNI and VBMI: six sign bits a lookup, 64 products a step. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "code.h"

#define UNITS_MAX (CODE_MAX_DIM / 24)
/* The truth table of first ? second : third. */
#define SELECT 0xca

/* Sums of bytes as 16-bit numbers: of the odd bytes alone, and of odd * 256 + even. */
struct sums {
	__m512i both, odd;
};

static inline struct sums add_bytes(struct sums sums, __m512i bytes)
{
	return (struct sums){_mm512_add_epi16(sums.both, bytes),
			     _mm512_add_epi16(sums.odd, _mm512_srli_epi16(bytes, 8))};
}

/* The bits above the low six of three bytes, as the low six of one. */
static inline __m512i high_bits(const uint8_t *at)
{
	const __m512i top_two = _mm512_set1_epi8((char)0xc0);
	const __m512i top_four = _mm512_set1_epi8((char)0xf0);
	__m512i a = _mm512_loadu_si512(at), b = _mm512_loadu_si512(at + 64),
		c = _mm512_loadu_si512(at + 128), bits;

	bits = _mm512_ternarylogic_epi64(top_two, c, _mm512_srli_epi16(b, 2), SELECT);
	bits = _mm512_ternarylogic_epi64(top_four, bits, _mm512_srli_epi16(a, 4), SELECT);
	return _mm512_srli_epi16(bits, 2);
}

/* Three bytes of the codes of 64 rows, as the indexes of four tables. */
struct unit {
	__m512i v[4];
};

static inline struct unit load_unit(const uint8_t *at, __m512i high)
{
	return (struct unit){{_mm512_loadu_si512(at), _mm512_loadu_si512(at + 64),
			      _mm512_loadu_si512(at + 128), high}};
}

static inline struct unit load_tables(const uint8_t (*tables)[64])
{
	return (struct unit){{_mm512_load_si512(tables[0]), _mm512_load_si512(tables[1]),
			      _mm512_load_si512(tables[2]), _mm512_load_si512(tables[3])}};
}

static inline struct sums add_unit(struct sums sums, struct unit codes, struct unit tables)
{
	__m512i first = _mm512_add_epi8(_mm512_permutexvar_epi8(codes.v[0], tables.v[0]),
					_mm512_permutexvar_epi8(codes.v[1], tables.v[1]));
	__m512i second = _mm512_add_epi8(_mm512_permutexvar_epi8(codes.v[2], tables.v[2]),
					 _mm512_permutexvar_epi8(codes.v[3], tables.v[3]));

	return add_bytes(sums, _mm512_add_epi8(first, second));
}

static inline __m512i look_up_four(const uint8_t *tables, __m512i bits)
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i first =
		_mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(const void *)tables));
	__m512i second = _mm512_broadcast_i32x4(
		_mm_load_si128((const __m128i *)(const void *)(tables + 16)));

	return _mm512_add_epi8(
		_mm512_shuffle_epi8(first, _mm512_and_si512(bits, low)),
		_mm512_shuffle_epi8(second, _mm512_and_si512(_mm512_srli_epi16(bits, 4), low)));
}

static inline uint64_t passing(struct sums sums, const uint8_t *cosines,
			       const struct sign_query *query)
{
	const __m512i base = _mm512_set1_epi16(query->base);
	const __m512i slope = _mm512_set1_epi16((short)query->slope);
	__m512i cosine = _mm512_loadu_si512(cosines);
	__m512i even = _mm512_sub_epi16(sums.both, _mm512_slli_epi16(sums.odd, 8));
	__m512i even_cut = _mm512_mulhi_epu16(_mm512_slli_epi16(cosine, 8), slope);
	__m512i odd_cut = _mm512_mulhi_epu16(
		_mm512_and_si512(cosine, _mm512_set1_epi16((short)0xff00)), slope);
	uint64_t low = _mm512_cmpge_epi16_mask(even, _mm512_add_epi16(base, even_cut));
	uint64_t high = _mm512_cmpge_epi16_mask(sums.odd, _mm512_add_epi16(base, odd_cut));

	return low | high << 32;
}

/* One block for one probe in one ascending pass; high keeps the high bits for others. */
static inline __attribute__((always_inline)) uint64_t
sign_block(const uint8_t *block, size_t dim, const struct sign_query *query, __m512i *high)
{
	const struct code_probe *probe = query->probe;
	struct sums sums = {_mm512_setzero_si512(), _mm512_setzero_si512()};

	for (size_t u = 0; u < dim / 24; u++) {
		const uint8_t *at = block + 3 * u * SIGN_BLOCK;
		__m512i bits = high_bits(at);

		if (high != NULL)
			high[u] = bits;
		sums = add_unit(sums, load_unit(at, bits), load_tables(probe->by_six + 4 * u));
	}
	for (size_t j = dim / 24 * 3; j < dim / 8; j++)
		sums = add_bytes(sums, look_up_four(probe->by_four[2 * j],
						    _mm512_loadu_si512(block + j * SIGN_BLOCK)));
	return passing(sums, block + dim / 8 * SIGN_BLOCK, query);
}

/* The blocks of a call for one probe: tables are loaded once, sums stay in registers. */
static void sign_tile(const uint8_t *plane, size_t dim, const __m512i *high,
		      const struct sign_query *query, uint64_t *masks)
{
	const struct code_probe *probe = query->probe;
	const size_t stride = sign_block_bytes(dim);
	struct sums sums[SIGN_BLOCKS_AT_ONCE];

#pragma GCC unroll 4
	for (size_t b = 0; b < SIGN_BLOCKS_AT_ONCE; b++)
		sums[b] = (struct sums){_mm512_setzero_si512(), _mm512_setzero_si512()};
	for (size_t u = 0; u < dim / 24; u++) {
		struct unit tables = load_tables(probe->by_six + 4 * u);

#pragma GCC unroll 4
		for (size_t b = 0; b < SIGN_BLOCKS_AT_ONCE; b++)
			sums[b] = add_unit(sums[b],
					   load_unit(plane + b * stride + 3 * u * SIGN_BLOCK,
						     high[b * UNITS_MAX + u]),
					   tables);
	}
	for (size_t j = dim / 24 * 3; j < dim / 8; j++)
#pragma GCC unroll 4
		for (size_t b = 0; b < SIGN_BLOCKS_AT_ONCE; b++)
			sums[b] = add_bytes(sums[b],
					    look_up_four(probe->by_four[2 * j],
							 _mm512_loadu_si512(plane + b * stride +
									    j * SIGN_BLOCK)));
#pragma GCC unroll 4
	for (size_t b = 0; b < SIGN_BLOCKS_AT_ONCE; b++)
		masks[b] = passing(sums[b], plane + b * stride + dim / 8 * SIGN_BLOCK, query);
}

static void signs(const uint8_t *plane, size_t blocks, size_t dim, const struct sign_query *queries,
		  size_t m, uint64_t *masks)
{
	const size_t stride = sign_block_bytes(dim);
	__m512i high[SIGN_BLOCKS_AT_ONCE * UNITS_MAX];

	if (m == 1 || blocks < SIGN_BLOCKS_AT_ONCE) {
		for (size_t p = 0; p < m; p++)
			for (size_t b = 0; b < blocks; b++)
				masks[p * blocks + b] =
					sign_block(plane + b * stride, dim, &queries[p], NULL);
		return;
	}
	for (size_t b = 0; b < blocks; b++)
		masks[b] = sign_block(plane + b * stride, dim, queries, high + b * UNITS_MAX);
	for (size_t p = 1; p < m; p++)
		sign_tile(plane, dim, high, &queries[p], masks + p * blocks);
}

/* The sums of four registers of 32-bit numbers. */
static inline __m128i add_across(const __m512i v[4])
{
	__m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]),
				     _mm512_unpackhi_epi32(v[0], v[1]));
	__m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]),
				     _mm512_unpackhi_epi32(v[2], v[3]));
	__m512i s = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
	__m256i half = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));

	return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/*
 * The products of codes as they lie with one probe. Loads go strictly upwards:
 * prefetching hardware then keeps up with memory, and better than any hint. The last load of a row
 * may reach into what follows it in the block; the probe is zero there.
 */
static inline __attribute__((always_inline)) void packed_rows(const uint8_t *code, size_t n,
							      size_t dim,
							      const struct code_probe *probe,
							      __m512i sums[4])
{
	const __m512i low = _mm512_set1_epi8(15);

#pragma GCC unroll 4
	for (size_t r = 0; r < n; r++) {
		__m512i first = _mm512_setzero_si512(), second = first;

		for (size_t j = 0; j < dim / 2; j += 64) {
			__m512i v = _mm512_loadu_si512(code + r * dim / 2 + j);
			__m512i v1 = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);

			first = _mm512_dpbusd_epi32(first, _mm512_and_si512(v, low),
						    _mm512_load_si512(probe->halves[0] + j));
			second = _mm512_dpbusd_epi32(second, v1,
						     _mm512_load_si512(probe->halves[1] + j));
		}
		sums[r] = _mm512_add_epi32(first, second);
	}
}

static inline __m512i cuts(const uint8_t *fits, const struct nibble_query *query)
{
	__m512i by = _mm512_set1_epi32((int)((uint32_t)(uint16_t)query->by_along |
					     (uint32_t)(uint16_t)query->by_beside << 16));
	__m512i cut = _mm512_madd_epi16(_mm512_loadu_si512(fits), by);

	return _mm512_add_epi32(_mm512_srai_epi32(cut, NIBBLE_CUT_SHIFT),
				_mm512_set1_epi32(query->base));
}

static uint16_t packed_block(const uint8_t *block, size_t dim, const struct nibble_query *query)
{
	_Alignas(64) int32_t sums[NIBBLE_BLOCK];

	for (size_t r = 0; r < NIBBLE_BLOCK; r += 4) {
		const uint8_t *code = block + r * dim / 2;
		__m512i four[4];

		packed_rows(code, 4, dim, query->probe, four);
		_mm_store_si128((__m128i *)(void *)(sums + r), add_across(four));
	}
	return _mm512_cmpge_epi32_mask(_mm512_load_si512(sums),
				       cuts(block + NIBBLE_BLOCK * dim / 2, query));
}

/* Each half of a row's values in whole registers. */
struct values {
	_Alignas(64) uint8_t of[NIBBLE_BLOCK][2][CODE_MAX_DIM / 2];
};

static void unpack(const uint8_t *block, size_t dim, struct values *values)
{
	const __m512i low = _mm512_set1_epi8(15);

	for (size_t r = 0; r < NIBBLE_BLOCK; r++)
		for (size_t j = 0; j < dim / 2; j += 64) {
			__m512i v = _mm512_loadu_si512(block + r * dim / 2 + j);

			_mm512_store_si512(values->of[r][0] + j, _mm512_and_si512(v, low));
			_mm512_store_si512(values->of[r][1] + j,
					   _mm512_and_si512(_mm512_srli_epi16(v, 4), low));
		}
}

/* Four rows by n probes, so that each load serves more than one product. */
static inline __attribute__((always_inline)) void unpacked_rows(const struct values *values,
								size_t row, size_t dim,
								const struct nibble_query *queries,
								size_t n, __m512i sums[2][4])
{
#pragma GCC unroll 2
	for (size_t p = 0; p < n; p++)
#pragma GCC unroll 4
		for (size_t r = 0; r < 4; r++)
			sums[p][r] = _mm512_setzero_si512();
	for (size_t h = 0; h < 2; h++)
		for (size_t j = 0; j < dim / 2; j += 64)
#pragma GCC unroll 4
			for (size_t r = 0; r < 4; r++) {
				__m512i v = _mm512_load_si512(values->of[row + r][h] + j);

#pragma GCC unroll 2
				for (size_t p = 0; p < n; p++)
					sums[p][r] = _mm512_dpbusd_epi32(
						sums[p][r], v,
						_mm512_load_si512(queries[p].probe->halves[h] + j));
			}
}

static inline __attribute__((always_inline)) void unpacked_block(const struct values *values,
								 const uint8_t *fits, size_t dim,
								 const struct nibble_query *queries,
								 size_t n, uint16_t *masks)
{
	_Alignas(64) int32_t sums[2][NIBBLE_BLOCK];

	for (size_t r = 0; r < NIBBLE_BLOCK; r += 4) {
		__m512i four[2][4];

		unpacked_rows(values, r, dim, queries, n, four);
		for (size_t p = 0; p < n; p++)
			_mm_store_si128((__m128i *)(void *)(sums[p] + r), add_across(four[p]));
	}
	for (size_t p = 0; p < n; p++)
		masks[p] = _mm512_cmpge_epi32_mask(_mm512_load_si512(sums[p]),
						   cuts(fits, &queries[p]));
}

static void nibbles(const uint8_t *block, size_t dim, const struct nibble_query *queries, size_t m,
		    uint16_t *masks)
{
	const uint8_t *fits = block + NIBBLE_BLOCK * dim / 2;
	struct values values;
	size_t p = 0;

	if (m == 1) {
		masks[0] = packed_block(block, dim, queries);
		return;
	}
	unpack(block, dim, &values);
	for (; p + 2 <= m; p += 2)
		unpacked_block(&values, fits, dim, queries + p, 2, masks + p);
	if (p < m)
		unpacked_block(&values, fits, dim, queries + p, 1, masks + p);
}

static inline int32_t row_sum(const uint8_t *code, size_t dim, const struct code_probe *probe)
{
	__m512i sums[4];

	packed_rows(code, 1, dim, probe, sums);
	return _mm512_reduce_add_epi32(sums[0]);
}

#include "code_rows.h"

const struct code_kernel code_avx512 = {signs, nibbles, pick};
#endif
