/* Pictures of one format, with the limits of the real thing. */
#ifndef TESTS_FUZZ_PICTURE_H
#define TESTS_FUZZ_PICTURE_H

#include "../../src/face/picture.h"
#include "biomatch/face.h"
#include "fuzz.h"

/* Decodes the input as if it began with the magic bytes. */
static inline void fuzz_picture(const char *magic, size_t magic_len, const uint8_t *data,
				size_t size)
{
	struct picture picture;
	uint8_t *file;
	int error;

	if (size < magic_len)
		return;
	file = malloc(size);
	REQUIRE(file);
	memcpy(file, data, size);
	memcpy(file, magic, magic_len);
	error = picture_decode((struct bytes){file, size}, &picture);
	free(file);
	REQUIRE(!error == (picture.pixels != NULL));
	switch (error) {
	case 0:
		REQUIRE(picture.width >= FACE_MIN_SIDE && picture.height >= FACE_MIN_SIDE);
		REQUIRE((uint64_t)picture.width * picture.height <= FACE_MAX_PIXELS);
		REQUIRE(picture.jpeg_step >= 0 && picture.jpeg_step <= 65535);
		break;
	case BM_EIMGFORMAT:
	case BM_EIMGTRUNC:
	case BM_EIMGCORRUPT:
	case BM_EIMGSIZE:
	case BM_EIMGSMALL:
		break;
	default:
		REQUIRE(!"a code that a picture may have");
	}
	picture_deinit(&picture);
}

#endif
