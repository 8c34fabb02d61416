/*
 * Faces in a picture: decode, detect, align, embed, and on request judge quality
 * and liveness. The engine is the only C++ of the project and is linked by the
 * face worker alone; the daemon uses the report, a flat struct that crosses the
 * process boundary.
 *
 * Thread: an engine belongs to one thread.
 * Errors: the picture's (BM_EIMG*) and the face's (BM_ENOFACE, ...) findings;
 * BM_EPACK when a model cannot be loaded.
 */
#ifndef BIOMATCH_FACE_H
#define BIOMATCH_FACE_H

#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"
#include "biomatch/pack.h"
#include "biomatch/quality.h"

#define FACE_MAX_FACES       32
#define FACE_MAX_IMAGE_BYTES (10u << 20)
#define FACE_MAX_PIXELS      40000000u
/* The shortest side of a picture that is looked at, pixels. */
#define FACE_MIN_SIDE 32u
/* Below this distance between the eye centres a face is BM_EFACESMALL, pixels. */
#define FACE_MIN_EYES 16.0f
/* A face with more of its box outside the picture is BM_EFACECUT, as a share. */
#define FACE_MAX_CUT 0.25f
/* A second face this large, as a share of the largest one's area, is BM_EMANYFACES. */
#define FACE_RIVAL_AREA 0.5f

/* What is wanted beside the template; each costs time. */
#define FACE_QUALITY  (1u << 0)
#define FACE_LIVENESS (1u << 1) /* from a pack that has a model for it */

struct face_point {
	float x, y;
};

/* A face, in pixels of the picture after EXIF orientation. */
struct face_found {
	float x, y, width, height;
	float confidence;               /* 0..1 */
	struct face_point landmarks[5]; /* eyes, nose, mouth corners; left to right */
	float eye_distance;             /* between the eye centres */
};

/* How a head is turned, degrees; 0 looks straight at the camera. Pitch is not judged. */
struct face_pose {
	float yaw;  /* positive toward the right side of the picture */
	float roll; /* positive clockwise, as the viewer sees it */
};

/* What was found in one picture. */
struct face_report {
	uint32_t width, height;
	uint32_t n_faces; /* at most FACE_MAX_FACES, largest first */
	/* 0 where embedding holds the template of faces[0], else BM_E* of the finding. */
	int32_t finding;
	uint32_t dim;
	uint32_t measured; /* what follows of faces[0]: FACE_QUALITY with pose, FACE_LIVENESS */
	uint32_t decode_us, detect_us, align_us, embed_us, quality_us, liveness_us;
	struct quality quality;
	struct face_pose pose;
	float liveness; /* 0 looks presented, 1 looks live */
	struct face_found faces[FACE_MAX_FACES];
	float embedding[PACK_MAX_DIM]; /* unit length */
};

#ifdef __cplusplus
extern "C" {
#endif

struct face_engine;

/* Loads every model of the pack, which must outlive the engine. */
int face_engine_open(const struct pack *pack, struct face_engine **out) BM_MUST_CHECK;
void face_engine_close(struct face_engine *engine);

/*
 * Looks at one encoded picture, or the DG2 of a passport, of len bytes. wanted is any of
 * FACE_QUALITY and FACE_LIVENESS, which are judged wherever a face was found. Returns 0 with the
 * report filled (report->finding says whether there is a template), or BM_EDG2 or the BM_EIMG* code
 * of a picture that cannot be decoded.
 */
int face_engine_run(struct face_engine *engine, const uint8_t *data, size_t len, unsigned wanted,
		    struct face_report *report) BM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
