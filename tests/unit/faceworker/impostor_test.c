/*
 * A worker that a picture has taken over: this program starts itself in place of
 * biomatch-face and lies in every way the protocol has. The daemon's side must
 * believe none of it, end the process, and show nothing of what it was told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"
#include "biomatch/faceworker.h"

#define PROGRAM "/proc/self/exe"
#define DIM     128

/* A report that holds: one face and a template. */
static void tell_truth(struct face_report *report)
{
	*report = (struct face_report){.width = 100, .height = 80, .n_faces = 1, .dim = DIM};
	report->faces[0] = (struct face_found){
		.x = 10, .y = 10, .width = 50, .height = 50, .confidence = 1, .eye_distance = 20};
	report->embedding[0] = 0.6f;
	report->embedding[DIM - 1] = 0.8f;
}

static void too_many_faces(struct face_report *report)
{
	report->n_faces = FACE_MAX_FACES + 1;
}

static void no_face_but_a_template(struct face_report *report)
{
	report->n_faces = 0;
}

static void too_many_pixels(struct face_report *report)
{
	report->width = report->height = UINT32_MAX;
}

static void too_many_elements(struct face_report *report)
{
	report->dim = PACK_MAX_DIM + 1;
}

/* What is missing would be taken from beyond what was checked. */
static void too_few_elements(struct face_report *report)
{
	report->dim = DIM / 2;
	report->embedding[0] = 1;
	report->embedding[DIM - 1] = 100;
}

static void no_elements(struct face_report *report)
{
	report->dim = 0;
}

static void not_a_number(struct face_report *report)
{
	report->embedding[5] = NAN;
}

static void infinite(struct face_report *report)
{
	report->embedding[5] = INFINITY;
}

static void too_long(struct face_report *report)
{
	report->embedding[0] = 2;
}

static void zero(struct face_report *report)
{
	report->embedding[0] = report->embedding[DIM - 1] = 0;
}

static void box_not_a_number(struct face_report *report)
{
	report->faces[0].width = NAN;
}

static void landmark_infinite(struct face_report *report)
{
	report->faces[0].landmarks[4].y = -INFINITY;
}

static void quality_above_all(struct face_report *report)
{
	report->quality.value[QUALITY_SHARPNESS] = QUALITY_MAX + 1;
}

static void pose_not_a_number(struct face_report *report)
{
	report->pose.yaw = NAN;
}

static void liveness_above_all(struct face_report *report)
{
	report->liveness = 1.5f;
}

static void liveness_below_all(struct face_report *report)
{
	report->liveness = -0.5f;
}

static void liveness_not_a_number(struct face_report *report)
{
	report->liveness = NAN;
}

/* Codes that are no finding about a face, or no code at all. */
static void finding_of_another_kind(struct face_report *report)
{
	report->finding = BM_EPURPOSE;
}

static void finding_unknown(struct face_report *report)
{
	report->finding = INT32_MIN;
}

static void finding_positive(struct face_report *report)
{
	report->finding = 1;
}

static const struct lie {
	const char *name;
	void (*tell)(struct face_report *report);
	int32_t result;  /* of the answer */
	size_t short_by; /* bytes that the answer lacks */
} lies[] = {
	{"too-many-faces", too_many_faces, 0, 0},
	{"no-face-but-a-template", no_face_but_a_template, 0, 0},
	{"too-many-pixels", too_many_pixels, 0, 0},
	{"too-many-elements", too_many_elements, 0, 0},
	{"too-few-elements", too_few_elements, 0, 0},
	{"no-elements", no_elements, 0, 0},
	{"not-a-number", not_a_number, 0, 0},
	{"infinite", infinite, 0, 0},
	{"too-long", too_long, 0, 0},
	{"zero", zero, 0, 0},
	{"box-not-a-number", box_not_a_number, 0, 0},
	{"landmark-infinite", landmark_infinite, 0, 0},
	{"quality-above-all", quality_above_all, 0, 0},
	{"pose-not-a-number", pose_not_a_number, 0, 0},
	{"liveness-above-all", liveness_above_all, 0, 0},
	{"liveness-below-all", liveness_below_all, 0, 0},
	{"liveness-not-a-number", liveness_not_a_number, 0, 0},
	{"finding-of-another-kind", finding_of_another_kind, 0, 0},
	{"finding-unknown", finding_unknown, 0, 0},
	{"finding-positive", finding_positive, 0, 0},
	{"result-positive", NULL, 1, 0},
	{"result-of-another-kind", NULL, BM_EPURPOSE, 0},
	{"result-unknown", NULL, INT32_MIN, 0},
	{"answer-short", NULL, 0, 1},
};

#define LIES (sizeof(lies) / sizeof(lies[0]))

/* What the other process does. */

static void say(int32_t result, size_t short_by)
{
	struct faceworker_answer answer = {.result = result};

	if (send(FACEWORKER_SOCKET_FD, &answer, sizeof(answer) - short_by, MSG_NOSIGNAL) < 0)
		_exit(1);
}

/* One order after another; the first is answered with the lie, the next with the truth. */
static void serve(const struct lie *lie, struct faceworker_memory *memory)
{
	struct faceworker_order order;

	while (recv(FACEWORKER_SOCKET_FD, &order, sizeof(order), 0) == sizeof(order)) {
		tell_truth(&memory->report);
		if (lie && lie->tell)
			lie->tell(&memory->report);
		say(lie ? lie->result : 0, lie ? lie->short_by : 0);
	}
}

