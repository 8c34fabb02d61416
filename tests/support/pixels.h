/* Pictures made by the tests: pixels, and files of every kind from them. */
#ifndef TEST_PIXELS_H
#define TEST_PIXELS_H

#include <openjpeg-2.5/openjpeg.h>
#include <png.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "biomatch/bytes.h"
#include "biomatch/file.h"

/* BGR, rows without padding. */
struct pixels {
	uint8_t *p;
	int width, height;
};

struct encoded {
	uint8_t *data;
	size_t len;
};

static inline struct encoded read_encoded(const char *path)
{
	struct encoded file;

	assert_int_equal(file_read(path, 10u << 20, &file.data, &file.len), 0);
	return file;
}

static inline struct pixels make_pixels(int width, int height)
{
	struct pixels out = {calloc((size_t)width * (size_t)height, 3), width, height};

	assert_non_null(out.p);
	return out;
}

static inline uint8_t *pixel_at(const struct pixels *from, int x, int y)
{
	return from->p + 3 * ((size_t)y * (size_t)from->width + (size_t)x);
}

static inline struct pixels read_pixels(const char *path)
{
	struct encoded file = read_encoded(path);
	tjhandle jpeg = tjInitDecompress();
	int width, height, subsampling, space;
	struct pixels out;

	assert_int_equal(tjDecompressHeader3(jpeg, file.data, file.len, &width, &height,
					     &subsampling, &space),
			 0);
	out = make_pixels(width, height);
	assert_int_equal(
		tjDecompress2(jpeg, file.data, file.len, out.p, width, 0, height, TJPF_BGR, 0), 0);
	tjDestroy(jpeg);
	free(file.data);
	return out;
}

/* Part of a picture, which may reach beyond it and is black there. */
static inline struct pixels cut_pixels(const struct pixels *from, int x0, int y0, int width,
				       int height)
{
	struct pixels out = make_pixels(width, height);

	for (int y = 0; y < height; y++) {
		for (int x = 0; x < width; x++) {
			if (x0 + x >= 0 && x0 + x < from->width && y0 + y >= 0 &&
			    y0 + y < from->height)
				memcpy(pixel_at(&out, x, y), pixel_at(from, x0 + x, y0 + y), 3);
		}
	}
	return out;
}

/* Every by-th pixel of every by-th row, the mean of by x by. */
static inline struct pixels shrink_pixels(const struct pixels *from, int by)
{
	struct pixels out = make_pixels(from->width / by, from->height / by);

	for (int y = 0; y < out.height; y++) {
		for (int x = 0; x < out.width; x++) {
			for (int c = 0; c < 3; c++) {
				int sum = 0;

				for (int i = 0; i < by * by; i++)
					sum += pixel_at(from, x * by + i % by, y * by + i / by)[c];
				pixel_at(&out, x, y)[c] = (uint8_t)(sum / (by * by));
			}
		}
	}
	return out;
}

/*
 * How a camera held this way stores the upright picture. The table is EXIF 2.3,
 * 4.6.4: where the stored picture's row 0 and column 0 lie in the upright one.
 */
static inline struct pixels store_pixels(const struct pixels *upright, int orientation)
{
	static const char *const rows[9] = {"",     "top",   "top",   "bottom", "bottom",
					    "left", "right", "right", "left"};
	static const char *const columns[9] = {"",    "left", "right",  "right", "left",
					       "top", "top",  "bottom", "bottom"};
	const char *row = rows[orientation], *column = columns[orientation];
	bool swap = orientation >= 5;
	struct pixels out = make_pixels(swap ? upright->height : upright->width,
					swap ? upright->width : upright->height);

	for (int r = 0; r < out.height; r++) {
		for (int c = 0; c < out.width; c++) {
			int down = swap ? c : r, right = swap ? r : c;

			if (!strcmp(swap ? column : row, "bottom"))
				down = upright->height - 1 - down;
			if (!strcmp(swap ? row : column, "right"))
				right = upright->width - 1 - right;
			memcpy(pixel_at(&out, c, r), pixel_at(upright, right, down), 3);
		}
	}
	return out;
}

static inline struct encoded encode_jpeg_at(const void *pixels, int width, int height, int format,
					    int subsampling, int flags, int quality)
{
	tjhandle jpeg = tjInitCompress();
	struct encoded out = {0};
	unsigned long len = 0;
	unsigned char *data = NULL;

	assert_int_equal(tjCompress2(jpeg, pixels, width, 0, height, format, &data, &len,
				     subsampling, quality, flags),
			 0);
	out.data = malloc(len);
	assert_non_null(out.data);
	memcpy(out.data, data, len);
	out.len = len;
	tjFree(data);
	tjDestroy(jpeg);
	return out;
}

static inline struct encoded encode_jpeg(const void *pixels, int width, int height, int format,
					 int subsampling, int flags)
{
	return encode_jpeg_at(pixels, width, height, format, subsampling, flags, 95);
}

