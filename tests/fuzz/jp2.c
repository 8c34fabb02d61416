/*
 * JPEG 2000: the boxed form, or the bare codestream where the first byte is 0xff.
 *
 * A picture of many pixels that is still allowed takes a second to decode and shows
 * nothing that a small one does not, so small ones are tried, and those too large.
 */
#include "biomatch/bytes.h"
#include "picture.h"

#define SMALL ((uint64_t)1 << 14)

/* Where the codestream begins with its size (ISO/IEC 15444-1, A.5.1). */
static uint64_t pixels(const uint8_t *data, size_t size)
{
	static const uint8_t start[] = {0xff, 0x4f, 0xff, 0x51};
	const uint8_t *siz =
		size && *data == 0xff ? data : memmem(data, size, start, sizeof(start));

	if (!siz || size - (size_t)(siz - data) < 24)
		return 0;
	return (uint64_t)(bytes_get_be32(siz + 8) - bytes_get_be32(siz + 16)) *
	       (bytes_get_be32(siz + 12) - bytes_get_be32(siz + 20));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t n = pixels(data, size);

	if (n > SMALL && n <= FACE_MAX_PIXELS)
		return 0;
	if (size && data[0] == 0xff)
		fuzz_picture("\xff\x4f\xff\x51", 4, data, size);
	else
		fuzz_picture("\0\0\0\x0cjP  \r\n\x87\n", 12, data, size);
	return 0;
}
