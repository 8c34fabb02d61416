/* The reference: plain C, one fmaf for each element. */
#include <assert.h>
#include <math.h>

#include "code.h"
#include "kernel.h"

static bool usable(void)
{
	return true;
}

static float dot(const float *a, const float *b, size_t dim)
{
	float lane[SCORE_LANES] = {0};

	assert(dim % SCORE_LANES == 0);
	for (size_t i = 0; i < dim; i += SCORE_LANES)
		for (size_t j = 0; j < SCORE_LANES; j++)
			lane[j] = fmaf(a[i + j], b[i + j], lane[j]);
	for (size_t half = SCORE_LANES / 2; half > 0; half /= 2)
		for (size_t j = 0; j < half; j++)
			lane[j] += lane[j + half];
	return lane[0];
}

static void scan(const float *rows, size_t n, const float *probes, size_t m, size_t dim, float *out)
{
	for (size_t r = 0; r < n; r++)
		for (size_t p = 0; p < m; p++)
			out[p * n + r] = dot(rows + r * dim, probes + p * dim, dim);
}

const struct score_kernel score_portable = {
	.name = "portable",
	.usable = usable,
	.dot = dot,
	.scan = scan,
	.codes = &code_portable,
};