static inline struct encoded encode_png(const void *pixels, int width, int height, unsigned format)
{
	png_image png = {.version = PNG_IMAGE_VERSION,
			 .width = (unsigned)width,
			 .height = (unsigned)height,
			 .format = format};
	png_alloc_size_t len = 0;
	struct encoded out;

	assert_true(png_image_write_to_memory(&png, NULL, &len, 0, pixels, 0, NULL));
	out.data = malloc(len);
	assert_non_null(out.data);
	assert_true(png_image_write_to_memory(&png, out.data, &len, 0, pixels, 0, NULL));
	out.len = len;
	return out;
}

/* Puts bytes into a file at an offset. */
static inline void insert_bytes(struct encoded *file, size_t at, const void *bytes, size_t len)
{
	uint8_t *data = malloc(file->len + len);

	assert_non_null(data);
	memcpy(data, file->data, at);
	memcpy(data + at, bytes, len);
	memcpy(data + at + len, file->data + at, file->len - at);
	free(file->data);
	file->data = data;
	file->len += len;
}

/* A TIFF header and a directory with the orientation alone, in both byte orders. */
#define TIFF_LEN 26
static inline void make_tiff(int orientation, bool big, uint8_t out[TIFF_LEN])
{
	static const uint8_t motorola[TIFF_LEN] = "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01";
	static const uint8_t intel[TIFF_LEN] = "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0";

	memcpy(out, big ? motorola : intel, TIFF_LEN);
	out[big ? 19 : 18] = (uint8_t)orientation;
}

static inline void add_exif_to_jpeg(struct encoded *file, int orientation, bool big)
{
	uint8_t segment[10 + TIFF_LEN] = {0xff, 0xe1, 0, 8 + TIFF_LEN, 'E', 'x', 'i', 'f', 0, 0};

	make_tiff(orientation, big, segment + 10);
	insert_bytes(file, 2, segment, sizeof(segment));
}

/* The CRC of PNG, annex D. */
static inline uint32_t crc_of(const uint8_t *p, size_t len)
{
	uint32_t crc = ~0u;

	while (len--) {
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
	}
	return ~crc;
}

static inline void add_exif_to_png(struct encoded *file, int orientation, bool big)
{
	uint8_t chunk[12 + TIFF_LEN] = {0, 0, 0, TIFF_LEN, 'e', 'X', 'I', 'f'};

	make_tiff(orientation, big, chunk + 8);
	bytes_put_be32(chunk + 8 + TIFF_LEN, crc_of(chunk + 4, 4 + TIFF_LEN));
	insert_bytes(file, 33, chunk, sizeof(chunk));
}

struct sink {
	struct encoded out;
	size_t at;
};

static inline OPJ_SIZE_T sink_write(void *data, OPJ_SIZE_T len, void *user)
{
	struct sink *s = user;

	if (s->at + len > s->out.len) {
		s->out.len = s->at + len;
		s->out.data = realloc(s->out.data, s->out.len);
		assert_non_null(s->out.data);
	}
	memcpy(s->out.data + s->at, data, len);
	s->at += len;
	return len;
}

static inline OPJ_OFF_T sink_skip(OPJ_OFF_T by, void *user)
{
	((struct sink *)user)->at += (size_t)by;
	return by;
}

static inline OPJ_BOOL sink_seek(OPJ_OFF_T to, void *user)
{
	((struct sink *)user)->at = (size_t)to;
	return OPJ_TRUE;
}

/* JPEG 2000 without loss, of one or three components of this depth. */
static inline struct encoded encode_jp2(const struct pixels *from, unsigned components,
					unsigned depth, OPJ_CODEC_FORMAT format)
{
	opj_image_cmptparm_t parms[3] = {0};
	opj_codec_t *codec = opj_create_compress(format);
	opj_stream_t *stream = opj_stream_create(1 << 16, OPJ_FALSE);
	struct sink sink = {0};
	opj_cparameters_t parameters;
	opj_image_t *image;

	for (unsigned c = 0; c < components; c++)
		parms[c] = (opj_image_cmptparm_t){.dx = 1,
						  .dy = 1,
						  .w = (unsigned)from->width,
						  .h = (unsigned)from->height,
						  .prec = depth};
	image = opj_image_create(components, parms,
				 components == 1 ? OPJ_CLRSPC_GRAY : OPJ_CLRSPC_SRGB);
	image->x1 = (unsigned)from->width;
	image->y1 = (unsigned)from->height;
	for (unsigned c = 0; c < components; c++) {
		for (int i = 0; i < from->width * from->height; i++)
			image->comps[c].data[i] =
				from->p[3 * i + (components == 1 ? 1 : 2 - (int)c)] << (depth - 8);
	}
	opj_set_default_encoder_parameters(&parameters);
	parameters.tcp_mct = components == 3;
	parameters.tcp_numlayers = 1;
	parameters.cp_disto_alloc = 1;
	parameters.numresolution = 3;
	assert_true(opj_setup_encoder(codec, &parameters, image));
	opj_stream_set_write_function(stream, sink_write);
	opj_stream_set_skip_function(stream, sink_skip);
	opj_stream_set_seek_function(stream, sink_seek);
	opj_stream_set_user_data(stream, &sink, NULL);
	assert_true(opj_start_compress(codec, image, stream));
	assert_true(opj_encode(codec, stream));
	assert_true(opj_end_compress(codec, stream));
	opj_stream_destroy(stream);
	opj_destroy_codec(codec);
	opj_image_destroy(image);
	return sink.out;
}

#endif
