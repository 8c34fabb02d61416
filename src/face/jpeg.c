#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "picture.h"

/*
 * A progressive file can hold thousands of scans, each a pass over the whole
 * picture; honest encoders make about ten.
 */
#define MAX_SCANS 64
/* Padding that some cameras leave; more is data that lost its place. */
#define MAX_EXTRANEOUS 64

static const uint8_t exif_intro[] = {'E', 'x', 'i', 'f', 0, 0};

/* On the heap: what longjmp leaves in registers must not matter. */
struct reader {
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	struct jpeg_progress_mgr progress;
	jmp_buf failed;
	int error;
	uint8_t *cmyk; /* one row, where the file has four inks */
};

static __attribute__((noreturn)) void fail(j_common_ptr jpeg, int error)
{
	struct reader *r = jpeg->client_data;

	r->error = error;
	longjmp(r->failed, 1);
}

static void on_error(j_common_ptr jpeg)
{
	switch (jpeg->err->msg_code) {
	case JERR_OUT_OF_MEMORY:
		fail(jpeg, BM_ENOMEM);
	case JERR_INPUT_EOF:
	case JERR_INPUT_EMPTY:
		fail(jpeg, BM_EIMGTRUNC);
	default:
		fail(jpeg, BM_EIMGCORRUPT);
	}
}

/* Level -1 is damage; of it, only what leaves every pixel whole is let pass. */
static void on_message(j_common_ptr jpeg, int level)
{
	if (level >= 0)
		return;
	switch (jpeg->err->msg_code) {
	case JWRN_JPEG_EOF:
		fail(jpeg, BM_EIMGTRUNC);
	case JWRN_EXTRANEOUS_DATA:
		if (jpeg->err->msg_parm.i[0] > MAX_EXTRANEOUS)
			fail(jpeg, BM_EIMGCORRUPT);
		return;
	case JWRN_ADOBE_XFORM:
	case JWRN_JFIF_MAJOR:
		return;
	default:
		fail(jpeg, BM_EIMGCORRUPT);
	}
}

static void on_progress(j_common_ptr jpeg)
{
	if (((j_decompress_ptr)jpeg)->input_scan_number > MAX_SCANS)
		fail(jpeg, BM_EIMGCORRUPT);
}

static unsigned find_orientation(const struct jpeg_decompress_struct *jpeg)
{
	for (jpeg_saved_marker_ptr m = jpeg->marker_list; m; m = m->next) {
		if (m->data_length > sizeof(exif_intro) &&
		    !memcmp(m->data, exif_intro, sizeof(exif_intro)))
			return exif_orientation((struct bytes){
				m->data + sizeof(exif_intro), m->data_length - sizeof(exif_intro)});
	}
	return 1;
}

/* Ink to light; Adobe's files, which are nearly all, store it inverted. */
static void convert_cmyk(const struct reader *r, uint8_t *out)
{
	uint8_t flip = r->jpeg.saw_Adobe_marker ? 0 : 255;

	for (size_t x = 0; x < r->jpeg.output_width; x++) {
		const uint8_t *ink = r->cmyk + 4 * x;
		unsigned black = ink[3] ^ flip;

		for (size_t c = 0; c < 3; c++)
			out[3 * x + c] = (uint8_t)((ink[2 - c] ^ flip) * black / 255);
	}
}

/* How coarsely brightness was rounded: larger means stronger compression. */
static double mean_step(const struct jpeg_decompress_struct *jpeg)
{
	const JQUANT_TBL *table = jpeg->comp_info[0].quant_table;
	double sum = 0;

	for (int i = 0; table && i < DCTSIZE2; i++)
		sum += table->quantval[i];
	return sum / DCTSIZE2;
}

static void read_rows(struct reader *r, struct picture *out)
{
	jpeg_start_decompress(&r->jpeg);
	while (r->jpeg.output_scanline < r->jpeg.output_height) {
		uint8_t *row = out->pixels + (size_t)3 * out->width * r->jpeg.output_scanline;
		JSAMPROW into = r->cmyk ? r->cmyk : row;

		if (jpeg_read_scanlines(&r->jpeg, &into, 1) != 1)
			fail((j_common_ptr)&r->jpeg, BM_EIMGCORRUPT);
		if (r->cmyk)
			convert_cmyk(r, row);
	}
	/* The tables are gone once the image is finished. */
	out->jpeg_step = mean_step(&r->jpeg);
	/* Reads on to the end, which must be there. */
	jpeg_finish_decompress(&r->jpeg);
}

static void read_all(struct reader *r, struct bytes file, struct picture *out,
		     unsigned *orientation)
{
	struct jpeg_decompress_struct *jpeg = &r->jpeg;

	jpeg_create_decompress(jpeg);
	jpeg->client_data = r;
	jpeg->progress = &r->progress;
	jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xffff);
	jpeg_mem_src(jpeg, file.data, file.len);
	if (jpeg_read_header(jpeg, TRUE) != JPEG_HEADER_OK)
		fail((j_common_ptr)jpeg, BM_EIMGCORRUPT);
	*orientation = find_orientation(jpeg);
	r->error = picture_init(out, jpeg->image_width, jpeg->image_height);
	if (r->error)
		return;
	jpeg->out_color_space = JCS_EXT_BGR;
	if (jpeg->num_components == 4) {
		jpeg->out_color_space = JCS_CMYK;
		r->cmyk = malloc((size_t)4 * jpeg->image_width);
		if (!r->cmyk)
			fail((j_common_ptr)jpeg, BM_ENOMEM);
	}
	read_rows(r, out);
}

int jpeg_decode(struct bytes file, struct picture *out, unsigned *orientation)
{
	struct reader *r = calloc(1, sizeof(*r));
	int error;

	if (!r)
		return BM_ENOMEM;
	r->jpeg.err = jpeg_std_error(&r->errors);
	r->jpeg.client_data = r;
	r->errors.error_exit = on_error;
	r->errors.emit_message = on_message;
	r->progress.progress_monitor = on_progress;
	if (!setjmp(r->failed))
		read_all(r, file, out, orientation);
	jpeg_destroy_decompress(&r->jpeg);
	free(r->cmyk);
	error = r->error;
	free(r);
	return error;
}
