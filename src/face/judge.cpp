#include "judge.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <opencv2/imgproc.hpp>
#include <vector>

#include "align.h"
#include "crop.h"
#include "geometry.h"

/*
 * Each measure is a number with a physical meaning, mapped to 0..100 by a straight
 * line between the value that is of no use and the value with which nothing is
 * wrong. docs/quality.md says where these come from and what they cannot tell.
 */
namespace
{
/* Pixels for one of the ArcFace template, and template units of border on each side. */
constexpr double ZOOM = 2;
constexpr double BORDER = 8;
constexpr int SIDE = 256; /* (112 + 2 * BORDER) * ZOOM */

uint8_t ramp(double value, double useless, double perfect)
{
	double share = (value - useless) / (perfect - useless);

	return static_cast<uint8_t>(std::lround(QUALITY_MAX * std::clamp(share, 0.0, 1.0)));
}

/* The face turned upright at a fixed size, and where its skin is. */
struct portrait {
	cv::Mat grey, colour; /* colour is YCrCb */
	cv::Mat skin;         /* mask: brow to chin, cheek to cheek */
};

cv::Rect patch(double left, double top, double right, double bottom)
{
	return {cv::Point(cvRound((left + BORDER) * ZOOM), cvRound((top + BORDER) * ZOOM)),
		cv::Point(cvRound((right + BORDER) * ZOOM), cvRound((bottom + BORDER) * ZOOM))};
}

portrait take_portrait(const cv::Mat &picture, const cv::Matx23d &by)
{
	portrait out;
	cv::Mat part;
	cv::Matx23d zoomed = by * ZOOM;

	/* Of a pixel's centre: template unit -8 is the left edge. */
	zoomed(0, 2) += (BORDER + 0.5) * ZOOM - 0.5;
	zoomed(1, 2) += (BORDER + 0.5) * ZOOM - 0.5;
	part = crop_part(picture, zoomed, cv::Size(SIDE, SIDE), cv::BORDER_REPLICATE);
	cv::cvtColor(part, out.colour, cv::COLOR_BGR2YCrCb);
	cv::extractChannel(out.colour, out.grey, 0);
	out.skin = cv::Mat::zeros(SIDE, SIDE, CV_8U);
	cv::ellipse(out.skin, cv::RotatedRect(cv::Point2f(128, 164), cv::Size2f(132, 160), 0),
		    cv::Scalar(255), cv::FILLED);
	return out;
}

/*
 * The rotation, scale and shift that lay the eyes alone on those of the template: where
 * a mouth is covered, its points are a guess. As complex numbers, t = factor p + shift.
 */
cv::Matx23d by_eyes(const face_found &face)
{
	const std::complex<double> to_left(38.3, 51.7), to_right(73.5, 51.5);
	auto point = [&](int i) {
		return std::complex<double>(static_cast<double>(face.landmarks[i].x),
					    static_cast<double>(face.landmarks[i].y));
	};
	std::complex<double> factor = (to_right - to_left) / (point(1) - point(0));
	std::complex<double> shift = to_left - factor * point(0);

	return {factor.real(), -factor.imag(), shift.real(),
		factor.imag(), factor.real(),  shift.imag()};
}

/* Shares of the skin's pixels by brightness. */
struct histogram {
	double share[256] = {};

