/* Real pictures made worse step by step: the component concerned must fall with every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/face.h"
#include "biomatch/score.h"
#include "pixels.h"

#define PACK  "build/packs/faceplugin-0.0.1"
#define STEPS 5

static const char *const people[] = {"build/samples/people/fay/01.jpg",
				     "build/samples/people/iris/01.jpg",
				     "build/samples/people/lena/01.jpg"};
#define PEOPLE (sizeof(people) / sizeof(people[0]))

static struct pack *pack;
static struct face_engine *engine;

/* A picture and the face in it. */
struct subject {
	struct pixels pixels;
	struct face_report report;
};
static struct subject subjects[PEOPLE];

static void look(struct encoded file, struct face_report *report)
{
	assert_int_equal(face_engine_run(engine, file.data, file.len, FACE_QUALITY, report), 0);
	free(file.data);
	assert_int_equal(report->measured, FACE_QUALITY);
}

static void look_at(const struct pixels *p, struct face_report *report)
{
	look(encode_png(p->p, p->width, p->height, PNG_FORMAT_BGR), report);
}

static int group_setup(void **state)
{
	char message[PACK_MESSAGE_LEN];

	(void)state;
	assert_int_equal(score_init(NULL), 0);
	assert_int_equal(pack_open(PACK, true, &pack, message), 0);
	assert_int_equal(face_engine_open(pack, &engine), 0);
	for (size_t i = 0; i < PEOPLE; i++) {
		subjects[i].pixels = read_pixels(people[i]);
		look_at(&subjects[i].pixels, &subjects[i].report);
	}
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	face_engine_close(engine);
	pack_close(pack);
	for (size_t i = 0; i < PEOPLE; i++)
		free(subjects[i].pixels.p);
	return 0;
}

static uint8_t clamp_byte(double v)
{
	return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : lround(v));
}

static struct pixels copy_pixels(const struct pixels *from)
{
	struct pixels out = make_pixels(from->width, from->height);

	memcpy(out.p, from->p, (size_t)3 * (size_t)(from->width * from->height));
	return out;
}

/* A picture made worse: not at all at step 0, most at STEPS. */
typedef struct pixels worsening(const struct subject *subject, int step);

/* The value never rises from step to step, and falls by at least drop in all. */
static void falls(enum quality_component component, worsening *harm, int drop)
{
	for (size_t i = 0; i < PEOPLE; i++) {
		int before = QUALITY_MAX, first = 0;
		char trail[64] = "";

		for (int step = 0; step <= STEPS; step++) {
			struct pixels worse = harm(&subjects[i], step);
			struct face_report report;
			int now;

			look_at(&worse, &report);
			free(worse.p);
			now = report.quality.value[component];
			first = step ? first : now;
			snprintf(trail + strlen(trail), sizeof(trail) - strlen(trail), " %d", now);
			if (now > before)
				fail_msg("%s: component %d rose:%s", people[i], (int)component,
					 trail);
			before = now;
		}
		if (first - before < drop)
			fail_msg("%s: component %d fell too little:%s", people[i], (int)component,
				 trail);
	}
}

/* The mean of a square of this radius around each pixel. */
static struct pixels blur(const struct subject *s, int step)
{
	const struct pixels *from = &s->pixels;
	struct pixels out = make_pixels(from->width, from->height);

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			int sum[3] = {0}, n = 0;

			for (int v = y - step; v <= y + step; v++) {
				for (int u = x - step; u <= x + step; u++) {
					if (u < 0 || v < 0 || u >= out.width || v >= out.height)
						continue;
					for (int c = 0; c < 3; c++)
						sum[c] += pixel_at(from, u, v)[c];
					n++;
				}
			}
			for (int c = 0; c < 3; c++)
				pixel_at(&out, x, y)[c] = (uint8_t)(sum[c] / n);
		}
	}
	return out;
}

/* Every byte through v * gain + offset. */
static struct pixels relight(const struct subject *s, double gain, double offset)
{
	struct pixels out = copy_pixels(&s->pixels);

	for (int i = 0; i < 3 * out.width * out.height; i++)
		out.p[i] = clamp_byte(out.p[i] * gain + offset);
	return out;
}

static struct pixels darken(const struct subject *s, int step)
{
	return relight(s, 1 - 0.15 * step, 0);
}

