#include <math.h>
#include <stdlib.h>

#include "biomatch/score.h"
#include "store.h"

/* A gallery's matrix, row by row. */
struct rotation {
	struct rotation *next;
	uint32_t gallery;
	unsigned generation; /* of the key that it is made from */
	size_t dim;
	float matrix[];
};

/* Box and Muller's transform of key stream into standard normal numbers. */
static void fill_normal(double *out, size_t n, const uint32_t *stream)
{
	for (size_t i = 0; i < n; i += 2) {
		double u = (stream[i] + 1.0) / 4294967297.0;
		double v = stream[i + 1] / 4294967296.0;
		double r = sqrt(-2.0 * log(u));

		out[i] = r * cos(2.0 * M_PI * v);
		out[i + 1] = r * sin(2.0 * M_PI * v);
	}
}

static void subtract_projection(double *v, const double *unit, size_t dim)
{
	double dot = 0;

	for (size_t i = 0; i < dim; i++)
		dot += v[i] * unit[i];
	for (size_t i = 0; i < dim; i++)
		v[i] -= dot * unit[i];
}

/*
 * Modified Gram-Schmidt. The rows of a Gaussian matrix made orthonormal are a
 * rotation drawn uniformly (Haar measure), which is what codes of single bits
 * want of it, too.
 */
static void orthonormalise(double *m, size_t dim)
{
	for (size_t r = 0; r < dim; r++) {
		double *row = m + r * dim, norm = 0;

		for (size_t s = 0; s < r; s++)
			subtract_projection(row, m + s * dim, dim);
		for (size_t i = 0; i < dim; i++)
			/* NOLINTNEXTLINE(clang-analyzer-core.*): the caller drew every number. */
			norm += row[i] * row[i];
		norm = sqrt(norm);
		for (size_t i = 0; i < dim; i++)
			row[i] /= norm;
	}
}

static int rotation_make(const struct gallery_store *store, uint32_t gallery, unsigned generation,
			 size_t dim, struct rotation **out)
{
	size_t n = dim * dim;
	struct rotation *rotation = malloc(sizeof(*rotation) + n * sizeof(float));
	uint32_t *stream = malloc(n * sizeof(*stream));
	double *m = malloc(n * sizeof(*m));
	int error = BM_ENOMEM;

	if (!rotation || !stream || !m)
		goto out;
	error = keys_stream(store->keys, generation, gallery, (uint8_t *)stream,
			    n * sizeof(*stream));
	if (error)
		goto out;
	fill_normal(m, n, stream);
	orthonormalise(m, dim);
	for (size_t i = 0; i < n; i++)
		rotation->matrix[i] = (float)m[i];
	rotation->gallery = gallery;
	rotation->generation = generation;
	rotation->dim = dim;
	*out = rotation;
	rotation = NULL;
out:
	if (m)
		bytes_wipe(m, n * sizeof(*m));
	if (stream)
		bytes_wipe(stream, n * sizeof(*stream));
	free(m);
	free(stream);
	free(rotation);
	return error;
}

/* Rotations are never changed or taken out while the store is open. */
static int rotation_find(struct gallery_store *store, uint32_t gallery, unsigned generation,
			 size_t dim, const struct rotation **out)
{
	struct rotation *rotation;
	int error = 0;

	pthread_mutex_lock(&store->lock);
	for (rotation = store->rotations; rotation; rotation = rotation->next) {
		if (rotation->gallery == gallery && rotation->generation == generation)
			break;
	}
	if (!rotation) {
		error = rotation_make(store, gallery, generation, dim, &rotation);
		if (!error) {
			rotation->next = store->rotations;
			store->rotations = rotation;
		}
	}
	pthread_mutex_unlock(&store->lock);
	*out = rotation;
	return error;
}

int rotation_prepare(struct gallery_store *store, uint32_t gallery, unsigned generation, size_t dim)
{
	const struct rotation *rotation;

	return rotation_find(store, gallery, generation, dim, &rotation);
}

int rotation_undo(struct gallery_store *store, uint32_t gallery, unsigned generation,
		  const float *in, size_t dim, float *out)
{
	const struct rotation *rotation;
	int error = rotation_find(store, gallery, generation, dim, &rotation);

	if (error)
		return error;
	memset(out, 0, dim * sizeof(*out));
	/* The inverse of a rotation is its transpose. */
	for (size_t i = 0; i < dim; i++) {
		for (size_t j = 0; j < dim; j++)
			out[j] += rotation->matrix[i * dim + j] * in[i];
	}
	return 0;
}

int rotation_turn(struct gallery_store *store, uint32_t gallery, unsigned from, unsigned to,
		  const float *in, size_t dim, float *out)
{
	const struct rotation *new;
	_Alignas(64) float plain[PACK_MAX_DIM];
	int error = rotation_find(store, gallery, to, dim, &new);

	if (!error)
		error = rotation_undo(store, gallery, from, in, dim, plain);
	if (error)
		return error;
	for (size_t i = 0; i < dim; i++)
		out[i] = score_dot(new->matrix + i *dim, plain, dim);
	bytes_wipe(plain, dim * sizeof(float));
	return 0;
}

int rotation_apply(struct gallery_store *store, uint32_t gallery, unsigned generation,
		   const float *in, size_t dim, float *out)
{
	const struct rotation *rotation;
	int error;

	if (!(fabsf(score_dot(in, in, dim) - 1) < 1e-5f))
		return BM_EINVAL;
	error = rotation_find(store, gallery, generation, dim, &rotation);
	if (error)
		return error;
	for (size_t i = 0; i < dim; i++)
		out[i] = score_dot(rotation->matrix + i * dim, in, dim);
	return 0;
}

void rotations_free(struct gallery_store *store)
{
	while (store->rotations) {
		struct rotation *rotation = store->rotations;

		store->rotations = rotation->next;
		bytes_wipe(rotation->matrix, rotation->dim * rotation->dim * sizeof(float));
		free(rotation);
	}
}
