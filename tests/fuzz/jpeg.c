/*
 * JPEG, EXIF orientation included.
 *
 * As of JPEG 2000: of the pictures that are allowed only small ones are tried.
 */
#include "picture.h"

#define SMALL (1u << 14)

/* A frame's sizes stand behind its marker, one of sixteen but for three (ITU-T T.81, B.2.2). */
static bool begins_large_frame(const uint8_t *at)
{
	uint32_t pixels;

	if (at[0] != 0xff || (at[1] & 0xf0) != 0xc0 || at[1] == 0xc4 || at[1] == 0xc8 ||
	    at[1] == 0xcc)
		return false;
	pixels = (uint32_t)(at[5] << 8 | at[6]) * (uint32_t)(at[7] << 8 | at[8]);
	return pixels > SMALL && pixels <= FACE_MAX_PIXELS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i + 9 <= size; i++) {
		if (begins_large_frame(data + i))
			return 0;
	}
	fuzz_picture("\xff\xd8\xff", 3, data, size);
	return 0;
}
