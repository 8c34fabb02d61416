#include "picture.h"

#include <stdlib.h>
#include <string.h>

#include "biomatch/document.h"
#include "biomatch/face.h"

#define CHANNELS 3u

int picture_init(struct picture *picture, uint64_t width, uint64_t height)
{
	if (width > FACE_MAX_PIXELS || height > FACE_MAX_PIXELS || width * height > FACE_MAX_PIXELS)
		return BM_EIMGSIZE;
	if (width < FACE_MIN_SIDE || height < FACE_MIN_SIDE)
		return BM_EIMGSMALL;
	picture->pixels = malloc((size_t)(width * height * CHANNELS));
	if (!picture->pixels)
		return BM_ENOMEM;
	picture->width = (uint32_t)width;
	picture->height = (uint32_t)height;
	return 0;
}

void picture_deinit(struct picture *picture)
{
	if (picture->pixels)
		bytes_wipe(picture->pixels, (size_t)picture->width * picture->height * CHANNELS);
	free(picture->pixels);
	*picture = (struct picture){0};
}

static bool begins_with(struct bytes file, const char *magic, size_t len)
{
	return file.len >= len && !memcmp(file.data, magic, len);
}

#define BEGINS_WITH(file, magic) begins_with(file, magic, sizeof(magic) - 1)

static int decode(struct bytes file, struct picture *out)
{
	unsigned orientation = 1;
	int error;

	if (BEGINS_WITH(file, "\xff\xd8\xff"))
		error = jpeg_decode(file, out, &orientation);
	else if (BEGINS_WITH(file, "\x89PNG\r\n\x1a\n"))
		error = png_decode(file, out, &orientation);
	else if (BEGINS_WITH(file, "\0\0\0\x0cjP  \r\n\x87\n") ||
		 BEGINS_WITH(file, "\xff\x4f\xff\x51"))
		error = jp2_decode(file, out);
	else
		return BM_EIMGFORMAT;
	if (!error)
		error = exif_turn(out, orientation);
	if (error)
		picture_deinit(out);
	return error;
}

int picture_decode(struct bytes file, struct picture *out)
{
	int error = 0;

	*out = (struct picture){0};
	if (file.len > FACE_MAX_IMAGE_BYTES)
		return BM_EIMGSIZE;
	if (document_is_dg2(file))
		error = document_find_picture(file, &file);
	return error ? error : decode(file, out);
}
