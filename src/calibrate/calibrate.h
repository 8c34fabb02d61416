/*
 * What the parts of biomatch-calibrate share: labelled pictures, what the face
 * worker made of them, and the report.
 */
#ifndef CALIBRATE_CALIBRATE_H
#define CALIBRATE_CALIBRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/accuracy.h"
#include "biomatch/pack.h"

/* Pictures by label: the directory each lies in, or FILE without _NUMBER at the top. */
struct pictures {
	struct picture {
		char *path;
		uint32_t label;
	} * list;
	size_t n;
	char **labels;
	size_t n_labels;
};

/* Says on standard error what is wrong, and gives the code. */
int complain(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Complains where a directory cannot be read or holds no picture. */
int pictures_list(const char *root, struct pictures *out) BM_MUST_CHECK;
/* Takes path, NULL for none; BM_ENOMEM. */
int pictures_add(struct pictures *pictures, const char *label, char *path) BM_MUST_CHECK;
void pictures_free(struct pictures *pictures);

#define MAX_REASON 31

/* What the worker found in each picture, in the order of the list. */
struct looks {
	struct look {
		char reason[MAX_REASON + 1]; /* "OK", or why there is no template */
		bool made;
		float liveness; /* 0..1; negative where it was not judged */
	} * list;
	float *templates; /* dim floats each, zero where there is none */
	size_t n, dim;
};

struct look_how {
	const char *program, *pack_dir;
	unsigned wanted, jobs;
};

/* Looks at every picture with workers of the daemon's kind; complains where it cannot. */
int look_at(const struct pictures *pictures, const struct pack *pack, const struct look_how *how,
	    struct looks *out) BM_MUST_CHECK;
void looks_free(struct looks *looks);

/*
 * A template file, JSON Lines: what made the templates, {"model", "dimension"}, then one
 * {"label", "reason"} a picture, with "template" where there is one. Complains where
 * it is of another model or not whole.
 */
int templates_write(const char *path, const struct pack *pack, const struct pictures *pictures,
		    const struct looks *looks) BM_MUST_CHECK;
int templates_read(const char *path, const struct pack *pack, struct pictures *pictures,
		   struct looks *looks) BM_MUST_CHECK;

/* The trade of the two errors on logarithmic axes, as PATH.svg and PATH.png. */
int det_draw(const char *path, const struct accuracy *a, const char *title) BM_MUST_CHECK;

/* Presentation attack detection: pictures of living people, and attacks by species. */
int pad_report(const struct pack *pack, const struct look_how *how, const char *bona_fide,
	       const char *attacks) BM_MUST_CHECK;

#endif
