/* ARMv8-A: four registers hold the lanes. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "code.h"
#include "kernel.h"

struct lanes {
	float32x4_t quarter[4];
};

static inline struct lanes lanes_zero(void)
{
	float32x4_t zero = vdupq_n_f32(0);

	return (struct lanes){{zero, zero, zero, zero}};
}

static inline struct lanes lanes_fma(const float *a, const float *b, struct lanes sums)
{
	return (struct lanes){{
		vfmaq_f32(sums.quarter[0], vld1q_f32(a), vld1q_f32(b)),
		vfmaq_f32(sums.quarter[1], vld1q_f32(a + 4), vld1q_f32(b + 4)),
		vfmaq_f32(sums.quarter[2], vld1q_f32(a + 8), vld1q_f32(b + 8)),
		vfmaq_f32(sums.quarter[3], vld1q_f32(a + 12), vld1q_f32(b + 12)),
	}};
}

static inline float lanes_sum(struct lanes sums)
{
	float32x4_t four = vaddq_f32(vaddq_f32(sums.quarter[0], sums.quarter[2]),
				     vaddq_f32(sums.quarter[1], sums.quarter[3]));
	float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));

	return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

#define TILE_PAIRS 4
#include "scan.h"

/* Every ARMv8-A has it. */
static bool usable(void)
{
	return true;
}

const struct score_kernel score_neon = {
	.name = "neon",
	.usable = usable,
	.dot = dot,
	.scan = scan,
	.codes = &code_neon,
};
#endif
