/*
 * Liveness by the default pack's model. A screen photographed again is imitated
 * roughly, by washed-out contrast and a grid of pixels: it holds what the code
 * does to the model's answer, not how well the model catches attacks.
 */
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

#define PACK   "build/packs/faceplugin-0.0.1"
#define PEOPLE "build/samples/people/"
#define STEPS  4

static const char *const people[] = {"ada",  "bea",  "elsa", "fay", "gwen",
				     "hana", "iris", "june", "lena"};
#define N_PEOPLE (sizeof(people) / sizeof(people[0]))

static struct pack *pack;
static struct face_engine *engine;

static int group_setup(void **state)
{
	char message[PACK_MESSAGE_LEN];

	(void)state;
	assert_int_equal(score_init(NULL), 0);
	assert_int_equal(pack_open(PACK, true, &pack, message), 0);
	assert_int_equal(face_engine_open(pack, &engine), 0);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	face_engine_close(engine);
	pack_close(pack);
	return 0;
}

static void look(const struct pixels *p, unsigned wanted, struct face_report *report)
{
	struct encoded file = encode_png(p->p, p->width, p->height, PNG_FORMAT_BGR);

	assert_int_equal(face_engine_run(engine, file.data, file.len, wanted, report), 0);
	free(file.data);
	assert_true(report->n_faces > 0);
}

static float liveness(const struct pixels *p)
{
	struct face_report report;

	look(p, FACE_LIVENESS, &report);
	assert_int_equal(report.measured, FACE_LIVENESS);
	assert_true(report.liveness_us > 0);
	assert_true(report.liveness >= 0 && report.liveness <= 1);
	return report.liveness;
}

static struct pixels read_person(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), PEOPLE "%s/01.jpg", name);
	return read_pixels(path);
}

/* The picture on a screen: more of it with every step. */
static void present(struct pixels *p, int step)
{
	double much = step / (double)STEPS;

	for (int y = 0; y < p->height; y++) {
		for (int x = 0; x < p->width; x++) {
			double grid =
				1 + 0.35 * much * sin(2 * M_PI * x / 3) * sin(2 * M_PI * y / 3.21);

			for (int c = 0; c < 3; c++) {
				uint8_t *v = pixel_at(p, x, y) + c;
				double seen = (*v * (1 - 0.5 * much) + 170 * 0.5 * much) * grid;

				*v = (uint8_t)(seen > 255 ? 255 : lround(seen));
			}
		}
	}
}

/* Single faces wander; over all of them it falls with every step. */
static void test_falls_as_the_face_is_presented(void **state)
{
	double before = 0;

	(void)state;
	for (int step = 0; step < STEPS; step++) {
		double sum = 0;

		for (size_t i = 0; i < N_PEOPLE; i++) {
			struct pixels p = read_person(people[i]);

			present(&p, step);
			sum += (double)liveness(&p);
			free(p.p);
		}
		print_message("step %d: mean %.3f\n", step, sum / N_PEOPLE);
		if (step)
			assert_true(sum < before);
		else
			assert_true(sum / N_PEOPLE > 0.75);
		before = sum;
	}
	assert_true(before / N_PEOPLE < 0.6);
}

/* The face and what is around it count, not how many pixels show them. */
static void test_holds_at_another_size(void **state)
{
	static const char *const live[] = {"bea", "fay", "gwen"};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct pixels p = read_person(live[i]), half = shrink_pixels(&p, 2);

		assert_true(liveness(&p) > 0.95f);
		assert_true(liveness(&half) > 0.8f);
		free(half.p);
		free(p.p);
	}
}

/* A face at the edge is looked at with what surroundings there are. */
static void test_looks_inside_the_picture(void **state)
{
	struct pixels p = read_person("fay");

	(void)state;
	for (int cut = 0; cut <= 120; cut += 40) {
		struct pixels part = cut_pixels(&p, cut, cut / 2, p.width - cut, p.height - cut);

		liveness(&part);
		free(part.p);
	}
	free(p.p);
}

static void test_only_when_wanted(void **state)
{
	struct pixels p = read_person("bea"), blank = make_pixels(300, 200);
	struct encoded file = encode_png(blank.p, 300, 200, PNG_FORMAT_BGR);
	struct face_report report, both;

	(void)state;
	look(&p, 0, &report);
	assert_int_equal(report.measured, 0);
	assert_int_equal(report.liveness_us, 0);
	look(&p, FACE_QUALITY | FACE_LIVENESS, &both);
	assert_int_equal(both.measured, FACE_QUALITY | FACE_LIVENESS);
	assert_true(both.liveness == liveness(&p));
	assert_memory_equal(both.embedding, report.embedding, pack->dim * sizeof(float));
	assert_int_equal(face_engine_run(engine, file.data, file.len, FACE_LIVENESS, &report), 0);
	assert_int_equal(report.finding, BM_ENOFACE);
	assert_int_equal(report.measured, 0);
	free(file.data);
	free(blank.p);
	free(p.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_falls_as_the_face_is_presented),
		cmocka_unit_test(test_holds_at_another_size),
		cmocka_unit_test(test_looks_inside_the_picture),
		cmocka_unit_test(test_only_when_wanted),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
