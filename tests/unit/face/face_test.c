/* Real pictures in every coat they come in, and files made to hurt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/clock.h"
#include "biomatch/face.h"
#include "biomatch/score.h"
#include "dg2.h"
#include "pixels.h"

#define PACK  "build/packs/faceplugin-0.0.1"
#define ADA_1 "build/samples/people/ada/01.jpg"
#define ADA_2 "build/samples/people/ada/02.jpg"
#define BEA   "build/samples/people/bea/01.jpg"
#define GROUP "build/samples/group.jpg"

static struct pack *pack;
static struct face_engine *engine;
static struct pixels ada;
/* What lossless files of ada give. */
static struct face_report reference;

/* Runs and frees a file. */
static int run(struct encoded file, struct face_report *report)
{
	int error = face_engine_run(engine, file.data, file.len, 0, report);

	free(file.data);
	return error;
}

static void run_well(struct encoded file, struct face_report *report)
{
	assert_int_equal(run(file, report), 0);
	assert_int_equal(report->finding, 0);
	assert_float_equal(score_dot(report->embedding, report->embedding, report->dim), 1, 1e-4);
}

static float likeness(const struct face_report *a, const struct face_report *b)
{
	return score_dot(a->embedding, b->embedding, a->dim);
}

static int group_setup(void **state)
{
	char message[PACK_MESSAGE_LEN];

	(void)state;
	assert_int_equal(score_init(NULL), 0);
	assert_int_equal(pack_open(PACK, true, &pack, message), 0);
	assert_int_equal(face_engine_open(pack, &engine), 0);
	ada = read_pixels(ADA_1);
	run_well(encode_png(ada.p, ada.width, ada.height, PNG_FORMAT_BGR), &reference);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	face_engine_close(engine);
	pack_close(pack);
	free(ada.p);
	return 0;
}

static void test_people(void **state)
{
	struct face_report one, two, other;

	(void)state;
	run_well(read_encoded(ADA_1), &one);
	run_well(read_encoded(ADA_2), &two);
	run_well(read_encoded(BEA), &other);
	assert_true(likeness(&one, &two) > 0.5f);
	assert_true(likeness(&one, &other) < 0.3f);
	assert_int_equal(one.n_faces, 1);
	assert_int_equal(one.dim, 512);
	assert_int_equal(one.width, ada.width);
	assert_int_equal(one.height, ada.height);
	assert_true(one.detect_us > 0 && one.embed_us > 0);
}

/* Of an upright face: eyes over nose over mouth, each pair left to right. */
static void test_landmarks(void **state)
{
	const struct face_found *face;
	const struct face_point *points;
	struct face_report report;

	(void)state;
	run_well(read_encoded(BEA), &report);
	face = &report.faces[0];
	points = face->landmarks;
	assert_true(points[0].x < points[2].x && points[2].x < points[1].x);
	assert_true(points[3].x < points[4].x);
	assert_true(points[0].y < points[2].y && points[2].y < points[3].y);
	assert_float_equal(face->eye_distance,
			   hypotf(points[1].x - points[0].x, points[1].y - points[0].y), 1e-3);
	assert_true(face->eye_distance > face->width * 0.25f);
	for (int i = 0; i < 5; i++) {
		assert_true(points[i].x > face->x && points[i].x < face->x + face->width);
		assert_true(points[i].y > face->y && points[i].y < face->y + face->height);
	}
}

/*
 * Enlarged, with every second pixel brighter and every other darker: what a
 * network sees of it must be the mean of the pixels, not those it happens to hit.
 */
static void test_fine_pattern(void **state)
{
	const int by = 6;
	struct pixels large = make_pixels(ada.width * by, ada.height * by);
	struct face_report report;

	(void)state;
	for (int y = 0; y < large.height; y++) {
		for (int x = 0; x < large.width; x++) {
			for (int c = 0; c < 3; c++) {
				int v = pixel_at(&ada, x / by, y / by)[c] * 3 / 5 + 50;

				pixel_at(&large, x, y)[c] = (uint8_t)(v + (x % 2 ? 50 : -50));
			}
		}
	}
	run_well(encode_jpeg(large.p, large.width, large.height, TJPF_BGR, TJSAMP_444, 0), &report);
	assert_true(likeness(&report, &reference) > 0.95f);
	free(large.p);
}

