#include <openjpeg-2.5/openjpeg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "biomatch/face.h"
#include "picture.h"

/* Each tile costs memory for its state, however small it is. */
#define MAX_TILES 4096

/* The bytes as a stream. */
struct source {
	const uint8_t *data;
	size_t len, at;
};

static OPJ_SIZE_T source_read(void *to, OPJ_SIZE_T n, void *ctx)
{
	struct source *source = ctx;
	size_t left = source->len - source->at;

	if (!left)
		return (OPJ_SIZE_T)-1;
	if (n > left)
		n = left;
	memcpy(to, source->data + source->at, n);
	source->at += n;
	return n;
}

static OPJ_OFF_T source_skip(OPJ_OFF_T n, void *ctx)
{
	struct source *source = ctx;

	if (n < 0 || (uint64_t)n > source->len - source->at)
		return -1;
	source->at += (size_t)n;
	return n;
}

static OPJ_BOOL source_seek(OPJ_OFF_T to, void *ctx)
{
	struct source *source = ctx;

	if (to < 0 || (uint64_t)to > source->len)
		return OPJ_FALSE;
	source->at = (size_t)to;
	return OPJ_TRUE;
}

static void quiet(const char *text, void *ctx)
{
	(void)text;
	(void)ctx;
}

/* The codestream, bare or in its box (ISO/IEC 15444-1, I.4); empty where there is none. */
static struct bytes find_codestream(struct bytes file)
{
	size_t head, at = 0;

	if (file.data[0] == 0xff)
		return file;
	for (uint64_t len; file.len - at >= 16; at += (size_t)len) {
		len = bytes_get_be32(file.data + at);
		head = len == 1 ? 16 : 8;
		if (len == 1)
			len = (uint64_t)bytes_get_be32(file.data + at + 8) << 32 |
			      bytes_get_be32(file.data + at + 12);
		if (!memcmp(file.data + at + 4, "jp2c", 4))
			return (struct bytes){file.data + at + head, file.len - at - head};
		if (len < head || len > file.len - at)
			break;
	}
	return (struct bytes){NULL, 0};
}

/*
 * The library keeps 6 KB for each tile before it tells how many there are, and takes their
 * sizes for signed: 87 bytes made it keep 250 MB. So the sizes, which come
 * first (A.5.1), are looked at before it sees them.
 */
static int check_sizes(struct bytes file)
{
	static const uint8_t begin[] = {0xff, 0x4f, 0xff, 0x51};
	struct bytes stream = find_codestream(file);
	uint32_t sizes[8]; /* width, height, left, top; of tiles likewise */
	uint64_t tiles = 1;

	if (stream.len < sizeof(begin) + 4 + sizeof(sizes))
		return BM_EIMGTRUNC;
	if (memcmp(stream.data, begin, sizeof(begin)) != 0)
		return BM_EIMGCORRUPT;
	for (size_t i = 0; i < 8; i++) {
		sizes[i] = bytes_get_be32(stream.data + sizeof(begin) + 4 + 4 * i);
		if (sizes[i] > INT32_MAX)
			return BM_EIMGSIZE;
	}
	for (size_t i = 0; i < 2; i++) {
		uint32_t end = sizes[i], side = sizes[4 + i], from = sizes[6 + i];

		if (!side || from >= end || sizes[2 + i] >= end)
			return BM_EIMGCORRUPT;
		tiles *= ((uint64_t)(end - from) + side - 1) / side;
	}
	return tiles <= MAX_TILES && (uint64_t)(sizes[0] - sizes[2]) * (sizes[1] - sizes[3]) <=
					     FACE_MAX_PIXELS
		       ? 0
		       : BM_EIMGSIZE;
}

/* Whatever the library read. */
static bool tiles_fit(opj_codec_t *codec)
{
	opj_codestream_info_v2_t *info = opj_get_cstr_info(codec);
	bool fit = info && (uint64_t)info->tw * info->th <= MAX_TILES;

	opj_destroy_cstr_info(&info);
	return fit;
}

/* Grey, or three or four components of which the first three are colours. */
static bool layout_known(const opj_image_t *picture)
{
	const opj_image_comp_t *c = picture->comps;

	if (!picture->numcomps || picture->numcomps > 4)
		return false;
	for (unsigned i = 0; i < picture->numcomps; i++) {
		if (!c[i].prec || c[i].prec > 16 || !c[i].w || !c[i].h)
			return false;
	}
	return true;
}

