/*
 * Pictures for tests: the sample photographs that scripts/setup cuts, and PNGs
 * made by hand.
 */
#ifndef TESTS_PICTURES_H
#define TESTS_PICTURES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "biomatch/bytes.h"
#include "biomatch/face.h"
#include "biomatch/file.h"

#define PICTURES_PACK "build/packs/faceplugin-0.0.1"
/* Above it lie the sample photographs of one person, below it those of two. */
#define PICTURES_SAME_PERSON 0.4f

struct test_picture {
	uint8_t *data;
	size_t len;
};

/* A photograph below build/samples. */
static inline struct test_picture test_sample(const char *name)
{
	struct test_picture out;
	char path[128];

	snprintf(path, sizeof(path), "build/samples/%s", name);
	if (file_read(path, FACE_MAX_IMAGE_BYTES, &out.data, &out.len))
		fail_msg("%s cannot be read: run scripts/setup", path);
	return out;
}

static inline uint32_t test_png_crc(const uint8_t *p, size_t len)
{
	uint32_t crc = UINT32_MAX;

	while (len--) {
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
	}
	return ~crc;
}

/* Appends a chunk whose len bytes of content stand already where they belong. */
static inline void test_png_chunk(struct test_picture *png, const char type[4], size_t len)
{
	uint8_t *at = png->data + png->len;

	bytes_put_be32(at, (uint32_t)len);
	memcpy(at + 4, type, 4);
	bytes_put_be32(at + 8 + len, test_png_crc(at + 4, len + 4));
	png->len += len + 12;
}

/*
 * A grey PNG of one shade. Its pixels are stored, not compressed, and left out
 * where they would not fit one block, as if the header were all that is true.
 */
static inline struct test_picture test_png(uint32_t width, uint32_t height, uint8_t shade)
{
	static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
	uint64_t raw = (uint64_t)height * (width + 1);
	size_t n = raw <= UINT16_MAX ? (size_t)raw : 0;
	struct test_picture png = {calloc(1, n + 128), 8};
	uint32_t a = 1, b = 0;
	uint8_t *at;

	assert_non_null(png.data);
	memcpy(png.data, signature, 8);
	at = png.data + png.len + 8;
	bytes_put_be32(at, width);
	bytes_put_be32(at + 4, height);
	at[8] = 8;
	test_png_chunk(&png, "IHDR", 13);

	at = png.data + png.len + 8;
	memcpy(at, (uint8_t[]){0x78, 1, 1, n & 255, n >> 8 & 255, ~n & 255, ~n >> 8 & 255}, 7);
	for (size_t i = 0; i < n; i++) {
		at[7 + i] = i % (width + 1) ? shade : 0;
		a = (a + at[7 + i]) % 65521;
		b = (b + a) % 65521;
	}
	bytes_put_be32(at + 7 + n, b << 16 | a);
	test_png_chunk(&png, "IDAT", n + 11);
	test_png_chunk(&png, "IEND", 0);
	return png;
}

static inline float test_cosine(const struct face_report *a, const struct face_report *b)
{
	float sum = 0;

	assert_int_equal(a->dim, b->dim);
	for (uint32_t i = 0; i < a->dim; i++)
		sum += a->embedding[i] * b->embedding[i];
	return sum;
}

#endif