static void test_several_faces(void **state)
{
	struct face_report report;

	(void)state;
	assert_int_equal(run(read_encoded(GROUP), &report), 0);
	assert_int_equal(report.finding, BM_EMANYFACES);
	assert_int_equal(report.n_faces, 3);
	for (int i = 0; i < 3; i++) {
		assert_true(report.faces[i].confidence > 0.65f);
		assert_true(!i || report.faces[i].width * report.faces[i].height <=
					  report.faces[i - 1].width * report.faces[i - 1].height);
	}
}

static void test_no_face(void **state)
{
	struct pixels grey = make_pixels(320, 240);
	struct face_report report;

	(void)state;
	memset(grey.p, 128, (size_t)320 * 240 * 3);
	assert_int_equal(run(encode_png(grey.p, 320, 240, PNG_FORMAT_BGR), &report), 0);
	assert_int_equal(report.finding, BM_ENOFACE);
	assert_int_equal(report.n_faces, 0);
	free(grey.p);
}

static void test_small_face(void **state)
{
	struct pixels small = shrink_pixels(&ada, 6);
	struct pixels around = cut_pixels(&small, -20, -10, 110, 90);
	struct face_report report;

	(void)state;
	assert_int_equal(run(encode_png(around.p, 110, 90, PNG_FORMAT_BGR), &report), 0);
	assert_int_equal(report.n_faces, 1);
	assert_int_equal(report.finding, BM_EFACESMALL);
	free(small.p);
	free(around.p);
}

static void test_cut_face(void **state)
{
	const struct face_found *face = &reference.faces[0];
	int left = (int)(face->x + face->width * 0.35f);
	struct pixels part = cut_pixels(&ada, left, 0, ada.width - left, ada.height);
	struct face_report report;

	(void)state;
	assert_int_equal(run(encode_png(part.p, part.width, part.height, PNG_FORMAT_BGR), &report),
			 0);
	assert_int_equal(report.n_faces, 1);
	assert_int_equal(report.finding, BM_EFACECUT);
	free(part.p);
}

/* However the camera was held, it is the same picture to the last bit. */
static void test_exif_in_png(void **state)
{
	(void)state;
	for (int i = 1; i <= 8; i++) {
		struct pixels stored = store_pixels(&ada, i);
		struct encoded file =
			encode_png(stored.p, stored.width, stored.height, PNG_FORMAT_BGR);
		struct face_report report;

		add_exif_to_png(&file, i, i % 2);
		run_well(file, &report);
		assert_int_equal(report.width, ada.width);
		assert_memory_equal(report.embedding, reference.embedding,
				    sizeof(reference.embedding));
		free(stored.p);
	}
}

static void test_exif_in_jpeg(void **state)
{
	(void)state;
	for (int i = 1; i <= 8; i++) {
		struct pixels stored = store_pixels(&ada, i);
		struct encoded file =
			encode_jpeg(stored.p, stored.width, stored.height, TJPF_BGR, TJSAMP_444, 0);
		struct face_report report;

		add_exif_to_jpeg(&file, i, i % 2);
		run_well(file, &report);
		assert_int_equal(report.width, ada.width);
		assert_true(likeness(&report, &reference) > 0.97f);
		free(stored.p);
	}
}

/* A tag that points outside, lies about its type or its value says nothing. */
static void test_exif_damaged(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} harms[] = {{16, 0xff}, {17, 0xff}, {19, 0xff}, {21, 0},
		     {23, 0x13}, {25, 0x04}, {31, 9},    {12, 'X'}};

	(void)state;
	for (size_t i = 0; i < sizeof(harms) / sizeof(harms[0]); i++) {
		struct encoded file =
			encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_444, 0);
		struct face_report report;

		add_exif_to_jpeg(&file, 6, true);
		file.data[harms[i].at] = harms[i].value;
		run_well(file, &report);
		assert_int_equal(report.width, ada.width);
	}
}

