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
 * from picture to template: x' = m[0][0] x + m[0][1] y + m[0][2], and y' likewise with m[1].
 * BM_EINVAL when the points coincide.
 */
int align_find_transform(const struct face_point from[5], double m[2][3]) BM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
