/*
 * JPEG 2000: the boxed form, or the bare codestream where the first byte is 0xff.
 *
 * A picture of many pixels that is still allowed takes a second to decode and shows
 * nothing that a small one does not, so small ones are tried, and those too large.
 * The library keeps 6 KB for each tile and one for each component of it before it
 * says how many there are, so few are tried, and a few more stand for too many.
 */
#include <dlfcn.h>
#include <openjpeg-2.5/openjpeg.h>

#include "biomatch/bytes.h"
#include "picture.h"

#define SMALL  ((uint64_t)1 << 12)
#define FEW    64  /* tiles that are allowed */
#define TILES  128 /* tiles that are tried */
#define TABLES 512 /* components of them all that are tried */

/* Each column of tiles counts as so many, so that more than FEW are refused, not 4096. */
opj_codestream_info_v2_t *opj_get_cstr_info(opj_codec_t *codec)
{
	static opj_codestream_info_v2_t *(*get)(opj_codec_t *);
	opj_codestream_info_v2_t *info;

	if (!get)
		get = (opj_codestream_info_v2_t * (*)(opj_codec_t *)) dlsym(RTLD_NEXT, __func__);
	info = get(codec);
	if (info)
		info->tw *= 4096 / FEW;
	return info;
}

static uint64_t tiles(uint32_t end, uint32_t from, uint32_t side)
{
	return side ? ((uint64_t)(end - from) + side - 1) / side : 0;
}

/* The sizes that stand behind a marker (ISO/IEC 15444-1, A.5.1). */
static bool costly(const uint8_t *siz)
{
	uint32_t x = bytes_get_be32(siz + 4), y = bytes_get_be32(siz + 8);
	uint64_t n = (uint64_t)(x - bytes_get_be32(siz + 12)) * (y - bytes_get_be32(siz + 16));
	uint64_t across = tiles(x, bytes_get_be32(siz + 28), bytes_get_be32(siz + 20));
	uint64_t down = tiles(y, bytes_get_be32(siz + 32), bytes_get_be32(siz + 24));
	unsigned components = siz[36] << 8 | siz[37];

	if (n > SMALL && n <= FACE_MAX_PIXELS)
		return true;
	/* Of more than 65535 the library keeps none. */
	return across * down <= UINT16_MAX &&
	       (across * down > TILES || across * down * components > TABLES);
}

/* The codestream may begin anywhere, and other markers may stand before its size. */
static bool any_costly(const uint8_t *data, size_t size)
{
	for (size_t i = 4; i + 38 <= size; i++) {
		bool marked =
			(data[i - 2] == 0xff && data[i - 1] == 0x51) || (i == 4 && data[0] == 0xff);

		if (marked && costly(data + i))
			return true;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (any_costly(data, size))
		return 0;
	if (size && data[0] == 0xff)
		fuzz_picture("\xff\x4f\xff\x51", 4, data, size);
	else
		fuzz_picture("\0\0\0\x0cjP  \r\n\x87\n", 12, data, size);
	return 0;
}