static void test_png_kinds(void **state)
{
	size_t n = (size_t)ada.width * (size_t)ada.height;
	uint8_t *alpha = malloc(n * 4), *grey = malloc(n);
	uint16_t *deep = malloc(n * 6);
	struct face_report report;

	(void)state;
	assert_true(alpha && grey && deep);
	for (size_t i = 0; i < n; i++) {
		memcpy(alpha + 4 * i, ada.p + 3 * i, 3);
		alpha[4 * i + 3] = 255;
		grey[i] = ada.p[3 * i + 1];
		for (size_t c = 0; c < 3; c++)
			deep[3 * i + c] = (uint16_t)(ada.p[3 * i + 2 - c] * 257);
	}
	run_well(encode_png(alpha, ada.width, ada.height, PNG_FORMAT_BGRA), &report);
	assert_true(likeness(&report, &reference) > 0.9999f);
	run_well(encode_png(grey, ada.width, ada.height, PNG_FORMAT_GRAY), &report);
	assert_true(likeness(&report, &reference) > 0.7f);
	/* Linear light, which libpng writes as such: it comes back darker or lighter. */
	run_well(encode_png(deep, ada.width, ada.height, PNG_FORMAT_LINEAR_RGB), &report);
	assert_true(likeness(&report, &reference) > 0.7f);
	free(alpha);
	free(grey);
	free(deep);
}

static void test_jpeg_kinds(void **state)
{
	size_t n = (size_t)ada.width * (size_t)ada.height;
	uint8_t *cmyk = malloc(n * 4);
	struct face_report report;

	(void)state;
	assert_non_null(cmyk);
	/* As libjpeg-turbo and Adobe mean it: 255 is no ink. */
	for (size_t i = 0; i < n; i++) {
		for (size_t c = 0; c < 3; c++)
			cmyk[4 * i + c] = ada.p[3 * i + 2 - c];
		cmyk[4 * i + 3] = 255;
	}
	run_well(encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_420, 0), &report);
	assert_true(likeness(&report, &reference) > 0.95f);
	run_well(
		encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_420, TJFLAG_PROGRESSIVE),
		&report);
	assert_true(likeness(&report, &reference) > 0.95f);
	run_well(encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_GRAY, 0), &report);
	assert_true(likeness(&report, &reference) > 0.7f);
	run_well(encode_jpeg(cmyk, ada.width, ada.height, TJPF_CMYK, TJSAMP_444, 0), &report);
	assert_true(likeness(&report, &reference) > 0.95f);
	free(cmyk);
}

static void test_jp2_kinds(void **state)
{
	struct face_report report;

	(void)state;
	run_well(encode_jp2(&ada, 3, 8, OPJ_CODEC_JP2), &report);
	assert_true(likeness(&report, &reference) > 0.9999f);
	run_well(encode_jp2(&ada, 3, 12, OPJ_CODEC_J2K), &report);
	assert_true(likeness(&report, &reference) > 0.99f);
	run_well(encode_jp2(&ada, 1, 8, OPJ_CODEC_JP2), &report);
	assert_true(likeness(&report, &reference) > 0.7f);
}

/* Frees both. */
static int run_dg2(struct encoded picture, bool block, struct face_report *report)
{
	struct bytes inner = {picture.data, picture.len};
	struct dg2 file = block ? dg2_of_block(inner) : dg2_of_record(inner, 2);
	int error = run((struct encoded){file.data, file.len}, report);

	free(picture.data);
	return error;
}

static void test_passports(void **state)
{
	struct face_report report;

	(void)state;
	for (int block = 0; block < 2; block++) {
		assert_int_equal(run_dg2(encode_jp2(&ada, 3, 8, OPJ_CODEC_JP2), block, &report), 0);
		assert_true(likeness(&report, &reference) > 0.9999f);
		assert_int_equal(run_dg2(encode_jp2(&ada, 3, 8, OPJ_CODEC_J2K), block, &report), 0);
		assert_true(likeness(&report, &reference) > 0.99f);
		assert_int_equal(
			run_dg2(encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_420, 0),
				block, &report),
			0);
		assert_true(likeness(&report, &reference) > 0.95f);
	}
}

/* A passport in a passport is none, and neither is one cut short. */
static void test_passports_refused(void **state)
{
	struct encoded picture = read_encoded(ADA_1);
	struct dg2 file = dg2_of_record((struct bytes){picture.data, picture.len}, 0);
	struct face_report report;

	(void)state;
	assert_int_equal(face_engine_run(engine, file.data, file.len - 1, 0, &report), BM_EDG2);
	assert_int_equal(run_dg2((struct encoded){file.data, file.len}, true, &report),
			 BM_EIMGFORMAT);
	picture.len /= 2;
	assert_int_equal(run_dg2(picture, true, &report), BM_EIMGTRUNC);
}