/* A glare over the nose, ever larger. */
static struct pixels glare(const struct subject *s, int step)
{
	const struct face_point *nose = &s->report.faces[0].landmarks[2];
	double radius = (double)s->report.faces[0].eye_distance * 0.12 * step;
	struct pixels out = copy_pixels(&s->pixels);

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			if (hypot(x - (double)nose->x, y - (double)nose->y) < radius)
				memset(pixel_at(&out, x, y), 255, 3);
		}
	}
	return out;
}

static struct pixels flatten(const struct subject *s, int step)
{
	double gain = pow(0.87, step);

	return relight(s, gain, 128 * (1 - gain));
}

/* Brightness of the cheek below an eye. */
static double cheek(const struct subject *s, int eye)
{
	const struct face_point *p = s->report.faces[0].landmarks;

	return pixel_at(&s->pixels, (int)p[eye].x, (int)p[2].y)[1];
}

/* Ever darker toward the side of the face that has less light. */
static struct pixels light_from_one_side(const struct subject *s, int step)
{
	const struct face_found *face = &s->report.faces[0];
	double side = cheek(s, 0) < cheek(s, 1) ? 1 : -1;
	struct pixels out = copy_pixels(&s->pixels);

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			/* -1 at the left edge of the face, 1 at the right. */
			double at = 2 * (x - (double)face->x) / (double)face->width - 1;
			double gain = 1 + 0.17 * step * side * (at < -1 ? -1 : at > 1 ? 1 : at);

			for (int c = 0; c < 3; c++)
				pixel_at(&out, x, y)[c] =
					clamp_byte(pixel_at(&out, x, y)[c] * fmin(gain, 1) * 0.7);
		}
	}
	return out;
}

static struct pixels fade_colour(const struct subject *s, int step)
{
	struct pixels out = copy_pixels(&s->pixels);

	for (int i = 0; i < out.width * out.height; i++) {
		uint8_t *p = out.p + 3 * i;
		double grey = 0.114 * p[0] + 0.587 * p[1] + 0.299 * p[2];

		for (int c = 0; c < 3; c++)
			p[c] = clamp_byte(p[c] + (grey - p[c]) * 0.2 * step);
	}
	return out;
}

/* The pixel nearest to a place, grey outside. */
static void sample(const struct pixels *from, double x, double y, uint8_t out[3])
{
	int u = (int)lround(x), v = (int)lround(y);

	if (u < 0 || v < 0 || u >= from->width || v >= from->height)
		memset(out, 128, 3);
	else
		memcpy(out, pixel_at(from, u, v), 3);
}

/* Around the middle of the face, from straight, which the heads of the samples are not. */
static struct pixels tilt(const struct subject *s, int step)
{
	const struct face_found *face = &s->report.faces[0];
	double angle = copysign(6 * step, (double)s->report.pose.roll) * M_PI / 180;
	double cx = (double)(face->x + face->width / 2), cy = (double)(face->y + face->height / 2);
	struct pixels out = make_pixels(s->pixels.width, s->pixels.height);

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			double dx = x - cx, dy = y - cy;

			sample(&s->pixels, cx + cos(angle) * dx + sin(angle) * dy,
			       cy - sin(angle) * dx + cos(angle) * dy, pixel_at(&out, x, y));
		}
	}
	return out;
}

/* The face as paint on an upright cylinder as wide as it is high, turned by the angle. */
static struct pixels turn_aside(const struct subject *s, int step)
{
	const struct face_found *face = &s->report.faces[0];
	double cx = (double)(face->x + face->width / 2), radius = (double)face->height / 2;
	double angle = copysign(5.5 * step, (double)s->report.pose.yaw) * M_PI / 180;
	struct pixels out = copy_pixels(&s->pixels);

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			double at = (x - cx) / radius, from;

			if (fabs(at) >= 1)
				continue;
			from = sin(fmax(-M_PI / 2, fmin(M_PI / 2, asin(at) - angle)));
			sample(&s->pixels, cx + radius * from, y, pixel_at(&out, x, y));
		}
	}
	return out;
}

static struct pixels shrink(const struct subject *s, int step)
{
	return shrink_pixels(&s->pixels, 1 + step);
}

/* The same head, ever smaller within the same frame. */
static struct pixels step_back(const struct subject *s, int step)
{
	struct pixels out = make_pixels(s->pixels.width, s->pixels.height);
	double by = 1 + 0.25 * step;

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++)
			sample(&s->pixels, (x - out.width / 2) * by + out.width / 2,
			       (y - out.height / 2) * by + out.height / 2, pixel_at(&out, x, y));
	}
	return out;
}

