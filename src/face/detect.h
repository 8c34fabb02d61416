/* Boxes of faces, by the detector that the pack names. */
#ifndef FACE_DETECT_H
#define FACE_DETECT_H

#include <opencv2/dnn.hpp>
#include <vector>

#include "biomatch/face.h"

/*
 * The faces of a BGR picture, largest first, at most FACE_MAX_FACES, in its
 * pixels. The landmarks are set where the detector gives them. Throws.
 */
std::vector<face_found> detect_faces(cv::dnn::Net &net, const struct pack &pack,
				     const cv::Mat &picture);

#endif