/* One component at a place of the picture, as 0 to 255; coarser ones are repeated. */
static int sample(const opj_image_t *picture, unsigned component, uint32_t x, uint32_t y)
{
	const opj_image_comp_t *c = &picture->comps[component];
	uint32_t cx = x / (c->dx ? c->dx : 1), cy = y / (c->dy ? c->dy : 1);
	int64_t v;

	if (cx >= c->w)
		cx = c->w - 1;
	if (cy >= c->h)
		cy = c->h - 1;
	v = c->data[(size_t)cy * c->w + cx];
	if (c->sgnd)
		v += INT64_C(1) << (c->prec - 1);
	v = v * 255 / ((INT64_C(1) << c->prec) - 1);
	return v < 0 ? 0 : v > 255 ? 255 : (int)v;
}

static uint8_t clamp(double v)
{
	/* NOLINTNEXTLINE(bugprone-incorrect-roundings): it is not negative here. */
	return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)(v + 0.5);
}

static void put_pixel(const opj_image_t *picture, uint32_t x, uint32_t y, uint8_t *bgr)
{
	bool grey = picture->numcomps < 3;
	int a = sample(picture, 0, x, y);
	int b = grey ? a : sample(picture, 1, x, y), c = grey ? a : sample(picture, 2, x, y);

	if (!grey && picture->color_space == OPJ_CLRSPC_SYCC) { /* ITU-R BT.601, full range */
		bgr[0] = clamp(a + 1.772 * (b - 128));
		bgr[1] = clamp(a - 0.344136 * (b - 128) - 0.714136 * (c - 128));
		bgr[2] = clamp(a + 1.402 * (c - 128));
	} else {
		bgr[0] = (uint8_t)c;
		bgr[1] = (uint8_t)b;
		bgr[2] = (uint8_t)a;
	}
}

static int convert(const opj_image_t *picture, struct picture *out)
{
	for (unsigned i = 0; i < picture->numcomps; i++) {
		if (!picture->comps[i].data)
			return BM_EIMGCORRUPT;
	}
	for (uint32_t y = 0; y < out->height; y++) {
		for (uint32_t x = 0; x < out->width; x++)
			put_pixel(picture, x, y, out->pixels + ((size_t)y * out->width + x) * 3);
	}
	return 0;
}

static int decode(opj_codec_t *codec, opj_stream_t *stream, struct picture *out)
{
	opj_image_t *picture = NULL;
	int error = BM_EIMGCORRUPT;

	if (!opj_read_header(stream, codec, &picture))
		goto out;
	if (!layout_known(picture) || picture->x1 <= picture->x0 || picture->y1 <= picture->y0)
		goto out;
	error = tiles_fit(codec)
			? picture_init(out, picture->x1 - picture->x0, picture->y1 - picture->y0)
			: BM_EIMGSIZE;
	if (error)
		goto out;
	error = BM_EIMGCORRUPT;
	if (opj_decode(codec, stream, picture) && opj_end_decompress(codec, stream))
		error = convert(picture, out);
out:
	opj_image_destroy(picture);
	return error;
}

static int open_and_decode(opj_codec_t *codec, struct source *source, struct picture *out)
{
	opj_stream_t *stream = opj_stream_create(64 * 1024, OPJ_TRUE);
	opj_dparameters_t parameters;
	int error = BM_ENOMEM;

	if (!stream)
		return BM_ENOMEM;
	opj_stream_set_user_data(stream, source, NULL);
	opj_stream_set_user_data_length(stream, source->len);
	opj_stream_set_read_function(stream, source_read);
	opj_stream_set_skip_function(stream, source_skip);
	opj_stream_set_seek_function(stream, source_seek);
	opj_set_default_decoder_parameters(&parameters);
	if (opj_setup_decoder(codec, &parameters) && opj_decoder_set_strict_mode(codec, OPJ_TRUE))
		error = decode(codec, stream, out);
	opj_stream_destroy(stream);
	return error;
}

int jp2_decode(struct bytes file, struct picture *out)
{
	const uint8_t *data = file.data;
	size_t len = file.len;
	struct source source = {data, len, 0};
	bool ends = len >= 2 && data[len - 2] == 0xff && data[len - 1] == 0xd9;
	int error = check_sizes(file);
	opj_codec_t *codec;

	if (error)
		return error;
	codec = opj_create_decompress(data[0] == 0xff ? OPJ_CODEC_J2K : OPJ_CODEC_JP2);
	if (!codec)
		return BM_ENOMEM;
	opj_set_info_handler(codec, quiet, NULL);
	opj_set_warning_handler(codec, quiet, NULL);
	opj_set_error_handler(codec, quiet, NULL);
	error = open_and_decode(codec, &source, out);
	opj_destroy_codec(codec);
	if (error == BM_EIMGCORRUPT && !ends)
		error = BM_EIMGTRUNC;
	return error;
}
