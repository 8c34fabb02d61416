/* x86-64 with AVX-512: one register holds the lanes. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "code.h"
#include "kernel.h"

struct lanes {
	__m512 all;
};

static inline struct lanes lanes_zero(void)
{
	return (struct lanes){_mm512_setzero_ps()};
}

static inline struct lanes lanes_fma(const float *a, const float *b, struct lanes sums)
{
	return (struct lanes){_mm512_fmadd_ps(_mm512_loadu_ps(a), _mm512_loadu_ps(b), sums.all)};
}

static inline float lanes_sum(struct lanes sums)
{
	__m256 eight = _mm256_add_ps(
		_mm512_castps512_ps256(sums.all),
		_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sums.all), 1)));
	__m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
	__m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#define TILE_PAIRS 16
#include "scan.h"

static bool usable(void)
{
	return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") &&
	       __builtin_cpu_supports("avx512vnni");
}

const struct score_kernel score_avx512 = {
	.name = "avx512",
	.usable = usable,
	.dot = dot,
	.scan = scan,
	.codes = &code_avx512,
};
#endif
