/*
 * What the points of a face tell: how the head is turned, how large it is, and
 * what eyes and mouth do.
 */
#ifndef FACE_GEOMETRY_H
#define FACE_GEOMETRY_H

#include "biomatch/face.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Points of the 68 (the iBUG order): the mouth is 48-67. */
#define GEOMETRY_POINTS 68

/* An average adult head, millimetres. */
#define GEOMETRY_EYES_MM   63.0 /* between the eye centres */
#define GEOMETRY_MOUTH_MM  73.0 /* from the line of the eyes to that of the mouth */
#define GEOMETRY_CHIN_MM   115.0
#define GEOMETRY_LENGTH_MM 230.0 /* crown to chin; the eyes are half way */
#define GEOMETRY_WIDTH_MM  150.0

/* A head in a picture. */
struct geometry_head {
	struct face_point eyes; /* the middle between them */
	double scale;           /* pixels a millimetre of the average head */
};

void geometry_find_head(const struct face_point landmarks[5], struct geometry_head *out);

/*
 * The rotation that lays an average head's five points on these under scaled
 * orthographic projection, by least squares. Degrees; see struct face_pose. All 0
 * where the points say nothing.
 */
void geometry_find_pose(const struct face_point landmarks[5], struct face_pose *out);

/* How far the lips are apart inside, as a share of the distance from eyes to mouth. */
double geometry_mouth_opening(const struct face_point points[GEOMETRY_POINTS],
			      const struct geometry_head *head);

#ifdef __cplusplus
}
#endif

#endif
