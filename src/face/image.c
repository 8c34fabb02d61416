#include "image.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"

static bool begins(const uint8_t *data, size_t len, const char *magic, size_t n)
{
	return len >= n && !memcmp(data, magic, n);
}

int image_decode(const uint8_t *data, size_t len, struct image *out)
{
	*out = (struct image){0};
	if (len > FACE_MAX_IMAGE_BYTES)
		return BM_EIMGSIZE;
	if (begins(data, len, "\xff\xd8\xff", 3))
		return jpeg_decode(data, len, out);
	if (begins(data, len, "\x89PNG\r\n\x1a\n", 8))
		return png_decode(data, len, out);
	if (begins(data, len, "\0\0\0\x0cjP  \r\n\x87\n", 12) ||
	    begins(data, len, "\xff\x4f\xff\x51", 4))
		return jp2_decode(data, len, out);
	return BM_EIMGFORMAT;
}

int image_alloc(uint64_t width, uint64_t height, struct image *out)
{
	if (width > FACE_MAX_PIXELS || height > FACE_MAX_PIXELS || width * height > FACE_MAX_PIXELS)
		return BM_EIMGSIZE;
	if (width < FACE_MIN_SIDE || height < FACE_MIN_SIDE)
		return BM_EIMGSMALL;
	out->bgr = malloc((size_t)(width * height * 3));
	if (!out->bgr)
		return BM_ENOMEM;
	out->width = (uint32_t)width;
	out->height = (uint32_t)height;
	return 0;
}

void image_free(struct image *image)
{
	if (image->bgr)
		bytes_wipe(image->bgr, (size_t)image->width * image->height * 3);
	free(image->bgr);
	*image = (struct image){0};
}

/*
 * EXIF orientation as steps of the source per step right and down in the
 * upright picture, in units of a column (x) and a row (y), and the corner
 * where the upright picture begins.
 */
static const struct {
	bool from_right, from_bottom; /* the corner in the source */
	bool swap;                    /* right in the result is down in the source */
} turns[9] = {
	[2] = {true, false, false}, [3] = {true, true, false}, [4] = {false, true, false},
	[5] = {false, false, true}, [6] = {false, true, true}, [7] = {true, true, true},
	[8] = {true, false, true},
};

int image_turn(struct image *image, unsigned orientation)
{
	struct image turned = {0};
	uint32_t w = image->width, h = image->height;
	bool swap;
	int error;

	if (orientation < 2 || orientation > 8)
		return 0;
	swap = turns[orientation].swap;
	error = image_alloc(swap ? h : w, swap ? w : h, &turned);
	if (error)
		return error;
	for (uint32_t y = 0; y < turned.height; y++) {
		for (uint32_t x = 0; x < turned.width; x++) {
			uint32_t sx = swap ? y : x, sy = swap ? x : y;

			if (turns[orientation].from_right)
				sx = w - 1 - sx;
			if (turns[orientation].from_bottom)
				sy = h - 1 - sy;
			memcpy(turned.bgr + ((size_t)y * turned.width + x) * 3,
			       image->bgr + ((size_t)sy * w + sx) * 3, 3);
		}
	}
	image_free(image);
	*image = turned;
	return 0;
}
