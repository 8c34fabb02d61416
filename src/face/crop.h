/* Parts of a picture, at another size and the right way up. */
#ifndef FACE_CROP_H
#define FACE_CROP_H

#include <opencv2/core.hpp>

/*
 * What a transform from picture to part shows. Where the part has fewer pixels,
 * each is a mean of those it stands for. border is OpenCV's, for what lies
 * outside the picture. Throws.
 */
cv::Mat crop_part(const cv::Mat &picture, cv::Matx23d by, const cv::Size &size, int border);

#endif
