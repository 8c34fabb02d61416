/*
 * Pictures as pixels: decoding with limits checked before anything is
 * allocated, and turning the way up that EXIF says.
 */
#ifndef FACE_PICTURE_H
#define FACE_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Three bytes a pixel in the order blue, green, red; rows without padding. */
struct picture {
	uint8_t *pixels;
	uint32_t width, height;
	double jpeg_step; /* mean of the JPEG's luminance quantisation table, else 0 */
};

/*
 * Decodes JPEG, PNG or JPEG 2000, also inside a passport's DG2, and turns it upright.
 * BM_EIMGFORMAT, BM_EDG2, BM_EIMGTRUNC, BM_EIMGCORRUPT, BM_EIMGSIZE, BM_EIMGSMALL or BM_ENOMEM.
 */
int picture_decode(struct bytes file, struct picture *out) BM_MUST_CHECK;
/* Wipes and frees the pixels. */
void picture_deinit(struct picture *picture);

/* Inside the module: an empty picture of this size, within the limits. */
int picture_init(struct picture *picture, uint64_t width, uint64_t height) BM_MUST_CHECK;
int jpeg_decode(struct bytes file, struct picture *out, unsigned *orientation) BM_MUST_CHECK;
int png_decode(struct bytes file, struct picture *out, unsigned *orientation) BM_MUST_CHECK;
int jp2_decode(struct bytes file, struct picture *out) BM_MUST_CHECK;

/* The orientation 1 to 8 of a TIFF header and its first directory; 1 if it has none. */
unsigned exif_orientation(struct bytes tiff);
/* Turns a picture of this orientation upright. */
int exif_turn(struct picture *picture, unsigned orientation) BM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