static struct encoded encode_kind(int kind)
{
	switch (kind) {
	case 0:
		return encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_420, 0);
	case 1:
		return encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_420,
				   TJFLAG_PROGRESSIVE);
	case 2:
		return encode_png(ada.p, ada.width, ada.height, PNG_FORMAT_BGR);
	default:
		return encode_jp2(&ada, 3, 8, OPJ_CODEC_JP2);
	}
}

static void test_truncated(void **state)
{
	static const unsigned percents[] = {10, 50, 90, 99};
	struct face_report report;

	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		for (int i = 0; i < 4; i++) {
			struct encoded file = encode_kind(kind);

			file.len = file.len * percents[i] / 100;
			if (run(file, &report) != BM_EIMGTRUNC)
				fail_msg("kind %d cut at %u %%", kind, percents[i]);
		}
	}
}

/* A JPEG marker where none can be, a PNG whose checksums fail. */
static void test_damaged(void **state)
{
	struct face_report report;
	struct encoded file;

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		file = encode_kind(kind);
		memcpy(file.data + file.len / 2, "\xff\xc4\xff\xc4", 4);
		assert_int_equal(run(file, &report), BM_EIMGCORRUPT);
	}
	/* Whatever is hit, there is an answer. */
	for (int kind = 0; kind < 4; kind++) {
		for (size_t at = 20; at < 220; at += 17) {
			int error;

			file = encode_kind(kind);
			file.data[at] ^= 0x5a;
			error = run(file, &report);
			assert_true(error == 0 ||
				    (error <= BM_EIMGFORMAT && error >= BM_EIMGSMALL) ||
				    error == BM_ENOMEM);
		}
	}
}

static void test_not_pictures(void **state)
{
	static const char *const texts[] = {"", "\xff", "Hello, this is text.", "GIF89a",
					    "<svg xmlns='http://www.w3.org/2000/svg'/>"};
	struct face_report report;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(face_engine_run(engine, (const uint8_t *)texts[i],
						 strlen(texts[i]), 0, &report),
				 BM_EIMGFORMAT);
	assert_int_equal(
		face_engine_run(engine, (const uint8_t *)"\xff\xd8\xff\xe0", 4, 0, &report),
		BM_EIMGTRUNC);
	assert_int_equal(
		face_engine_run(engine, (const uint8_t *)"\x89PNG\r\n\x1a\n", 8, 0, &report),
		BM_EIMGTRUNC);
}

static void test_sizes(void **state)
{
	struct pixels tiny = make_pixels(31, 200);
	struct face_report report;

	(void)state;
	assert_int_equal(run(encode_png(tiny.p, 31, 200, PNG_FORMAT_BGR), &report), BM_EIMGSMALL);
	assert_int_equal(run(encode_jpeg(tiny.p, 31, 200, TJPF_BGR, TJSAMP_444, 0), &report),
			 BM_EIMGSMALL);
	assert_int_equal(run(encode_jp2(&tiny, 3, 8, OPJ_CODEC_JP2), &report), BM_EIMGSMALL);
	free(tiny.p);
}

static int run_timed(struct encoded file)
{
	int64_t start = clock_monotonic_ns();
	struct face_report report;
	int error = run(file, &report);

	/* Refused from the header: nowhere near the time that decoding would take. */
	assert_true(clock_monotonic_ns() - start < CLOCK_NS_PER_SEC);
	return error;
}

/* 20,000 by 20,000 white pixels in 400 kB, a real file to its last byte. */
static struct encoded make_png_bomb(void)
{
	uint8_t *row = malloc((size_t)20000 * 20000 / 8);
	struct encoded file = {0};
	png_image png = {.version = PNG_IMAGE_VERSION,
			 .width = 20000,
			 .height = 2500,
			 .format = PNG_FORMAT_GRAY};
	png_alloc_size_t len = PNG_IMAGE_PNG_SIZE_MAX(png);

