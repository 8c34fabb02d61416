#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <opencv2/imgproc.hpp>

#include "align.h"
#include "crop.h"
#include "detect.h"
#include "geometry.h"
#include "judge.h"
#include "picture.h"

extern "C" {
#include "biomatch/clock.h"
#include "biomatch/log.h"
/* C lets a function have the name of a struct. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include "biomatch/score.h"
#pragma GCC diagnostic pop
}

struct face_engine {
	const struct pack *pack;
	cv::dnn::Net detector, landmarks, embedding, liveness;
};

namespace
{
cv::dnn::Net load(const struct pack_model &model)
{
	cv::dnn::Net net = cv::dnn::readNetFromONNX(model.file);

	net.setPreferableBackend(cv::dnn::DNN_BACKEND_OPENCV);
	net.setPreferableTarget(cv::dnn::DNN_TARGET_CPU);
	return net;
}

/* Part of a picture through a transform, as a network's input. */
cv::Mat cut(const struct pack_model &model, const cv::Mat &picture, const cv::Matx23d &by,
	    int border)
{
	cv::Size size(static_cast<int>(model.width), static_cast<int>(model.height));
	cv::Mat part = crop_part(picture, by, size, border);

	if (model.colour == PACK_GREY)
		cv::cvtColor(part, part, cv::COLOR_BGR2GRAY);
	return cv::dnn::blobFromImage(part, 1.0 / static_cast<double>(model.scale), cv::Size(),
				      cv::Scalar::all(static_cast<double>(model.mean)),
				      model.colour == PACK_RGB);
}

/* The mean of points first to last of the 68. */
face_point middle(const float *points, int first, int last)
{
	face_point sum = {0, 0};
	auto n = static_cast<float>(last - first + 1);

	for (int i = first; i <= last; i++) {
		sum.x += points[2 * i] / n;
		sum.y += points[2 * i + 1] / n;
	}
	return sum;
}

/*
 * The model looks at a square around the box and answers in shares of it. all,
 * where wanted, takes the 68 in pixels of the picture.
 */
void find_points(struct face_engine *engine, const cv::Mat &picture, face_found &face,
		 face_point *all)
{
	const struct pack_model &model = engine->pack->landmarks;
	float side = face.height * engine->pack->landmarks_margin;
	float left = face.x + (face.width - side) / 2, top = face.y + (face.height - side) / 2;
	double sx = static_cast<double>(model.width) / static_cast<double>(side);
	double sy = static_cast<double>(model.height) / static_cast<double>(side);
	/* Pixel centres stay pixel centres. */
	const cv::Matx23d by(sx, 0, (0.5 - static_cast<double>(left)) * sx - 0.5, 0, sy,
			     (0.5 - static_cast<double>(top)) * sy - 0.5);

	engine->landmarks.setInput(cut(model, picture, by, cv::BORDER_REPLICATE));
	cv::Mat out = engine->landmarks.forward();
	CV_Assert(out.total() == 136 && out.isContinuous());

	const float *points = out.ptr<float>();
	const face_point shares[5] = {middle(points, 36, 41), middle(points, 42, 47),
				      middle(points, 30, 30), middle(points, 48, 48),
				      middle(points, 54, 54)};

	for (int i = 0; i < 5; i++)
		face.landmarks[i] = {left + shares[i].x * side, top + shares[i].y * side};
	for (int i = 0; all && i < GEOMETRY_POINTS; i++)
		all[i] = {left + points[2 * i] * side, top + points[2 * i + 1] * side};
}

bool is_cut(const struct face_report *report, const face_found &face)
{
	auto width = static_cast<float>(report->width), height = static_cast<float>(report->height);
	float w = std::min(face.x + face.width, width) - std::max(face.x, 0.0f);
	float h = std::min(face.y + face.height, height) - std::max(face.y, 0.0f);

	if (std::max(w, 0.0f) * std::max(h, 0.0f) < (1 - FACE_MAX_CUT) * face.width * face.height)
		return true;
	return std::any_of(face.landmarks, face.landmarks + 5, [&](const face_point &p) {
		return !(p.x >= 0 && p.y >= 0 && p.x < width && p.y < height);
	});
}

/* What stands against taking the largest face. */
int judge(const struct face_report *report)
{
	const face_found *faces = report->faces;

	if (!report->n_faces)
		return BM_ENOFACE;
	if (report->n_faces > 1 &&
	    faces[1].width * faces[1].height >= FACE_RIVAL_AREA * faces[0].width * faces[0].height)
		return BM_EMANYFACES;
	if (is_cut(report, faces[0]))
		return BM_EFACECUT;
	return faces[0].eye_distance < FACE_MIN_EYES ? BM_EFACESMALL : 0;
}

/* points takes the 68 of the largest face, where the pack has them. */
void find_faces(struct face_engine *engine, const cv::Mat &picture, struct face_report *report,
		face_point *points)
{
	int64_t start = clock_monotonic_ns();
	std::vector<face_found> faces = detect_faces(engine->detector, *engine->pack, picture);
	int64_t found = clock_monotonic_ns();

	for (face_found &face : faces) {
		if (engine->pack->landmarks_kind == PACK_LANDMARKS_68)
			find_points(engine, picture, face, report->n_faces ? nullptr : points);
		face.eye_distance = std::hypot(face.landmarks[1].x - face.landmarks[0].x,
					       face.landmarks[1].y - face.landmarks[0].y);
		report->faces[report->n_faces++] = face;
	}
	report->detect_us = static_cast<uint32_t>((found - start) / CLOCK_NS_PER_US);
	report->align_us = static_cast<uint32_t>((clock_monotonic_ns() - found) / CLOCK_NS_PER_US);
}

int embed(struct face_engine *engine, const cv::Mat &picture, struct face_report *report)
{
	int64_t start = clock_monotonic_ns();
	double by[2][3];

	if (align_find_transform(report->faces[0].landmarks, by))
		return BM_EFACESMALL;
	engine->embedding.setInput(
		cut(engine->pack->embedding, picture, cv::Matx23d(&by[0][0]), cv::BORDER_CONSTANT));
	cv::Mat out = engine->embedding.forward();
	CV_Assert(out.total() == engine->pack->dim && out.isContinuous());

	std::memcpy(report->embedding, out.ptr<float>(), engine->pack->dim * sizeof(float));
	/* Only a broken model gives a vector without a direction. */
	CV_Assert(!score_normalise(report->embedding, engine->pack->dim));
	report->embed_us = static_cast<uint32_t>((clock_monotonic_ns() - start) / CLOCK_NS_PER_US);
	return 0;
}

void judge_quality(struct face_engine *engine, const cv::Mat &picture, double step,
		   const face_point *points, struct face_report *report)
{
	int64_t start = clock_monotonic_ns();
	bool all = engine->pack->landmarks_kind == PACK_LANDMARKS_68;

	judge_face(picture, step, report->faces[0], all ? points : nullptr, report->quality,
		   report->pose);
	report->measured |= FACE_QUALITY;
	report->quality_us =
		static_cast<uint32_t>((clock_monotonic_ns() - start) / CLOCK_NS_PER_US);
}

/*
 * The box grown about its middle, less where the picture is too small for it, and
 * moved into the picture: the model was taught with nothing painted in.
 */
cv::Rect2d find_surroundings(const cv::Mat &picture, const face_found &face, double margin)
{
	double width = static_cast<double>(face.width), height = static_cast<double>(face.height);
	double scale = std::min({margin, picture.cols / width, picture.rows / height});
	double x = static_cast<double>(face.x) + width * (1 - scale) / 2;
	double y = static_cast<double>(face.y) + height * (1 - scale) / 2;

	return {std::clamp(x, 0.0, std::max(0.0, picture.cols - width * scale)),
		std::clamp(y, 0.0, std::max(0.0, picture.rows - height * scale)), width * scale,
		height * scale};
}

/* The share that softmax gives the first output. */
float first_share(const float *logits, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += std::exp(static_cast<double>(logits[i]) - static_cast<double>(logits[0]));
	return static_cast<float>(1 / sum);
}

void judge_liveness(struct face_engine *engine, const cv::Mat &picture, struct face_report *report)
{
	const struct pack_model &model = engine->pack->liveness;
	int64_t start = clock_monotonic_ns();
	cv::Rect2d area = find_surroundings(picture, report->faces[0],
					    static_cast<double>(engine->pack->liveness_margin));
	double sx = model.width / area.width, sy = model.height / area.height;
	/* Pixel centres stay pixel centres. */
	const cv::Matx23d by(sx, 0, (0.5 - area.x) * sx - 0.5, 0, sy, (0.5 - area.y) * sy - 0.5);

	engine->liveness.setInput(cut(model, picture, by, cv::BORDER_REPLICATE));
	cv::Mat out = engine->liveness.forward();
	CV_Assert(out.total() >= 2 && out.isContinuous());
	report->liveness = first_share(out.ptr<float>(), out.total());
	report->measured |= FACE_LIVENESS;
	report->liveness_us =
		static_cast<uint32_t>((clock_monotonic_ns() - start) / CLOCK_NS_PER_US);
}

void look(struct face_engine *engine, const struct picture &picture, unsigned wanted,
	  struct face_report *report)
{
	face_point points[GEOMETRY_POINTS];
	cv::Mat pixels(static_cast<int>(picture.height), static_cast<int>(picture.width), CV_8UC3,
		       picture.pixels);

	report->width = picture.width;
	report->height = picture.height;
	report->dim = engine->pack->dim;
	find_faces(engine, pixels, report, points);
	report->finding = judge(report);
	if (wanted & FACE_QUALITY && report->n_faces)
		judge_quality(engine, pixels, picture.jpeg_step, points, report);
	if (wanted & FACE_LIVENESS && report->n_faces && engine->pack->liveness.file)
		judge_liveness(engine, pixels, report);
	if (!report->finding)
		report->finding = embed(engine, pixels, report);
}
/*
 * One pass through every network: shapes that do not fit the manifest show now,
 * and what OpenCV sets up at first use is in place before the first picture.
 */
void warm_up(struct face_engine *engine)
{
	const cv::Mat black = cv::Mat::zeros(240, 320, CV_8UC3);
	struct face_report report = {};
	face_found face = {};

	detect_faces(engine->detector, *engine->pack, black);
	face.width = face.height = 100;
	if (engine->pack->landmarks_kind == PACK_LANDMARKS_68)
		find_points(engine, black, face, nullptr);
	const face_point apart[5] = {{20, 20}, {60, 20}, {40, 40}, {25, 60}, {55, 60}};
	std::copy(apart, apart + 5, report.faces[0].landmarks);
	CV_Assert(!embed(engine, black, &report));
	report.faces[0].width = report.faces[0].height = 100;
	if (engine->pack->liveness.file)
		judge_liveness(engine, black, &report);
}
} // namespace

