/* The kernels built in, one file for each instruction set. */
#ifndef SCORE_KERNEL_H
#define SCORE_KERNEL_H

#include "biomatch/score.h"

/* Lanes of the one summation order: element i belongs to lane i % SCORE_LANES. */
#define SCORE_LANES 16

extern const struct score_kernel score_portable;
#if defined(__x86_64__)
extern const struct score_kernel score_avx2;
extern const struct score_kernel score_avx512;
#elif defined(__aarch64__)
extern const struct score_kernel score_neon;
#endif

#endif
