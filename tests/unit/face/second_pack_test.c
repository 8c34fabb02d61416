/*
 * Another pack drops in: the YuNet detector, which the set-up does not fetch.
 * Runs where its file is found below BIOMATCH_DATA.
 */
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

#include "biomatch/face.h"
#include "biomatch/file.h"
#include "biomatch/score.h"

#define MANIFEST "config/packs/yunet-faceplugin/manifest.yaml"
#define FEATURE  "build/packs/faceplugin-0.0.1/model/fr_feature.onnx"
#define YUNET    "face_detection_yunet.onnx"

struct place {
	char dir[64], models[96], manifest[96], feature[128], yunet[128];
};

static void link_absolute(const char *from, const char *to)
{
	char *path = realpath(from, NULL);

	assert_non_null(path);
	assert_int_equal(symlink(path, to), 0);
	free(path);
}

static int setup(void **state)
{
	const char *data = getenv("BIOMATCH_DATA");
	struct place *p = calloc(1, sizeof(*p));
	char yunet[512];

	assert_non_null(p);
	*state = p;
	snprintf(yunet, sizeof(yunet), "%s/models/" YUNET, data ? data : "../shared/data");
	if (access(yunet, R_OK)) {
		print_message("skipped: there is no %s\n", yunet);
		return 0;
	}
	strcpy(p->dir, "/tmp/biomatch-face-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->models, sizeof(p->models), "%s/model", p->dir);
	snprintf(p->manifest, sizeof(p->manifest), "%s/manifest.yaml", p->dir);
	snprintf(p->feature, sizeof(p->feature), "%s/fr_feature.onnx", p->models);
	snprintf(p->yunet, sizeof(p->yunet), "%s/" YUNET, p->models);
	assert_int_equal(mkdir(p->models, 0700), 0);
	link_absolute(MANIFEST, p->manifest);
	link_absolute(FEATURE, p->feature);
	link_absolute(yunet, p->yunet);
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	if (*p->dir) {
		unlink(p->manifest);
		unlink(p->feature);
		unlink(p->yunet);
		rmdir(p->models);
		assert_int_equal(rmdir(p->dir), 0);
	}
	free(p);
	return 0;
}

static void look(struct face_engine *engine, const char *path, struct face_report *report)
{
	uint8_t *data;
	size_t len;

	assert_int_equal(file_read(path, FACE_MAX_IMAGE_BYTES, &data, &len), 0);
	assert_int_equal(face_engine_run(engine, data, len, 0, report), 0);
	free(data);
}

/* Both detectors see the same face at the same place, to a fifth of its eyes. */
static void compare_points(const struct face_found *a, const struct face_found *b)
{
	for (int i = 0; i < 5; i++)
		assert_true(hypotf(a->landmarks[i].x - b->landmarks[i].x,
				   a->landmarks[i].y - b->landmarks[i].y) < a->eye_distance / 5);
}

static void open_engine(const char *dir, struct pack **pack, struct face_engine **engine)
{
	char message[PACK_MESSAGE_LEN];

	if (pack_open(dir, true, pack, message))
		fail_msg("%s", message);
	assert_int_equal(face_engine_open(*pack, engine), 0);
}

static void test_yunet(void **state)
{
	static struct face_report ada, again, bea, group, first;
	struct place *p = *state;
	struct face_engine *engine, *usual;
	struct pack *pack, *usual_pack;

	if (!*p->dir)
		skip();
	assert_int_equal(score_init(NULL), 0);
	open_engine(p->dir, &pack, &engine);
	open_engine("build/packs/faceplugin-0.0.1", &usual_pack, &usual);
	look(engine, "build/samples/people/ada/01.jpg", &ada);
	look(engine, "build/samples/people/ada/02.jpg", &again);
	look(engine, "build/samples/people/bea/01.jpg", &bea);
	look(engine, "build/samples/group.jpg", &group);
	look(usual, "build/samples/people/bea/01.jpg", &first);
	assert_int_equal(ada.finding, 0);
	assert_int_equal(again.finding, 0);
	assert_int_equal(bea.finding, 0);
	assert_true(score_dot(ada.embedding, again.embedding, ada.dim) > 0.5f);
	assert_true(score_dot(ada.embedding, bea.embedding, ada.dim) < 0.3f);
	assert_int_equal(group.finding, BM_EMANYFACES);
	assert_int_equal(group.n_faces, 3);
	compare_points(&first.faces[0], &bea.faces[0]);
	assert_true(score_dot(first.embedding, bea.embedding, bea.dim) > 0.8f);
	face_engine_close(engine);
	face_engine_close(usual);
	pack_close(pack);
	pack_close(usual_pack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_yunet, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
