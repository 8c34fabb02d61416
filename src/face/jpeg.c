#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "biomatch/bytes.h"
#include "picture.h"

/*
 * Each scan of a progressive picture goes over all pixels again: a small file
 * with thousands of them would cost minutes. Real encoders use about ten.
 */
#define MAX_SCANS 64

enum marker { SOI = 0xd8, EOI = 0xd9, SOS = 0xda, APP1 = 0xe1, RST0 = 0xd0, RST7 = 0xd7 };

/* What the markers of a file say. */
struct markers {
	unsigned scans, orientation;
	bool ends; /* with EOI */
};

/* The next marker after entropy-coded data; len when there is none. */
static size_t skip_scan(const uint8_t *data, size_t len, size_t at)
{
	while (at + 1 < len) {
		const uint8_t *ff = memchr(data + at, 0xff, len - at - 1);

		if (!ff)
			return len;
		at = (size_t)(ff - data);
		if (data[at + 1] && data[at + 1] != 0xff &&
		    !(data[at + 1] >= RST0 && data[at + 1] <= RST7))
			return at;
		at += data[at + 1] == 0xff ? 1 : 2;
	}
	return len;
}

static void read_markers(const uint8_t *data, size_t len, struct markers *out)
{
	size_t at = 2;

	*out = (struct markers){.orientation = 1};
	while (at + 4 <= len || (at + 2 <= len && data[at + 1] == EOI)) {
		unsigned code = data[at + 1];
		size_t size;

		if (data[at] != 0xff || code == 0xff) { /* fill bytes, or stray ones */
			at++;
			continue;
		}
		if (code == EOI) {
			out->ends = true;
			return;
		}
		size = (size_t)data[at + 2] << 8 | data[at + 3];
		if (size < 2 || size > len - at - 2)
			return;
		if (code == APP1 && size >= 16 && !memcmp(data + at + 4, "Exif\0\0", 6))
			out->orientation =
				exif_orientation((struct bytes){data + at + 10, size - 8});
		at += 2 + size;
		if (code == SOS) {
			out->scans++;
			at = skip_scan(data, len, at);
		}
	}
}

/* CMYK as Adobe writes it: inverted, black apart. */
static void cmyk_to_bgr(const uint8_t *cmyk, struct picture *out)
{
	size_t n = (size_t)out->width * out->height;

	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = cmyk + 4 * i;

		for (int c = 0; c < 3; c++)
			out->pixels[3 * i + (size_t)c] = (uint8_t)(p[2 - c] * p[3] / 255);
	}
}

static int decompress(tjhandle tj, const uint8_t *data, size_t len, int colours,
		      struct picture *out)
{
	bool cmyk = colours == TJCS_CMYK || colours == TJCS_YCCK;
	size_t size = (size_t)out->width * out->height * 4;
	uint8_t *pixels = cmyk ? malloc(size) : out->pixels;
	int rc;

	if (!pixels)
		return BM_ENOMEM;
	rc = tjDecompress2(tj, data, len, pixels, (int)out->width, 0, (int)out->height,
			   cmyk ? TJPF_CMYK : TJPF_BGR, 0);
	if (cmyk) {
		cmyk_to_bgr(pixels, out);
		bytes_wipe(pixels, size);
		free(pixels);
	}
	/* Bytes that stand between segments are common and harm nothing. */
	if (rc && tjGetErrorCode(tj) == TJERR_WARNING &&
	    strstr(tjGetErrorStr2(tj), "extraneous bytes"))
		rc = 0;
	return rc ? BM_EIMGCORRUPT : 0;
}

static int decode(tjhandle tj, const uint8_t *data, size_t len, struct picture *out)
{
	int width, height, subsampling, colours, error;

	if (tjDecompressHeader3(tj, data, len, &width, &height, &subsampling, &colours))
		return BM_EIMGCORRUPT;
	error = picture_init(out, (uint64_t)width, (uint64_t)height);
	return error ? error : decompress(tj, data, len, colours, out);
}

int jpeg_decode(struct bytes file, struct picture *out, unsigned *orientation)
{
	const uint8_t *data = file.data;
	size_t len = file.len;
	struct markers markers;
	tjhandle tj;
	int error;

	read_markers(data, len, &markers);
	if (markers.scans > MAX_SCANS)
		return BM_EIMGSIZE;
	tj = tjInitDecompress();
	if (!tj)
		return BM_ENOMEM;
	error = decode(tj, data, len, out);
	tjDestroy(tj);
	if (!error && !markers.ends)
		error = BM_EIMGTRUNC;
	if (error == BM_EIMGCORRUPT && !markers.ends)
		error = BM_EIMGTRUNC;
	*orientation = markers.orientation;
	return error;
}
