/*
 * The best rows of a search: best first, one for a subject; of equal scores the
 * older row is the better. The list does not depend on the order of offers, so
 * parts of a gallery may be searched apart and their lists offered to one.
 */
#ifndef GALLERY_HITS_H
#define GALLERY_HITS_H

#include "biomatch/keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hit {
	float score;
	uint64_t row;
	uint8_t subject[KEYS_PSEUDONYM_LEN];
};

struct hits {
	struct hit *list; /* room for max */
	size_t n, max;
	float threshold;
};

/* The lowest score that can still enter. */
float hits_bar(const struct hits *hits);
bool hits_want(const struct hits *hits, float score, uint64_t row);
void hits_offer(struct hits *hits, const struct hit *hit);

#endif
