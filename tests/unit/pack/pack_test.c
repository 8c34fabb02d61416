/* Manifests: what one says, every way one is refused, and the threshold of a rate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "biomatch/file.h"
#include "biomatch/pack.h"

/* SHA-256 of "abc" (FIPS 180-2, B.1) and of nothing. */
#define SHA_ABC   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define SHA_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

#define HEAD                                                                                       \
	"name: test-pack\n"                                                                        \
	"version: 1.2\n"                                                                           \
	"licence: MIT\n"                                                                           \
	"dimension: 128\n"
#define DETECTOR                                                                                   \
	"detector: {kind: ultraface, file: m/abc, sha256: " SHA_ABC ", width: 320, height: 240,\n" \
	"  colour: rgb, mean: 127, scale: 128, confidence: 0.65, overlap: 0.4}\n"
#define LANDMARKS                                                                                  \
	"landmarks: {kind: points-68, file: m/empty, sha256: " SHA_EMPTY ", width: 64,\n"          \
	"  height: 64, colour: grey, mean: 0, scale: 256, margin: 1.25}\n"
#define EMBEDDING                                                                                  \
	"embedding: {file: m/abc, sha256: " SHA_ABC ", width: 112, height: 112, colour: bgr,\n"    \
	"  mean: 127.5, scale: 127.5}\n"
#define LIVENESS                                                                                   \
	"liveness: {file: m/empty, sha256: " SHA_EMPTY ", width: 128, height: 128, colour: bgr,\n" \
	"  mean: 0, scale: 1, margin: 2.7}\n"
#define CALIBRATION                                                                                \
	"calibration:\n"                                                                           \
	"  id: cal-1\n"                                                                            \
	"  source: a test\n"                                                                       \
	"  mates: 500\n"                                                                           \
	"  non_mates: 30000\n"                                                                     \
	"  points:\n"                                                                              \
	"    - {fmr: 1e-1, score: 0.1}\n"                                                          \
	"    - {fmr: 1e-2, score: 0.2}\n"                                                          \
	"    - {fmr: 1e-3, score: 0.4}\n"                                                          \
	"  band_stranger: 0.2\n"                                                                   \
	"  band_mate: 0.7\n"
#define WHOLE HEAD DETECTOR LANDMARKS EMBEDDING LIVENESS CALIBRATION

struct place {
	char dir[64], models[80], abc[96], empty[96], manifest[96];
	char message[PACK_MESSAGE_LEN];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	strcpy(p->dir, "/tmp/biomatch-pack-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->models, sizeof(p->models), "%s/m", p->dir);
	snprintf(p->abc, sizeof(p->abc), "%s/m/abc", p->dir);
	snprintf(p->empty, sizeof(p->empty), "%s/m/empty", p->dir);
	snprintf(p->manifest, sizeof(p->manifest), "%s/manifest.yaml", p->dir);
	assert_int_equal(mkdir(p->models, 0700), 0);
	assert_int_equal(file_write_new(p->abc, "abc", 3, 0600), 0);
	assert_int_equal(file_write_new(p->empty, "", 0, 0600), 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	unlink(p->manifest);
	unlink(p->abc);
	unlink(p->empty);
	rmdir(p->models);
	assert_int_equal(rmdir(p->dir), 0);
	free(p);
	return 0;
}

static int open_text(struct place *p, const char *text, bool verify, struct pack **pack)
{
	unlink(p->manifest);
	assert_int_equal(file_write_new(p->manifest, text, strlen(text), 0600), 0);
	return pack_open(p->dir, verify, pack, p->message);
}

/* Opens the whole manifest with one text in the place of another. */
static int open_changed(struct place *p, const char *from, const char *to)
{
	const char *at = strstr(WHOLE, from);
	struct pack *pack = NULL;
	char text[4096];
	int error;

	assert_non_null(at);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - WHOLE), WHOLE, to, at + strlen(from));
	error = open_text(p, text, false, &pack);
	pack_close(pack);
	return error;
}

