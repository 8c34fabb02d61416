#include "crop.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>
#include <vector>

namespace
{
/* Bilinear sampling looks at two pixels either way: below a half it skips some. */
constexpr double SHRINK_BELOW = 0.5;

/* What a transform shows of a picture, with a pixel of the result around it. */
cv::Rect find_shown(const cv::Mat &picture, const cv::Size &size, const cv::Matx23d &by)
{
	std::vector<cv::Point2d> corners = {{-1.5, -1.5},
					    {size.width + 0.5, -1.5},
					    {-1.5, size.height + 0.5},
					    {size.width + 0.5, size.height + 0.5}};
	double left = picture.cols, top = picture.rows, right = 0, bottom = 0;
	cv::Matx23d back;

	cv::invertAffineTransform(by, back);
	cv::transform(corners, corners, back);
	for (const cv::Point2d &corner : corners) {
		left = std::min(left, std::max(corner.x, 0.0));
		top = std::min(top, std::max(corner.y, 0.0));
		right = std::max(right, std::min(corner.x, picture.cols + 0.0));
		bottom = std::max(bottom, std::min(corner.y, picture.rows + 0.0));
	}
	return {cv::Point(cvFloor(left), cvFloor(top)), cv::Point(cvCeil(right), cvCeil(bottom))};
}

/*
 * What a transform shows of a picture, shrunk first where the transform would
 * skip pixels: what falls between them would come out as detail that no face has.
 * The transform then starts from the part.
 */
cv::Mat shrink(const cv::Mat &picture, const cv::Size &size, cv::Matx23d &by)
{
	double scale = std::hypot(by(0, 0), by(1, 0));
	cv::Rect box;
	cv::Mat part;

	if (scale < SHRINK_BELOW)
		box = find_shown(picture, size, by);
	if (box.empty())
		return picture;
	cv::resize(picture(box), part,
		   cv::Size(std::max(1, cvRound(box.width * scale)),
			    std::max(1, cvRound(box.height * scale))),
		   0, 0, cv::INTER_AREA);
	/* Pixels of the picture for one of the part; pixel centres stay where they are. */
	double x = static_cast<double>(box.width) / part.cols;
	double y = static_cast<double>(box.height) / part.rows;
	for (int i = 0; i < 2; i++) {
		by(i, 2) += by(i, 0) * (box.x + x / 2 - 0.5) + by(i, 1) * (box.y + y / 2 - 0.5);
		by(i, 0) *= x;
		by(i, 1) *= y;
	}
	return part;
}
} // namespace

cv::Mat crop_part(const cv::Mat &picture, cv::Matx23d by, const cv::Size &size, int border)
{
	cv::Mat from = shrink(picture, size, by), part;

	cv::warpAffine(from, part, by, size, cv::INTER_LINEAR, border);
	return part;
}
