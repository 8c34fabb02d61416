/* From a probe to its integer forms: small for the signs, bytes for the nibbles. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "code.h"

/* The sum of magnitudes that a table of six elements may reach: four of them fit a byte. */
#define SIX_MAX 63

/*
 * The elements that one table of six serves, in the order of the code's bits.
 * Three bytes of a code hold four groups: the low six bits of each, and the high
 * two of all three.
 */
static void six_elements(size_t group, size_t element[6])
{
	size_t first = group / 4 * 24;

	for (size_t i = 0; i < 6; i++)
		element[i] = first + (group % 4 < 3 ? group % 4 * 8 + i : i / 2 * 8 + 6 + i % 2);
}

/* The largest sum of magnitudes that a table will meet. */
static double largest_group(const float *q, size_t dim)
{
	double largest = 0;
	size_t element[6];

	for (size_t g = 0; g < dim / 24 * 4; g++) {
		double sum = 0;

		six_elements(g, element);
		for (size_t i = 0; i < 6; i++)
			sum += fabs((double)q[element[i]]);
		largest = fmax(largest, sum);
	}
	for (size_t i = dim / 24 * 24; i < dim; i += 4) {
		double sum = 0;

		for (size_t j = 0; j < 4; j++)
			sum += fabs((double)q[i + j]);
		largest = fmax(largest, sum);
	}
	return largest;
}

/*
 * The table of the elements named: an element agrees where its bit tells its
 * sign. Setting a bit adds the element's value, whatever its sign.
 */
static void fill_table(uint8_t *table, const int *value, const size_t *element, size_t bits)
{
	int none = 0;

	for (size_t i = 0; i < bits; i++)
		none += value[element[i]] < 0 ? -value[element[i]] : 0;
	table[0] = (uint8_t)none;
	for (size_t i = 0; i < bits; i++)
		for (size_t code = 0; code < (size_t)1 << i; code++)
			table[code + ((size_t)1 << i)] = (uint8_t)(table[code] + value[element[i]]);
}

static double cosine(const float *q, const int *value, size_t dim, double norm)
{
	double dot = 0, square = 0;

	for (size_t i = 0; i < dim; i++) {
		dot += (double)q[i] * value[i];
		square += (double)q[i] * (double)q[i];
	}
	/* Rounded down: less is safe. */
	return fmin(dot / (norm * sqrt(square)), 1) - 1e-9;
}

static double length(const int *value, size_t dim)
{
	double square = 0;

	for (size_t i = 0; i < dim; i++)
		square += (double)value[i] * value[i];
	return sqrt(square);
}

static void make_signs(struct code_probe *probe, const float *q, int *value)
{
	/* Rounding adds at most a half for each of six. */
	double scale = (SIX_MAX - 3) / largest_group(q, probe->dim);
	size_t element[6];

	probe->sign_sum = 0;
	for (size_t i = 0; i < probe->dim; i++) {
		value[i] = (int)lrint(q[i] * scale);
		probe->sign_sum += abs(value[i]);
	}
	probe->sign_norm = length(value, probe->dim);
	probe->sign_rho = cosine(q, value, probe->dim, probe->sign_norm);
	for (size_t g = 0; g < probe->dim / 24 * 4; g++) {
		six_elements(g, element);
		fill_table(probe->by_six[g], value, element, 6);
	}
	for (size_t g = 0; g < probe->dim / 4; g++) {
		for (size_t i = 0; i < 4; i++)
			element[i] = 4 * g + i;
		fill_table(probe->by_four[g], value, element, 4);
	}
}

static void make_nibbles(struct code_probe *probe, const float *q, int *value)
{
	size_t half = probe->dim / 2;
	double largest = 0;

	assert(half);
	for (size_t i = 0; i < probe->dim; i++)
		largest = fmax(largest, fabs((double)q[i]));
	memset(probe->halves, 0, sizeof(probe->halves));
	probe->nibble_sum = 0;
	for (size_t i = 0; i < probe->dim; i++) {
		value[i] = (int)lrint(q[i] * (INT8_MAX / largest));
		probe->halves[i / half][i % half] = (int8_t)value[i];
		probe->nibble_sum += value[i];
	}
	probe->nibble_norm = length(value, probe->dim);
	probe->nibble_rho = cosine(q, value, probe->dim, probe->nibble_norm);
}

void code_probe_init(struct code_probe *probe, const float *vector, size_t dim)
{
	int value[CODE_MAX_DIM];

	assert(dim % 16 == 0 && dim > 0 && dim <= CODE_MAX_DIM);
	probe->dim = dim;
	make_signs(probe, vector, value);
	make_nibbles(probe, vector, value);
	bytes_wipe(value, sizeof(value));
}