int face_engine_open(const struct pack *pack, struct face_engine **out)
{
	auto *engine = new (std::nothrow) face_engine;

	if (!engine)
		return BM_ENOMEM;
	try {
		/* Processes, not threads, use the processors. */
		cv::setNumThreads(1);
		engine->pack = pack;
		engine->detector = load(pack->detector);
		if (pack->landmarks.file)
			engine->landmarks = load(pack->landmarks);
		engine->embedding = load(pack->embedding);
		if (pack->liveness.file)
			engine->liveness = load(pack->liveness);
		warm_up(engine);
	} catch (const std::exception &e) {
		log_error("model_load_failed", "reason=%s", e.what());
		delete engine;
		return BM_EPACK;
	}
	*out = engine;
	return 0;
}

void face_engine_close(struct face_engine *engine)
{
	delete engine;
}

int face_engine_run(struct face_engine *engine, const uint8_t *data, size_t len, unsigned wanted,
		    struct face_report *report)
{
	int64_t start = clock_monotonic_ns();
	struct picture picture;
	int error = picture_decode({data, len}, &picture);

	std::memset(report, 0, sizeof(*report));
	if (error)
		return error;
	report->decode_us = static_cast<uint32_t>((clock_monotonic_ns() - start) / CLOCK_NS_PER_US);
	try {
		look(engine, picture, wanted, report);
	} catch (const std::bad_alloc &) {
		error = BM_ENOMEM;
	} catch (const std::exception &e) {
		log_error("model_run_failed", "reason=%s", e.what());
		error = BM_EINTERNAL;
	}
	picture_deinit(&picture);
	return error;
}