	explicit histogram(const portrait &face)
	{
		double n = cv::countNonZero(face.skin);

		for (int y = 0; y < SIDE; y++) {
			const uint8_t *grey = face.grey.ptr(y), *skin = face.skin.ptr(y);

			for (int x = 0; x < SIDE; x++)
				share[grey[x]] += skin[x] ? 1 / n : 0;
		}
	}
	/* The brightness that this share of the pixels stays below. */
	double quantile(double below) const
	{
		double sum = 0;

		for (int i = 0; i < 256; i++) {
			if (sum + share[i] > below)
				return i + (below - sum) / share[i];
			sum += share[i];
		}
		return 256;
	}
	double at_least(int brightness) const
	{
		double sum = 0;

		for (int i = brightness; i < 256; i++)
			sum += share[i];
		return sum;
	}
	/* Bits. */
	double entropy() const
	{
		double sum = 0;

		for (double p : share)
			sum -= p > 0 ? p * std::log2(p) : 0;
		return sum;
	}
};

/*
 * The share of differences between neighbours that another blur takes away (Crete
 * et al., "The blur effect", 2007): the sharper a picture, the more.
 */
double blurred_away(const cv::Mat &grey, const cv::Mat &skin, bool across)
{
	cv::Mat blurred, before, after, lost;
	cv::Size window(across ? 9 : 1, across ? 1 : 9);
	cv::Rect first(0, 0, SIDE - across, SIDE - !across),
		second(across, !across, SIDE - across, SIDE - !across);

	cv::blur(grey, blurred, window);
	cv::absdiff(grey(first), grey(second), before);
	cv::absdiff(blurred(first), blurred(second), after);
	cv::subtract(before, after, lost);

	double all = cv::mean(before, skin(first))[0];
	return all > 0 ? cv::mean(lost, skin(first))[0] / all : 0;
}

double sharpness(const portrait &face)
{
	return std::min(blurred_away(face.grey, face.skin, true),
			blurred_away(face.grey, face.skin, false));
}

/* The darker cheek over the brighter one. */
double evenness(const portrait &face)
{
	double left = cv::mean(face.grey(patch(28, 60, 46, 84)))[0] + 1;
	double right = cv::mean(face.grey(patch(66, 60, 84, 84)))[0] + 1;

	return std::min(left, right) / std::max(left, right);
}

/* Skin of every tone has more red than blue; grey has neither, a cast shifts them. */
double warmth(const portrait &face)
{
	cv::Scalar mean = cv::mean(face.colour, face.skin);

	return (mean[1] - mean[2]) / 2;
}

/* The skin of both cheeks between two heights, by the median of each channel. */
cv::Vec3d cheek_colour(const portrait &face, double top, double bottom)
{
	cv::Vec3d median;

	for (int channel = 0; channel < 3; channel++) {
		std::vector<uint8_t> values;

		for (const cv::Rect &cheek :
		     {patch(28, top, 46, bottom), patch(66, top, 84, bottom)}) {
			cv::Mat part;

			cv::extractChannel(face.colour(cheek), part, channel);
			values.insert(values.end(), part.begin<uint8_t>(), part.end<uint8_t>());
		}
		auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
		std::nth_element(values.begin(), middle, values.end());
		median[channel] = *middle;
	}
	return median;
}

/* The share of an area that has the colour of the cheeks, or may be lips: redder and darker. */
double bare(const portrait &face, const cv::Vec3d &cheek, const cv::Rect &area, bool with_lips)
{
	int n = 0;

	for (int y = area.y; y < area.y + area.height; y++) {
		for (int x = area.x; x < area.x + area.width; x++) {
			cv::Vec3d p = face.colour.at<cv::Vec3b>(y, x);
			double light = p[0] / std::max(cheek[0], 1.0);
			double red = p[1] - cheek[1], blue = p[2] - cheek[2];

			if (std::hypot(red, blue) < 14 && light > 0.45 && light < 1.6)
				n++;
			else if (with_lips && red > 0 && std::abs(blue) < 18 && light > 0.25 &&
				 light < 1.5)
				n++;
		}
	}
	return static_cast<double>(n) / area.area();
}

/* Beside cheeks that glasses do not reach, and beside what a mask leaves of them. */
void judge_cover(const portrait &face, uint8_t *value)
{
	cv::Vec3d below = cheek_colour(face, 66, 80), above = cheek_colour(face, 57, 66);
	double left = bare(face, below, patch(26, 44, 50, 62), false);
	double right = bare(face, below, patch(61, 44, 85, 62), false);
	double mouth = bare(face, above, patch(38, 84, 74, 108), true);

	value[QUALITY_EYES_VISIBLE] = ramp(std::min(left, right), 0.05, 0.25);
	value[QUALITY_MOUTH_VISIBLE] = ramp(mouth, 0, 0.5);
}

/* What is behind the head, at a size where it is 60 pixels wide. */
double clutter(const cv::Mat &picture, const geometry_head &head)
{
	double shrink = std::min(1.0, 60 / (head.scale * GEOMETRY_WIDTH_MM));
	auto mm = [&](double n) { return n * head.scale; };
	cv::Rect area(cv::Point(cvFloor(head.eyes.x - mm(330)), cvFloor(head.eyes.y - mm(260))),
		      cv::Point(cvCeil(head.eyes.x + mm(330)), cvCeil(head.eyes.y + mm(70))));
	cv::Mat grey, mask, dx, dy, steps;

	area &= cv::Rect(0, 0, picture.cols, picture.rows);
	if (area.width * shrink < 8 || area.height * shrink < 8)
		return -1;
	cv::resize(picture(area), grey, cv::Size(), shrink, shrink, cv::INTER_AREA);
	cv::cvtColor(grey, grey, cv::COLOR_BGR2GRAY);
	mask = cv::Mat(grey.size(), CV_8U, cv::Scalar(255));
	double scale = head.scale * shrink;
	cv::Point2f centre(static_cast<float>((head.eyes.x - area.x) * shrink),
			   static_cast<float>((head.eyes.y - area.y) * shrink + 15 * scale));
	/* With room for hair. */
	cv::ellipse(mask,
		    cv::RotatedRect(centre,
				    cv::Size2f(static_cast<float>(230 * scale),
					       static_cast<float>(320 * scale)),
				    0),
		    cv::Scalar(0), cv::FILLED);
	/* Nor is it background below the head. */
	mask(cv::Rect(cv::Point(cvFloor(centre.x - 115 * scale), cvFloor(centre.y)),
		      cv::Point(cvCeil(centre.x + 115 * scale), mask.rows)) &
	     cv::Rect(cv::Point(0, 0), mask.size())) = 0;
	if (cv::countNonZero(mask) < 0.03 * (60 * 60))
		return -1;
	cv::Sobel(grey, dx, CV_32F, 1, 0, 3, 0.25);
	cv::Sobel(grey, dy, CV_32F, 0, 1, 3, 0.25);
	cv::magnitude(dx, dy, steps);
	return cv::mean(steps, mask)[0];
}

uint8_t turned(float degrees)
{
	double c = std::max(0.0, std::cos(static_cast<double>(degrees) * CV_PI / 180));

	return static_cast<uint8_t>(std::lround(QUALITY_MAX * c * c));
}

/* Whether the points can be those of a face: they come from a network. */
bool plausible(const cv::Mat &picture, const face_found &face, const geometry_head &head)
{
	auto width = static_cast<float>(picture.cols), height = static_cast<float>(picture.rows);

	return head.scale * GEOMETRY_EYES_MM >= 4 && face.eye_distance >= 2 &&
	       std::all_of(face.landmarks, face.landmarks + 5, [&](const face_point &p) {
		       return p.x > -width && p.x < 2 * width && p.y > -height && p.y < 2 * height;
	       });
}

void judge_place(const cv::Mat &picture, const geometry_head &head, uint8_t *value)
{
	double x = static_cast<double>(head.eyes.x), y = static_cast<double>(head.eyes.y);
	double half = head.scale * GEOMETRY_WIDTH_MM / 2;
	double share = head.scale * GEOMETRY_LENGTH_MM / picture.rows;
	double across = std::abs(x / picture.cols - 0.5), down = y / picture.rows;

	value[QUALITY_HEAD_SIZE] = share < 0.75 ? ramp(share, 0, 0.6) : ramp(share, 1.5, 0.9);
	value[QUALITY_HEAD_POSITION] = std::min(
		ramp(across, 0.5, 0.05), down < 0.4 ? ramp(down, 0, 0.3) : ramp(down, 1, 0.5));
	value[QUALITY_MARGIN_LEFT] = ramp(x / half, 0.4, 1);
	value[QUALITY_MARGIN_RIGHT] = ramp((picture.cols - x) / half, 0.4, 1);
	value[QUALITY_MARGIN_ABOVE] = ramp(y / (head.scale * GEOMETRY_LENGTH_MM / 2), 0.2, 1);
	value[QUALITY_MARGIN_BELOW] =
		ramp((picture.rows - y) / (head.scale * GEOMETRY_CHIN_MM), 0.6, 1);
}

void judge_light(const portrait &face, uint8_t *value)
{
	histogram light(face);

	value[QUALITY_SHARPNESS] = ramp(sharpness(face), 0.1, 0.6);
	value[QUALITY_UNDER_EXPOSURE] = ramp(light.quantile(0.95), 30, 130);
	value[QUALITY_OVER_EXPOSURE] = ramp(light.at_least(250), 0.5, 0.005);
	value[QUALITY_DYNAMIC_RANGE] = ramp(light.entropy(), 3.5, 7);
	value[QUALITY_ILLUMINATION_UNIFORMITY] = ramp(evenness(face), 0.2, 0.8);
	value[QUALITY_NATURAL_COLOUR] = ramp(warmth(face), 1, 8);
}
} // namespace

