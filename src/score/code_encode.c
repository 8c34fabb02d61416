/* From templates to codes. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "code.h"

static size_t whole(size_t n, size_t of)
{
	return (n + of - 1) / of;
}

size_t code_sign_bytes(size_t rows, size_t dim)
{
	return whole(rows, SIGN_BLOCK) * sign_block_bytes(dim);
}

size_t code_nibble_bytes(size_t rows, size_t dim)
{
	return whole(rows, NIBBLE_BLOCK) * nibble_block_bytes(dim);
}

/* Sums are kept apart by this many elements, so that a compiler may add them side by side. */
#define LANES 16

static void encode_signs(const float *x, double norm, size_t dim, uint8_t *block, size_t place)
{
	double sums[LANES] = {0}, along = 0;
	double cosine;

	for (size_t i = 0; i < dim; i += 8) {
		unsigned byte = 0;

		for (size_t b = 0; b < 8; b++)
			byte |= (unsigned)(x[i + b] >= 0) << b;
		block[i / 8 * SIGN_BLOCK + place] = (uint8_t)byte;
	}
	for (size_t i = 0; i < dim; i += LANES) {
		for (size_t l = 0; l < LANES; l++)
			sums[l] += fabs((double)x[i + l]);
	}
	for (size_t l = 0; l < LANES; l++)
		along += sums[l];
	cosine = along / (sqrt((double)dim) * norm);
	block[dim / 8 * SIGN_BLOCK + place] = (uint8_t)fmin(fmax(cosine * 256 - 1e-6, 0), 255);
}

static int nibble_of(float x, float per_step)
{
	int step = (int)(x * per_step + 8);

	step = step > 0 ? step : 0;
	return step < 15 ? step : 15;
}

/* How the code with steps this long fits. */
struct fit {
	double along;  /* component of the template along its code, in steps */
	double length; /* of the code, squared */
};

static struct fit measure_fit(const float *x, double norm, size_t dim, float per_step)
{
	float dots[LANES] = {0}, squares[LANES] = {0};
	struct fit fit = {0};

	for (size_t i = 0; i < dim; i += LANES) {
		for (size_t l = 0; l < LANES; l++) {
			float value = (float)nibble_of(x[i + l], per_step) - 7.5f;

			dots[l] += x[i + l] * value;
			squares[l] += value * value;
		}
	}
	for (size_t l = 0; l < LANES; l++) {
		fit.along += dots[l];
		fit.length += squares[l];
	}
	fit.along /= norm;
	return fit;
}

/* The cosine of a template and its code changes little with the step: try a few. */
static float best_step(const float *x, double norm, size_t dim, struct fit *best)
{
	static const float steps[] = {0.30f, 0.33f, 0.36f, 0.40f, 0.5f};
	float unit = (float)(sqrt((double)dim) / norm), per_step = 0;

	*best = (struct fit){-1, 1};
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct fit fit = measure_fit(x, norm, dim, unit / steps[i]);

		if (fit.along * fit.along * best->length > best->along * best->along * fit.length ||
		    best->along < 0) {
			*best = fit;
			per_step = unit / steps[i];
		}
	}
	return per_step;
}

/* Sums of floats above are good to 1e-5 of the length, at most 240 steps. */
#define FIT_SLACK 0.01

static void encode_nibbles(const float *x, double norm, size_t dim, uint8_t *code,
			   struct nibble_fit *out)
{
	struct fit fit;
	float per_step = best_step(x, norm, dim, &fit);
	double along = fit.along - FIT_SLACK;
	double beside = sqrt(fmax(fit.length - along * along, 0));

	for (size_t i = 0; i < dim / 2; i++)
		code[i] = (uint8_t)(nibble_of(x[i], per_step) | nibble_of(x[i + dim / 2], per_step)
									<< 4);
	out->along = (int16_t)floor(along * NIBBLE_FIT_ONE);
	out->beside = (int16_t)ceil(beside * NIBBLE_FIT_ONE);
}

void code_encode(const float *templates, size_t first, size_t n, size_t dim, void *signs,
		 void *nibbles)
{
	assert(dim % 16 == 0 && dim <= CODE_MAX_DIM);
	for (size_t k = 0; k < n; k++) {
		const float *x = templates + k * dim;
		size_t row = first + k, within = row % NIBBLE_BLOCK;
		uint8_t *block = (uint8_t *)nibbles + row / NIBBLE_BLOCK * nibble_block_bytes(dim);
		struct nibble_fit fit;
		double norm = 0;

		for (size_t i = 0; i < dim; i++)
			norm += (double)x[i] * (double)x[i];
		norm = sqrt(norm);
		encode_signs(x, norm, dim,
			     (uint8_t *)signs + row / SIGN_BLOCK * sign_block_bytes(dim),
			     sign_place(row % SIGN_BLOCK));
		encode_nibbles(x, norm, dim, block + within * dim / 2, &fit);
		memcpy(block + NIBBLE_BLOCK * dim / 2 + within * sizeof(fit), &fit, sizeof(fit));
	}
}

void code_erase(size_t row, size_t dim, void *signs, void *nibbles)
{
	uint8_t *signs_of = (uint8_t *)signs + row / SIGN_BLOCK * sign_block_bytes(dim);
	uint8_t *block = (uint8_t *)nibbles + row / NIBBLE_BLOCK * nibble_block_bytes(dim);
	size_t within = row % NIBBLE_BLOCK;

	for (size_t i = 0; i <= dim / 8; i++)
		signs_of[i * SIGN_BLOCK + sign_place(row % SIGN_BLOCK)] = 0;
	memset(block + within * dim / 2, 0, dim / 2);
	memset(block + NIBBLE_BLOCK * dim / 2 + within * sizeof(struct nibble_fit), 0,
	       sizeof(struct nibble_fit));
}
