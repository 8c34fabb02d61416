#include <png.h>
#include <stdbool.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "picture.h"

/* What the chunks of a file say. */
struct chunks {
	unsigned orientation;
	bool ends; /* with IEND */
};

static void read_chunks(const uint8_t *data, size_t len, struct chunks *out)
{
	*out = (struct chunks){.orientation = 1};
	for (size_t at = 8; len - at >= 12;) {
		uint32_t size = bytes_get_be32(data + at);
		const uint8_t *type = data + at + 4;

		if (size > len - at - 12)
			return;
		if (!memcmp(type, "eXIf", 4))
			out->orientation = exif_orientation((struct bytes){type + 4, size});
		if (!memcmp(type, "IEND", 4)) {
			out->ends = true;
			return;
		}
		at += 12 + (size_t)size;
	}
}

static int decode(png_image *png, struct picture *out)
{
	/* What is transparent is shown on white, as a viewer would. */
	const png_color white = {255, 255, 255};
	int error = picture_init(out, png->width, png->height);

	if (error)
		return error;
	png->format = PNG_FORMAT_BGR;
	return png_image_finish_read(png, &white, out->pixels, 0, NULL) ? 0 : BM_EIMGCORRUPT;
}

int png_decode(struct bytes file, struct picture *out, unsigned *orientation)
{
	const uint8_t *data = file.data;
	size_t len = file.len;
	png_image png = {.version = PNG_IMAGE_VERSION};
	struct chunks chunks;
	int error = BM_EIMGCORRUPT;

	read_chunks(data, len, &chunks);
	if (png_image_begin_read_from_memory(&png, data, len))
		error = decode(&png, out);
	png_image_free(&png);
	if (error == BM_EIMGCORRUPT && !chunks.ends)
		error = BM_EIMGTRUNC;
	*orientation = chunks.orientation;
	return error;
}
