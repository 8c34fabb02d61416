/* x86-64 with AVX2 and FMA: two registers hold the lanes. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "code.h"
#include "kernel.h"

struct lanes {
	__m256 low, high;
};

static inline struct lanes lanes_zero(void)
{
	return (struct lanes){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

static inline struct lanes lanes_fma(const float *a, const float *b, struct lanes sums)
{
	return (struct lanes){
		_mm256_fmadd_ps(_mm256_loadu_ps(a), _mm256_loadu_ps(b), sums.low),
		_mm256_fmadd_ps(_mm256_loadu_ps(a + 8), _mm256_loadu_ps(b + 8), sums.high)};
}

static inline float lanes_sum(struct lanes sums)
{
	__m256 eight = _mm256_add_ps(sums.low, sums.high);
	__m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
	__m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#define TILE_PAIRS 4
#include "scan.h"

static bool usable(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct score_kernel score_avx2 = {
	.name = "avx2",
	.usable = usable,
	.dot = dot,
	.scan = scan,
	.codes = &code_avx2,
};
#endif