	assert_non_null(row);
	memset(row, 0xff, (size_t)20000 * 20000 / 8);
	file.data = malloc(len);
	assert_non_null(file.data);
	assert_true(png_image_write_to_memory(&png, file.data, &len, 0, row, 0, NULL));
	free(row);
	file.len = len;
	return file;
}

static void test_bombs(void **state)
{
	struct encoded file = make_png_bomb();

	(void)state;
	assert_true(file.len < 200000);
	/* 50 million pixels as they are, 400 million as the header may say. */
	bytes_put_be32(file.data + 20, 20000);
	bytes_put_be32(file.data + 29, crc_of(file.data + 12, 17));
	assert_int_equal(run_timed(file), BM_EIMGSIZE);
	assert_int_equal(run_timed(make_png_bomb()), BM_EIMGSIZE);

	file = encode_kind(0);
	for (size_t at = 2; at + 9 < file.len; at++) {
		if (file.data[at] == 0xff && file.data[at + 1] == 0xc0) {
			bytes_put_be32(file.data + at + 5, 0xfde8fde8);
			break;
		}
	}
	assert_int_equal(run_timed(file), BM_EIMGSIZE);

	file = encode_jp2(&ada, 3, 8, OPJ_CODEC_J2K);
	/* Few tiles, unless their height is taken for a negative number. */
	bytes_put_be32(file.data + 12, 0xbb00002f);
	bytes_put_be32(file.data + 28, 0xffff9a23);
	assert_int_equal(run_timed(file), BM_EIMGSIZE);

	file = encode_jp2(&ada, 3, 8, OPJ_CODEC_J2K);
	bytes_put_be32(file.data + 8, 60000);
	bytes_put_be32(file.data + 12, 60000);
	bytes_put_be32(file.data + 24, 60000);
	bytes_put_be32(file.data + 28, 60000);
	assert_int_equal(run_timed(file), BM_EIMGSIZE);
}

/* The last scan of a progressive picture, thousands of times over. */
static void test_scan_bomb(void **state)
{
	struct encoded file = encode_kind(1);
	size_t at = file.len - 2, len;
	uint8_t *scan;

	(void)state;
	while (!(file.data[at] == 0xff && file.data[at + 1] == 0xda))
		at--;
	len = file.len - 2 - at;
	scan = malloc(len * 1000);
	assert_non_null(scan);
	for (size_t i = 0; i < 1000; i++)
		memcpy(scan + i * len, file.data + at, len);
	insert_bytes(&file, at, scan, len * ((8u << 20) / len < 1000 ? (8u << 20) / len : 1000));
	free(scan);
	assert_int_equal(run_timed(file), BM_EIMGCORRUPT);
}

static void test_too_many_bytes(void **state)
{
	uint8_t *data = calloc(1, FACE_MAX_IMAGE_BYTES + 1);
	struct face_report report;

	(void)state;
	assert_non_null(data);
	memcpy(data, "\xff\xd8\xff", 3);
	assert_int_equal(face_engine_run(engine, data, FACE_MAX_IMAGE_BYTES + 1, 0, &report),
			 BM_EIMGSIZE);
	free(data);
}

static void test_missing_model(void **state)
{
	struct pack broken = *pack;
	struct face_engine *none;

	(void)state;
	broken.embedding.file = "/nonexistent/model.onnx";
	assert_int_equal(face_engine_open(&broken, &none), BM_EPACK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_people),
		cmocka_unit_test(test_landmarks),
		cmocka_unit_test(test_fine_pattern),
		cmocka_unit_test(test_several_faces),
		cmocka_unit_test(test_no_face),
		cmocka_unit_test(test_small_face),
		cmocka_unit_test(test_cut_face),
		cmocka_unit_test(test_exif_in_png),
		cmocka_unit_test(test_exif_in_jpeg),
		cmocka_unit_test(test_exif_damaged),
		cmocka_unit_test(test_png_kinds),
		cmocka_unit_test(test_jpeg_kinds),
		cmocka_unit_test(test_jp2_kinds),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_not_pictures),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_scan_bomb),
		cmocka_unit_test(test_too_many_bytes),
		cmocka_unit_test(test_missing_model),
		cmocka_unit_test(test_passports),
		cmocka_unit_test(test_passports_refused),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
