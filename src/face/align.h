/*
 * Alignment: the similarity transform that lays five landmarks on those of the
 * 112x112 ArcFace template.
 */
#ifndef FACE_ALIGN_H
#define FACE_ALIGN_H

#include "biomatch/face.h"

#define ALIGN_SIDE 112

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The least-squares rotation, scale and shift (Umeyama 1991, without mirroring)
 * from picture to template: x' = m[0] x + m[1] y + m[2], y' = m[3] x + m[4] y + m[5].
 * BM_EINVAL when the points coincide.
 */
int align_similarity(const struct face_point from[5], double m[6]) BM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