static void test_reads_all(void **state)
{
	struct place *p = *state;
	struct pack *pack;

	assert_int_equal(open_text(p, WHOLE, true, &pack), 0);
	assert_string_equal(pack->name, "test-pack");
	assert_string_equal(pack->version, "1.2");
	assert_string_equal(pack->model, "test-pack/1.2");
	assert_string_equal(pack->licence, "MIT");
	assert_int_equal(pack->dim, 128);
	assert_int_equal(pack->detector_kind, PACK_ULTRAFACE);
	assert_int_equal(pack->detector.width, 320);
	assert_int_equal(pack->detector.height, 240);
	assert_int_equal(pack->detector.colour, PACK_RGB);
	assert_float_equal(pack->detector_confidence, 0.65f, 1e-6);
	assert_float_equal(pack->detector_overlap, 0.4f, 1e-6);
	assert_int_equal(pack->landmarks_kind, PACK_LANDMARKS_68);
	assert_int_equal(pack->landmarks.colour, PACK_GREY);
	assert_float_equal(pack->landmarks_margin, 1.25f, 1e-6);
	assert_int_equal(pack->embedding.colour, PACK_BGR);
	assert_float_equal(pack->embedding.mean, 127.5f, 1e-6);
	assert_int_equal(pack->embedding.file[0], '/');
	assert_int_equal(access(pack->embedding.file, R_OK), 0);
	assert_int_equal(pack->liveness.width, 128);
	assert_int_equal(access(pack->liveness.file, R_OK), 0);
	assert_float_equal(pack->liveness_margin, 2.7f, 1e-6);
	assert_string_equal(pack->calibration_id, "cal-1");
	assert_int_equal(pack->calibration_mates, 500);
	assert_int_equal(pack->calibration_non_mates, 30000);
	assert_int_equal(pack->calibration_len, 3);
	assert_float_equal(pack->band_stranger, 0.2f, 1e-6);
	pack_close(pack);
}

static void test_digest_is_of_models_and_feeding(void **state)
{
	struct place *p = *state;
	uint8_t first[PACK_SHA256_LEN];
	struct pack *pack;
	char *text = strdup(WHOLE);

	assert_int_equal(open_text(p, text, false, &pack), 0);
	memcpy(first, pack->digest, sizeof(first));
	pack_close(pack);
	memcpy(strstr(text, "cal-1"), "cal-2", 5);
	assert_int_equal(open_text(p, text, false, &pack), 0);
	assert_memory_equal(first, pack->digest, sizeof(first));
	pack_close(pack);
	memcpy(strstr(text, "mean: 127.5"), "mean: 127.4", 11);
	assert_int_equal(open_text(p, text, false, &pack), 0);
	assert_memory_not_equal(first, pack->digest, sizeof(first));
	pack_close(pack);
	free(text);
}

/* Templates outlive an exchange of the liveness model, and a pack can be without. */
static void test_digest_is_not_of_liveness(void **state)
{
	struct place *p = *state;
	uint8_t first[PACK_SHA256_LEN];
	struct pack *pack;

	assert_int_equal(open_text(p, WHOLE, true, &pack), 0);
	memcpy(first, pack->digest, sizeof(first));
	pack_close(pack);
	assert_int_equal(open_text(p, HEAD DETECTOR LANDMARKS EMBEDDING CALIBRATION, true, &pack),
			 0);
	assert_memory_equal(first, pack->digest, sizeof(first));
	assert_null(pack->liveness.file);
	pack_close(pack);
}

static void test_damaged_liveness(void **state)
{
	struct place *p = *state;
	struct pack *pack;

	assert_int_equal(unlink(p->empty), 0);
	assert_int_equal(file_write_new(p->empty, "x", 1, 0600), 0);
	assert_int_equal(
		open_text(p,
			  HEAD "detector: {kind: yunet, file: m/abc, sha256: " SHA_ABC
			       ", width: 320, height: 320,\n colour: bgr, mean: 0, scale: 1, "
			       "confidence: 0.65, overlap: 0.4}\n" EMBEDDING LIVENESS CALIBRATION,
			  true, &pack),
		BM_EPACK);
	assert_non_null(strstr(p->message, "m/empty"));
	assert_non_null(strstr(p->message, "sha256"));
}

static void test_damaged_model(void **state)
{
	struct place *p = *state;
	struct pack *pack;

	assert_int_equal(unlink(p->abc), 0);
	assert_int_equal(file_write_new(p->abc, "abd", 3, 0600), 0);
	assert_int_equal(open_text(p, WHOLE, true, &pack), BM_EPACK);
	assert_non_null(strstr(p->message, "m/abc"));
	assert_non_null(strstr(p->message, "sha256"));
	/* The daemon itself loads no model and does not look. */
	assert_int_equal(open_text(p, WHOLE, false, &pack), 0);
	pack_close(pack);
	assert_int_equal(unlink(p->abc), 0);
	assert_int_equal(open_text(p, WHOLE, true, &pack), BM_EPACK);
	assert_non_null(strstr(p->message, "No such file"));
}

static void test_missing_pack(void **state)
{
	struct place *p = *state;
	struct pack *pack;

	assert_int_equal(pack_open("/nonexistent/pack", false, &pack, p->message), BM_EPACK);
	assert_non_null(strstr(p->message, "/nonexistent/pack"));
	assert_int_equal(pack_open(p->dir, false, &pack, p->message), BM_EPACK);
	assert_non_null(strstr(p->message, "manifest.yaml"));
}

