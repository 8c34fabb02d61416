/* The quality of the face that is used. */
#ifndef FACE_JUDGE_H
#define FACE_JUDGE_H

#include <opencv2/core.hpp>

#include "biomatch/face.h"

/*
 * Judges a face of a BGR picture; step is the mean step of its JPEG's luminance
 * table, 0 for other files; points are its 68, or NULL where the pack finds five.
 * pose is left alone where the points are no face's. Throws.
 */
void judge_face(const cv::Mat &picture, double step, const face_found &face,
		const face_point *points, struct quality &quality, struct face_pose &pose);

#endif