static int impersonate(const char *name)
{
	struct faceworker_memory *memory = mmap(NULL, sizeof(*memory), PROT_READ | PROT_WRITE,
						MAP_SHARED, FACEWORKER_MEMORY_FD, 0);
	const struct lie *lie = NULL;

	if (memory == MAP_FAILED)
		return 1;
	if (!strcmp(name, "ends"))
		return 0;
	if (!strcmp(name, "silent"))
		pause();
	if (!strcmp(name, "shrinks") && !ftruncate(FACEWORKER_MEMORY_FD, 0))
		return 1;
	for (size_t i = 0; i < LIES; i++) {
		if (!strcmp(name, lies[i].name))
			lie = &lies[i];
	}
	say(!strcmp(name, "refuses") ? BM_EPACK : 0, 0);
	serve(lie, memory);
	return 0;
}

/* The daemon's side. */

static int open_impostor(const char *name, uint32_t start_ms, struct faceworker **worker)
{
	const struct faceworker_options options = {
		.program = PROGRAM,
		.pack_dir = name,
		.dim = DIM,
		.start_ms = start_ms,
		.run_ms = 30000,
		.max_memory = UINT64_C(1) << 30,
	};

	return faceworker_open(&options, worker);
}

static void assert_no_child(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void assert_empty(const struct face_report *report)
{
	static const struct face_report nothing;

	assert_memory_equal(report, &nothing, sizeof(nothing));
}

static void test_believes_the_truth(void **state)
{
	struct face_report report, expected;
	struct faceworker *worker;

	(void)state;
	assert_int_equal(open_impostor("honest", 30000, &worker), 0);
	tell_truth(&expected);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			faceworker_run(worker, (const uint8_t *)"x", 1, 0, CLOCK_FOREVER, &report),
			0);
		assert_memory_equal(&report, &expected, sizeof(report));
	}
	faceworker_close(worker);
	assert_no_child();
}

static void test_believes_no_lie(void **state)
{
	(void)state;
	for (size_t i = 0; i < LIES; i++) {
		struct face_report report = {0};
		struct faceworker *worker;

		print_message("%s\n", lies[i].name);
		assert_int_equal(open_impostor(lies[i].name, 30000, &worker), 0);
		assert_int_equal(
			faceworker_run(worker, (const uint8_t *)"x", 1, 0, CLOCK_FOREVER, &report),
			BM_EWORKER);
		assert_empty(&report);
		assert_int_equal(faceworker_pid(worker), -1);
		assert_no_child();
		assert_int_equal(faceworker_ready(worker), 0);
		assert_true(faceworker_pid(worker) > 0);
		faceworker_close(worker);
		assert_no_child();
	}
}

/* A judgement that was asked for cannot be left out, or an attack would pass unseen. */
static void test_misses_what_is_left_out(void **state)
{
	(void)state;
	for (unsigned wanted = FACE_QUALITY; wanted <= FACE_LIVENESS; wanted <<= 1) {
		struct face_report report = {0};
		struct faceworker *worker;

		assert_int_equal(open_impostor("honest", 30000, &worker), 0);
		assert_int_equal(faceworker_run(worker, (const uint8_t *)"x", 1, wanted,
						CLOCK_FOREVER, &report),
				 BM_EWORKER);
		assert_empty(&report);
		faceworker_close(worker);
		assert_no_child();
	}
}

static void assert_does_not_open(const char *name, uint32_t start_ms, int error)
{
	struct faceworker *worker = NULL;

	assert_int_equal(open_impostor(name, start_ms, &worker), error);
	assert_null(worker);
	assert_no_child();
}

static void test_says_why_a_start_failed(void **state)
{
	(void)state;
	assert_does_not_open("ends", 30000, BM_EWORKER);
	assert_does_not_open("silent", 50, BM_EWORKERTIME);
	assert_does_not_open("refuses", 30000, BM_EPACK);
}

static void test_wants_its_program(void **state)
{
	const struct faceworker_options options = {.program = "/nowhere/biomatch-face",
						   .pack_dir = "honest",
						   .dim = DIM,
						   .start_ms = 1000,
						   .run_ms = 1000,
						   .max_memory = 1};
	struct faceworker *worker = NULL;

	(void)state;
	assert_int_equal(faceworker_open(&options, &worker), BM_EWORKER);
	assert_null(worker);
	assert_no_child();
}

/* Cut short, the daemon's own copying would end it with SIGBUS. */
static void test_keeps_the_memory_whole(void **state)
{
	struct face_report report;
	struct faceworker *worker;

	(void)state;
	assert_int_equal(open_impostor("shrinks", 30000, &worker), 0);
	assert_int_equal(faceworker_run(worker, (const uint8_t *)"x", 1, 0, CLOCK_FOREVER, &report),
			 0);
	faceworker_close(worker);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_believes_the_truth),
		cmocka_unit_test(test_believes_no_lie),
		cmocka_unit_test(test_misses_what_is_left_out),
		cmocka_unit_test(test_says_why_a_start_failed),
		cmocka_unit_test(test_wants_its_program),
		cmocka_unit_test(test_keeps_the_memory_whole),
	};

	/* As biomatch-face is called. */
	if (argc == 3)
		return impersonate(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
