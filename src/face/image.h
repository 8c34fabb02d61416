/*
 * Pictures: from encoded bytes of any origin to upright BGR pixels.
 */
#ifndef FACE_IMAGE_H
#define FACE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"
#include "biomatch/face.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pixels of three bytes, blue first, rows without padding. */
struct image {
	uint32_t width, height;
	uint8_t *bgr;
};

/*
 * Decodes a JPEG, PNG or JPEG 2000 picture, told apart by its first bytes, and
 * turns it upright. The size is checked before pixels are allocated. BM_EIMG*,
 * BM_ENOMEM.
 */
int image_decode(const uint8_t *data, size_t len, struct image *out) BM_MUST_CHECK;
/* Wipes and frees the pixels. */
void image_free(struct image *image);

/* What the decoders share. */
/* Checks a size against the limits and allocates the pixels. */
int image_alloc(uint64_t width, uint64_t height, struct image *out) BM_MUST_CHECK;
/* Turns a picture by its EXIF orientation, 1 to 8; anything else leaves it. */
int image_turn(struct image *image, unsigned orientation) BM_MUST_CHECK;

/* The orientation in an EXIF block that begins with its TIFF header; 1 when there is none. */
unsigned exif_orientation(const uint8_t *tiff, size_t len);

int jpeg_decode(const uint8_t *data, size_t len, struct image *out) BM_MUST_CHECK;
int png_decode(const uint8_t *data, size_t len, struct image *out) BM_MUST_CHECK;
int jp2_decode(const uint8_t *data, size_t len, struct image *out) BM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
