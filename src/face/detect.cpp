#include "detect.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

namespace
{
struct scale {
	float x, y; /* pixels of the picture for one of the input */
};

cv::Mat make_blob(const struct pack_model &model, const cv::Mat &input)
{
	return cv::dnn::blobFromImage(input, 1.0 / static_cast<double>(model.scale), cv::Size(),
				      cv::Scalar::all(static_cast<double>(model.mean)),
				      model.colour == PACK_RGB);
}

/* Drops what no picture can hold: the rest of the program trusts the numbers. */
void add(std::vector<face_found> &faces, const face_found &face)
{
	bool finite = std::isfinite(face.x) && std::isfinite(face.y) && std::isfinite(face.width) &&
		      std::isfinite(face.height);

	for (const face_point &point : face.landmarks)
		finite = finite && std::isfinite(point.x) && std::isfinite(point.y);
	if (finite && face.width >= 1 && face.height >= 1)
		faces.push_back(face);
}

/* A mean over the pixels where there are too many for bilinear sampling to see each. */
void resize(const cv::Mat &picture, cv::Mat &to, const cv::Size &size)
{
	bool many = picture.cols > 2 * size.width || picture.rows > 2 * size.height;

	cv::resize(picture, to, size, 0, 0, many ? cv::INTER_AREA : cv::INTER_LINEAR);
}

/* The picture is stretched to the input, as the model was trained. */
std::vector<face_found> run_ultraface(cv::dnn::Net &net, const struct pack &pack,
				      const cv::Mat &picture)
{
	const struct pack_model &model = pack.detector;
	std::vector<face_found> faces;
	std::vector<cv::Mat> out;
	cv::Mat input;

	resize(picture, input,
	       cv::Size(static_cast<int>(model.width), static_cast<int>(model.height)));
	net.setInput(make_blob(model, input));
	net.forward(out, std::vector<cv::String>{"scores", "boxes"});
	CV_Assert(out[0].total() * 2 == out[1].total() && out[0].total() % 2 == 0);

	const float *scores = out[0].ptr<float>(), *boxes = out[1].ptr<float>();
	auto width = static_cast<float>(picture.cols), height = static_cast<float>(picture.rows);

	for (size_t i = 0; i < out[0].total() / 2; i++, boxes += 4) {
		face_found face = {};

		face.confidence = scores[2 * i + 1];
		if (!(face.confidence >= pack.detector_confidence))
			continue;
		face.x = boxes[0] * width;
		face.y = boxes[1] * height;
		face.width = (boxes[2] - boxes[0]) * width;
		face.height = (boxes[3] - boxes[1]) * height;
		add(faces, face);
	}
	return faces;
}

/* The picture keeps its shape; what is left of the input stays black. */
scale fit_input(const struct pack_model &model, const cv::Mat &picture, cv::Mat &input)
{
	cv::Size size(static_cast<int>(model.width), static_cast<int>(model.height));
	double by = std::min(static_cast<double>(size.width) / picture.cols,
			     static_cast<double>(size.height) / picture.rows);
	cv::Size part(std::max(1, static_cast<int>(picture.cols * by)),
		      std::max(1, static_cast<int>(picture.rows * by)));

	input = cv::Mat::zeros(size, CV_8UC3);
	cv::Mat into = input(cv::Rect(cv::Point(0, 0), part));
	resize(picture, into, part);
	return {static_cast<float>(picture.cols) / static_cast<float>(part.width),
		static_cast<float>(picture.rows) / static_cast<float>(part.height)};
}

struct yunet_level {
	const float *cls, *obj, *bbox, *kps;
	size_t i;
	float column, row, stride;
};

/* Offsets are in strides from the cell's corner, sizes their logarithm. */
face_found decode_yunet(const yunet_level &at, const scale &by)
{
	const float *box = at.bbox + 4 * at.i, *points = at.kps + 10 * at.i;
	face_found face = {};

	face.confidence = std::sqrt(std::clamp(at.cls[at.i], 0.0f, 1.0f) *
				    std::clamp(at.obj[at.i], 0.0f, 1.0f));
	face.width = std::exp(box[2]) * at.stride * by.x;
	face.height = std::exp(box[3]) * at.stride * by.y;
	face.x = (at.column + box[0]) * at.stride * by.x - face.width / 2;
	face.y = (at.row + box[1]) * at.stride * by.y - face.height / 2;
	for (int p = 0; p < 5; p++) {
		face.landmarks[p].x = (at.column + points[2 * p]) * at.stride * by.x;
		face.landmarks[p].y = (at.row + points[2 * p + 1]) * at.stride * by.y;
	}
	return face;
}

std::vector<face_found> run_yunet(cv::dnn::Net &net, const struct pack &pack,
				  const cv::Mat &picture)
{
	static const char *const kinds[] = {"cls_", "obj_", "bbox_", "kps_"};
	static const size_t lengths[] = {1, 1, 4, 10};
	std::vector<cv::String> names;
	std::vector<face_found> faces;
	std::vector<cv::Mat> out;
	cv::Mat input;
	scale by = fit_input(pack.detector, picture, input);

	for (unsigned stride = 8; stride <= 32; stride *= 2) {
		for (const char *kind : kinds)
			names.push_back(kind + std::to_string(stride));
	}
	net.setInput(make_blob(pack.detector, input));
	net.forward(out, names);
	for (unsigned stride = 8, level = 0; stride <= 32; stride *= 2, level += 4) {
		size_t columns = pack.detector.width / stride;
		size_t cells = columns * (pack.detector.height / stride);

		for (unsigned k = 0; k < 4; k++)
			CV_Assert(out[level + k].total() == cells * lengths[k]);
		for (size_t i = 0; i < cells; i++) {
			face_found face = decode_yunet(
				{out[level].ptr<float>(), out[level + 1].ptr<float>(),
				 out[level + 2].ptr<float>(), out[level + 3].ptr<float>(), i,
				 static_cast<float>(i % columns), static_cast<float>(i / columns),
				 static_cast<float>(stride)},
				by);

			if (face.confidence >= pack.detector_confidence)
				add(faces, face);
		}
	}
	return faces;
}

float area(const face_found &face)
{
	return face.width * face.height;
}

float overlap(const face_found &a, const face_found &b)
{
	float w = std::min(a.x + a.width, b.x + b.width) - std::max(a.x, b.x);
	float h = std::min(a.y + a.height, b.y + b.height) - std::max(a.y, b.y);
	float both = std::max(w, 0.0f) * std::max(h, 0.0f);

	return both / (area(a) + area(b) - both);
}

/* Of boxes that overlap, the most confident stands for the face. */
std::vector<face_found> suppress(std::vector<face_found> &&found, float limit)
{
	std::vector<face_found> kept;

	std::stable_sort(found.begin(), found.end(),
			 [](const auto &a, const auto &b) { return a.confidence > b.confidence; });
	for (const face_found &face : found) {
		if (std::none_of(kept.begin(), kept.end(), [&](const face_found &other) {
			    return overlap(face, other) > limit;
		    }))
			kept.push_back(face);
	}
	return kept;
}
} // namespace

std::vector<face_found> detect_faces(cv::dnn::Net &net, const struct pack &pack,
				     const cv::Mat &picture)
{
	std::vector<face_found> faces =
		suppress(pack.detector_kind == PACK_YUNET ? run_yunet(net, pack, picture)
							  : run_ultraface(net, pack, picture),
			 pack.detector_overlap);

	std::stable_sort(faces.begin(), faces.end(),
			 [](const auto &a, const auto &b) { return area(a) > area(b); });
	if (faces.size() > FACE_MAX_FACES)
		faces.resize(FACE_MAX_FACES);
	return faces;
}
