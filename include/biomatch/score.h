/*
 * Comparison scores: the cosine of unit-length float32 templates, computed by a
 * kernel chosen once for the machine.
 *
 * Every kernel gives bit-identical results: lane i of 16 accumulates elements
 * i, i+16, i+32, ... with fused multiply-add, and the lanes are added in one
 * fixed tree (i with i+8, then i+4, i+2, i+1). A score therefore does not depend on the
 * machine, and the portable kernel is the reference for the others.
 *
 * Thread: any, after score_init.
 * Shapes: dim is a multiple of 16 and at most PACK_MAX_DIM; vectors need no
 * alignment, but run fastest at 64 bytes.
 */
#ifndef BIOMATCH_SCORE_H
#define BIOMATCH_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"

struct code_kernel;

/* One instruction set's kernels. */
struct score_kernel {
	const char *name; /* "portable", "avx2", "avx512" (with VNNI and VBMI), "neon" */
	bool (*usable)(void);
	/* The score of two vectors. */
	float (*dot)(const float *a, const float *b, size_t dim);
	/*
	 * The scores of n rows, dim floats apart, with m probes, dim floats apart:
	 * out[p * n + r]. Reads each row once for up to 4 probes.
	 */
	void (*scan)(const float *rows, size_t n, const float *probes, size_t m, size_t dim,
		     float *out);
	const struct code_kernel *codes; /* of code.h; the module's */
};

/*
 * Chooses the kernels: the fastest the machine has, or the one named. NULL or
 * "auto" for the fastest. BM_EINVAL for a name that is not known or not usable.
 * Call once, before any thread scores.
 */
int score_init(const char *name) BM_MUST_CHECK;
/* The kernels in use. */
const struct score_kernel *score_kernel(void);
/* Every kernel built in, usable here or not; NULL after the last. */
const struct score_kernel *score_kernel_at(size_t index);

static inline float score_dot(const float *a, const float *b, size_t dim)
{
	return score_kernel()->dot(a, b, dim);
}

/* Scales a vector to unit length. BM_EINVAL when it is zero or not finite. */
int score_normalise(float *v, size_t dim) BM_MUST_CHECK;

#endif