static void test_refusals(void **state)
{
	static const struct {
		const char *from, *to, *says;
	} cases[] = {
		{"name: test-pack", "name: Test", "1: name may have"},
		{"version: 1.2\n", "", "version is missing"},
		{"margin: 2.7", "margin: 0.5", "margin needs a number from 1 to 8"},
		{"height: 128, colour: bgr", "height: 128, colour: grey", "looks at colours"},
		{", margin: 2.7", "", "margin is missing"},
		{"licence: MIT", "license: MIT", "no option \"license\""},
		{"dimension: 128", "dimension: 100", "multiple of 16"},
		{"dimension: 128", "dimension: 2048", "from 16 to 1024"},
		{"dimension: 128", "dimension: 128x", "whole number"},
		{"kind: ultraface", "kind: magic", "cannot be \"magic\""},
		{"file: m/abc", "file: /etc/passwd", "below the pack"},
		{"file: m/abc", "file: ../abc", "below the pack"},
		{"sha256: ba78", "sha256: zz78", "64 hexadecimal"},
		{"sha256: ba78", "sha256: ba7", "64 hexadecimal"},
		{"width: 320", "width: 0", "from 16 to 2048"},
		{"colour: rgb", "colour: blue", "cannot be \"blue\""},
		{"scale: 128", "scale: 0", "scale needs a number"},
		{"confidence: 0.65", "confidence: 65", "from 0 to 1"},
		{"confidence: 0.65", "confidence: nan", "from 0 to 1"},
		{"kind: ultraface", "kind: yunet", "multiples of 32"},
		{LANDMARKS, "", "landmarks is missing"},
		{"kind: points-68", "kind: none", "leave the section out"},
		{EMBEDDING, "embedding: x\n", "embedding needs options"},
		{"width: 112", "width: 128", "112 by 112"},
		{"id: cal-1\n", "id: Cal 1\n", "id may have"},
		{"fmr: 1e-2", "fmr: 0.2", "fmr must fall"},
		{"score: 0.2", "score: 0.05", "score must rise"},
		{"fmr: 1e-3", "fmr: 1e-4", "cannot support an fmr of 0.0001: 300000"},
		{"band_mate: 0.7", "band_mate: 0.1", "below band_mate"},
		{"band_mate: 0.7", "band_mate: 7", "from -1 to 1"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct place *p = *state;

		assert_int_equal(open_changed(p, cases[i].from, cases[i].to), BM_EPACK);
		if (!strstr(p->message, cases[i].says))
			fail_msg("\"%s\" is said of %s", p->message, cases[i].to);
		assert_non_null(strstr(p->message, "manifest.yaml:"));
	}
}

static void test_detector_with_points(void **state)
{
	static const char text[] =
		HEAD "detector: {kind: yunet, file: m/abc, sha256: " SHA_ABC
		     ", width: 320, height: 320,\n"
		     "  colour: bgr, mean: 0, scale: 1, confidence: 0.6, overlap: 0.3}\n" EMBEDDING
			     CALIBRATION;
	struct pack *pack;

	assert_int_equal(open_text(*state, text, true, &pack), 0);
	assert_int_equal(pack->detector_kind, PACK_YUNET);
	assert_int_equal(pack->landmarks_kind, PACK_LANDMARKS_NONE);
	assert_null(pack->landmarks.file);
	pack_close(pack);
}

static float threshold(const struct pack *pack, double fmr)
{
	double smallest;
	float score = -2;

	assert_int_equal(pack_threshold(pack, fmr, &score, &smallest), 0);
	assert_float_equal(smallest, 1e-3, 1e-12);
	return score;
}

static void test_threshold(void **state)
{
	double smallest = 0;
	struct pack *pack;
	float score;

	assert_int_equal(open_text(*state, WHOLE, false, &pack), 0);
	assert_float_equal(threshold(pack, 1), 0.1, 1e-6);
	assert_float_equal(threshold(pack, 0.1), 0.1, 1e-6);
	assert_float_equal(threshold(pack, 0.01), 0.2, 1e-6);
	assert_float_equal(threshold(pack, 0.001), 0.4, 1e-6);
	/* Half way in the logarithm. */
	assert_float_equal(threshold(pack, sqrt(0.01 * 0.001)), 0.3, 1e-6);
	assert_int_equal(pack_threshold(pack, 0.000999, &score, &smallest), BM_EINVAL);
	assert_float_equal(smallest, 1e-3, 1e-12);
	assert_int_equal(pack_threshold(pack, 0, &score, &smallest), BM_EINVAL);
	assert_int_equal(pack_threshold(pack, (double)NAN, &score, &smallest), BM_EINVAL);
	/* And back; beyond the points, theirs. */
	assert_float_equal(pack_fmr(pack, 0.2f), 0.01, 1e-8);
	assert_float_equal(pack_fmr(pack, 0.3f), sqrt(0.01 * 0.001), 1e-8);
	assert_float_equal(pack_fmr(pack, 0.05f), 0.1, 0);
	assert_float_equal(pack_fmr(pack, 0.9f), 0.001, 0);
	pack_close(pack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reads_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_digest_is_of_models_and_feeding, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_digest_is_not_of_liveness, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_liveness, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_pack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_detector_with_points, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threshold, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