void judge_face(const cv::Mat &picture, double step, const face_found &face,
		const face_point *points, struct quality &quality, struct face_pose &pose)
{
	uint8_t *value = quality.value;
	geometry_head head;
	double by[2][3], measure;

	std::fill_n(value, QUALITY_COMPONENTS, static_cast<uint8_t>(QUALITY_UNKNOWN));
	geometry_find_head(face.landmarks, &head);
	if (!plausible(picture, face, head) || align_find_transform(face.landmarks, by))
		return;

	portrait shown = take_portrait(picture, cv::Matx23d(&by[0][0]));
	geometry_find_pose(face.landmarks, &pose);
	value[QUALITY_INTER_EYE_DISTANCE] = ramp(static_cast<double>(face.eye_distance), 0, 90);
	value[QUALITY_POSE_YAW] = turned(pose.yaw);
	value[QUALITY_POSE_ROLL] = turned(pose.roll);
	judge_place(picture, head, value);
	judge_light(shown, value);
	judge_cover(take_portrait(picture, by_eyes(face)), value);
	if (points)
		value[QUALITY_MOUTH_CLOSED] =
			ramp(geometry_mouth_opening(points, &head), 0.3, 0.05);
	measure = clutter(picture, head);
	if (measure >= 0)
		value[QUALITY_BACKGROUND_UNIFORMITY] = ramp(measure, 16, 1.5);
	if (step > 0)
		value[QUALITY_COMPRESSION] = ramp(std::log2(step), 8, 3.5);
	value[QUALITY_OVERALL] = quality_overall(&quality);
}
