/*
 * A gallery for the bench: templates whose scores spread as those of faces do,
 * their codes in segments, and searches of it with the module `score` alone.
 */
#ifndef BENCH_SET_H
#define BENCH_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/code.h"

#define SET_SEGMENT_ROWS 4096
#define SET_MAX_FOUND    64
/* The standard deviation of the scores of strangers that real faces give. */
#define SET_SPREAD 0.077f

/* Embeddings of real faces to draw from; the mean is taken off. */
struct seeds {
	size_t n, bytes;
	float *rows, *mean;
};

struct set {
	size_t n, dim;
	const struct seeds *seeds; /* NULL to draw from the spread alone */
	bool lean;                 /* only codes are kept: a row that is scored is drawn again */
	float *rows;               /* n rows of dim, of unit length; NULL where lean */
	uint8_t *signs, *nibbles;  /* segment after segment */
	float spread;              /* standard deviation of strangers' scores */
};

/* What a search found: best first, equal scores in order of row. */
struct found {
	size_t n;
	uint32_t row[SET_MAX_FOUND];
	float score[SET_MAX_FOUND];
};

enum method { METHOD_FLOAT, METHOD_CERTIFIED, METHOD_FAST };

struct search {
	enum method method;
	const float *probes;
	size_t m;        /* at most CODE_MAX_PROBES */
	float threshold; /* -1 for none */
	size_t k;        /* at most SET_MAX_FOUND */
	struct found *found;
	uint64_t by_signs, by_nibbles; /* rows that the stages left, of all probes */
};

/* A team of threads that search together. */
struct team;

/* Memory of whole huge pages, where there are any; ends the process without. */
void *set_memory(size_t bytes);
void set_memory_free(void *memory, size_t bytes);

/* Reads rows of dim float32 from a file; ends the process where it cannot. */
void seeds_read(struct seeds *seeds, const char *path, size_t dim);
void seeds_free(struct seeds *seeds, size_t dim);

/*
 * Draws n templates and encodes them. set holds dim, seeds, spread and lean. A scan of
 * their floats answers truth, unless that is NULL.
 */
void set_make(struct set *set, size_t n, struct search *truth);
void set_free(struct set *set);
/* The same set with its planes in pages of 4 KB, as a file's map has them. It borrows the rows. */
void set_copy_paged(const struct set *set, struct set *out);
void set_free_paged(struct set *set);
/* Template number index of the distribution; the set holds 0..n-1. */
void set_draw(const struct set *set, uint64_t index, float *out);
size_t set_bytes_signs(const struct set *set);
size_t set_bytes_nibbles(const struct set *set);

struct team *team_new(unsigned threads);
void team_free(struct team *team);
/* Runs the search over all segments. */
void team_search(struct team *team, const struct set *set, struct search *search);
/* Bytes a second that the team reads from memory of this size. */
double team_read(struct team *team, const void *memory, size_t bytes);

#endif
