#include "biomatch/score.h"

#include <math.h>
#include <string.h>

#include "kernel.h"

/* Fastest first. */
static const struct score_kernel *const kernels[] = {
#if defined(__x86_64__)
	&score_avx512,
	&score_avx2,
#elif defined(__aarch64__)
	&score_neon,
#endif
	&score_portable,
};

#define KERNELS (sizeof(kernels) / sizeof(kernels[0]))

static const struct score_kernel *chosen = &score_portable;

int score_init(const char *name)
{
	bool any = name == NULL || strcmp(name, "auto") == 0;

	for (size_t i = 0; i < KERNELS; i++) {
		if ((any || strcmp(name, kernels[i]->name) == 0) && kernels[i]->usable()) {
			chosen = kernels[i];
			return 0;
		}
	}
	return BM_EINVAL;
}

const struct score_kernel *score_kernel(void)
{
	return chosen;
}

const struct score_kernel *score_kernel_at(size_t index)
{
	return index < KERNELS ? kernels[index] : NULL;
}

/* In double the squares are exact, so contraction cannot change the result. */
int score_normalise(float *v, size_t dim)
{
	double sum = 0;
	double norm;

	for (size_t i = 0; i < dim; i++)
		sum += (double)v[i] * (double)v[i];
	norm = sqrt(sum);
	if (!isfinite(norm) || norm <= 0)
		return BM_EINVAL;
	for (size_t i = 0; i < dim; i++)
		v[i] = (float)((double)v[i] / norm);
	return 0;
}
