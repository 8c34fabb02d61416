/*
 * Model packs: a directory with a manifest.yaml that names the models of one
 * face pipeline, how each is fed, and how its scores are to be read. A pack is
 * data: another one drops in without a change to the code.
 *
 * The daemon reads the manifest for the name, the dimension and the
 * calibration; the face worker also checks every file against its SHA-256 and
 * loads it.
 *
 * Thread: a pack is immutable once open and may be read from any thread.
 * Errors: BM_EPACK, with the file, the line where there is one, and the reason
 * in the message; BM_ENOMEM.
 * Owns: all strings, until pack_close.
 */
#ifndef BIOMATCH_PACK_H
#define BIOMATCH_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"

#define PACK_SHA256_LEN 32
/* The largest template a pack may declare, in elements. */
#define PACK_MAX_DIM         1024
#define PACK_MAX_CALIBRATION 64
#define PACK_MESSAGE_LEN     512

enum pack_colour { PACK_BGR, PACK_RGB, PACK_GREY };

/* The ways a detector's outputs are laid out. */
enum pack_detector {
	/* "scores" [1,n,2] and "boxes" [1,n,4], corners in 0..1 of the input. */
	PACK_ULTRAFACE,
	/* cls_, obj_, bbox_ and kps_ at strides 8, 16 and 32; gives five points. */
	PACK_YUNET,
};

/* The ways a landmark model's output is laid out. */
enum pack_landmarks {
	/* The detector's own five points are used. */
	PACK_LANDMARKS_NONE,
	/* 68 x,y pairs in 0..1 of a square crop around the box. */
	PACK_LANDMARKS_68,
};

/* One network and how a picture becomes its input: (pixel - mean) / scale. */
struct pack_model {
	const char *file; /* absolute path; NULL where the pack has no such model */
	uint8_t sha256[PACK_SHA256_LEN];
	unsigned width, height; /* pixels */
	enum pack_colour colour;
	float mean, scale;
};

/* One point of the calibration: this share of non-mates reaches the score. */
struct pack_operating_point {
	double fmr;
	float score;
};

struct pack {
	const char *name;    /* a-z, 0-9, '-' */
	const char *version; /* at most 32 bytes */
	const char *model;   /* "name/version": the tag of every template */
	const char *licence; /* SPDX identifier */
	/* SHA-256 over the models and how each is fed: what a template is made by. */
	uint8_t digest[PACK_SHA256_LEN];
	unsigned dim; /* elements of a template, a multiple of 16 */

	struct pack_model detector;
	enum pack_detector detector_kind;
	float detector_confidence; /* boxes below it are dropped, 0..1 */
	float detector_overlap;    /* boxes with a larger IoU are one face, 0..1 */

	struct pack_model landmarks;
	enum pack_landmarks landmarks_kind;
	float landmarks_margin; /* the crop is the box grown by this factor */

	struct pack_model embedding; /* aligned to the 112x112 ArcFace template */

	/* Two or more logits, the first of a live face; no part of what a template is made by. */
	struct pack_model liveness;
	float liveness_margin; /* the crop is the box grown by this factor, as far as there is room
				*/

	/* Which share of non-mate comparisons reaches a score; fmr descending. */
	const char *calibration_id;
	const char *calibration_source; /* what it was measured on, for people */
	uint64_t calibration_mates, calibration_non_mates;
	struct pack_operating_point calibration[PACK_MAX_CALIBRATION];
	size_t calibration_len;
	/* Scores that 99 % of strangers stay below and 50 % of mates reach. */
	float band_stranger, band_mate;
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Reads and checks dir/manifest.yaml. With verify, every file's SHA-256 is
 * checked too. On failure message says what is wrong and where.
 */
int pack_open(const char *dir, bool verify, struct pack **out,
	      char message[PACK_MESSAGE_LEN]) BM_MUST_CHECK;
void pack_close(struct pack *pack);

/*
 * The score at which this share of non-mates is accepted, between calibration
 * points by interpolation in log(fmr); a laxer rate than the first point's gets
 * that point's score. BM_EINVAL for a rate beyond what the
 * sample supports, *smallest then holding the least supported rate.
 */
int pack_threshold(const struct pack *pack, double fmr, float *score,
		   double *smallest) BM_MUST_CHECK;
/* The other way round: the share of non-mates that reach a score; beyond the points, theirs. */
double pack_fmr(const struct pack *pack, float score);

#ifdef __cplusplus
}
#endif

#endif