/* A step further off the edge: left, above, right, below. */
static struct pixels crop(const struct subject *s, int side, int step)
{
	const struct face_found *face = &s->report.faces[0];
	int w = s->pixels.width, h = s->pixels.height, x = 0, y = 0;
	float share = 0.05f * (float)step;

	if (side == 0)
		x = (int)(face->x + face->width * share);
	if (side == 1)
		y = (int)(face->y + face->height * share);
	if (side == 2)
		w = (int)(face->x + face->width * (1 - share));
	if (side == 3)
		h = (int)(face->y + face->height * (1.1f - share));
	return cut_pixels(&s->pixels, x, y, w - x, h - y);
}

static struct pixels crop_left(const struct subject *s, int step)
{
	return crop(s, 0, step);
}

static struct pixels crop_above(const struct subject *s, int step)
{
	return crop(s, 1, step);
}

static struct pixels crop_right(const struct subject *s, int step)
{
	return crop(s, 2, step);
}

static struct pixels crop_below(const struct subject *s, int step)
{
	return crop(s, 3, step);
}

/* More and more room on one side. */
static struct pixels move_aside(const struct subject *s, int step)
{
	int room = s->pixels.width * step / 5;
	bool is_left = s->report.faces[0].landmarks[2].x < (float)s->pixels.width / 2;

	return cut_pixels(&s->pixels, is_left ? 0 : -room, 0, s->pixels.width + room,
			  s->pixels.height);
}

/* A plain wall behind the head, then checks on it, ever stronger. */
static struct pixels clutter(const struct subject *s, int step)
{
	const struct face_found *face = &s->report.faces[0];
	double cx = (double)(face->x + face->width / 2), cy = (double)(face->y + face->height / 2);
	struct pixels out = copy_pixels(&s->pixels);

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			int stripe = (x / 12 + y / 12) % 2 ? 8 * step : 0;

			if (hypot((x - cx) / (double)face->height,
				  (y - cy) / (double)face->height) < 0.75)
				continue;
			for (int c = 0; c < 3; c++)
				pixel_at(&out, x, y)[c] = (uint8_t)(60 + stripe);
		}
	}
	return out;
}

/* Stretches the rows between the lips, dark as an open mouth is. */
static struct pixels open_mouth(const struct subject *s, int step)
{
	const struct face_point *p = s->report.faces[0].landmarks;
	double eyes = (double)s->report.faces[0].eye_distance, gap = eyes * 0.05 * step;
	double cx = (double)(p[3].x + p[4].x) / 2, cy = (double)(p[3].y + p[4].y) / 2;
	double half = (double)(p[4].x - p[3].x) * 0.45;
	struct pixels out = copy_pixels(&s->pixels);

	for (int x = (int)(cx - half); x <= (int)(cx + half); x++) {
		double here = gap * sqrt(fmax(0, 1 - (x - cx) * (x - cx) / (half * half)));

		for (int y = (int)(cy - eyes * 0.1); y < out.height; y++) {
			if (y > cy && y < cy + here)
				memset(pixel_at(&out, x, y), 20, 3);
			else if (y > cy)
				sample(&s->pixels, x, y - here, pixel_at(&out, x, y));
		}
	}
	return out;
}

static void blend(uint8_t *pixel, const uint8_t over[3], double share)
{
	for (int c = 0; c < 3; c++)
		pixel[c] = clamp_byte(pixel[c] + share * (over[c] - pixel[c]));
}

/* Glasses, ever darker. */
static struct pixels tint_glasses(const struct subject *s, int step)
{
	static const uint8_t glass[3] = {25, 20, 20};
	const struct face_found *face = &s->report.faces[0];
	double wide = (double)face->eye_distance * 0.45, high = wide * 0.85;
	struct pixels out = copy_pixels(&s->pixels);

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			for (int eye = 0; eye < 2; eye++) {
				const struct face_point *p = &face->landmarks[eye];

				if (hypot((x - (double)p->x) / wide, (y - (double)p->y) / high) < 1)
					blend(pixel_at(&out, x, y), glass, 0.16 * step);
			}
		}
	}
	return out;
}

/* A surgical mask that is pulled up from the chin to the nose. */
static struct pixels pull_up_mask(const struct subject *s, int step)
{
	static const uint8_t cloth[3] = {230, 200, 160};
	const struct face_found *face = &s->report.faces[0];
	const struct face_point *p = face->landmarks;
	double eyes = (double)face->eye_distance, half = eyes * 0.9;
	double cx = (double)(p[3].x + p[4].x) / 2,
	       chin = (double)(p[3].y + p[4].y) / 2 + eyes * 0.6;
	double edge = chin - eyes * 0.23 * step;
	struct pixels out = copy_pixels(&s->pixels);

	for (int y = (int)edge; step && y < (int)(chin + eyes * 0.4) && y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			if (fabs(x - cx) < half)
				blend(pixel_at(&out, x, y), cloth, 1);
		}
	}
	return out;
}

static void test_cover(void **state)
{
	(void)state;
	falls(QUALITY_EYES_VISIBLE, tint_glasses, 60);
	falls(QUALITY_MOUTH_VISIBLE, pull_up_mask, 60);
}

static void test_light(void **state)
{
	(void)state;
	falls(QUALITY_UNDER_EXPOSURE, darken, 40);
	falls(QUALITY_OVER_EXPOSURE, glare, 30);
	falls(QUALITY_DYNAMIC_RANGE, flatten, 20);
	falls(QUALITY_ILLUMINATION_UNIFORMITY, light_from_one_side, 10);
	falls(QUALITY_NATURAL_COLOUR, fade_colour, 90);
}

static void test_sharpness(void **state)
{
	(void)state;
	falls(QUALITY_SHARPNESS, blur, 35);
	falls(QUALITY_INTER_EYE_DISTANCE, shrink, 40);
}

static void test_pose(void **state)
{
	(void)state;
	falls(QUALITY_POSE_ROLL, tilt, 15);
	falls(QUALITY_POSE_YAW, turn_aside, 5);
}

static void test_place(void **state)
{
	(void)state;
	falls(QUALITY_HEAD_SIZE, step_back, 30);
	falls(QUALITY_HEAD_POSITION, move_aside, 30);
	falls(QUALITY_MARGIN_LEFT, crop_left, 20);
	falls(QUALITY_MARGIN_RIGHT, crop_right, 20);
	falls(QUALITY_MARGIN_ABOVE, crop_above, 20);
	falls(QUALITY_MARGIN_BELOW, crop_below, 20);
}

static void test_surroundings(void **state)
{
	(void)state;
	falls(QUALITY_BACKGROUND_UNIFORMITY, clutter, 20);
}

static void test_mouth(void **state)
{
	(void)state;
	falls(QUALITY_MOUTH_CLOSED, open_mouth, 10);
}

static void test_compression(void **state)
{
	static const int qualities[STEPS] = {90, 60, 35, 20, 10};

	(void)state;
	for (size_t i = 0; i < PEOPLE; i++) {
		const struct pixels *p = &subjects[i].pixels;
		int before = QUALITY_MAX;

		for (int step = 0; step < STEPS; step++) {
			struct face_report report;

			look(encode_jpeg_at(p->p, p->width, p->height, TJPF_BGR, TJSAMP_420, 0,
					    qualities[step]),
			     &report);
			assert_true(report.quality.value[QUALITY_COMPRESSION] <= before);
			before = report.quality.value[QUALITY_COMPRESSION];
		}
		assert_true(before < 60);
	}
}

/* Overall is the least of what a comparison depends on, and of nothing else. */
static void test_overall(void **state)
{
	struct pixels dark = darken(&subjects[0], STEPS);
	struct face_report report;

	(void)state;
	look_at(&dark, &report);
	free(dark.p);
	assert_true(report.quality.value[QUALITY_OVERALL] <=
		    report.quality.value[QUALITY_UNDER_EXPOSURE]);
	assert_int_equal(report.quality.value[QUALITY_OVERALL], quality_overall(&report.quality));
}

static void test_only_when_wanted(void **state)
{
	struct encoded file = read_encoded(people[0]);
	struct face_report report;

	(void)state;
	assert_int_equal(face_engine_run(engine, file.data, file.len, 0, &report), 0);
	free(file.data);
	assert_int_equal(report.measured, 0);
	assert_int_equal(report.quality_us, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_light),     cmocka_unit_test(test_cover),
		cmocka_unit_test(test_sharpness), cmocka_unit_test(test_pose),
		cmocka_unit_test(test_place),     cmocka_unit_test(test_surroundings),
		cmocka_unit_test(test_mouth),     cmocka_unit_test(test_compression),
		cmocka_unit_test(test_overall),   cmocka_unit_test(test_only_when_wanted),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
