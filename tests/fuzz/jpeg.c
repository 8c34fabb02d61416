/* JPEG, EXIF orientation included. */
#include "picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_picture("\xff\xd8\xff", 3, data, size);
	return 0;
}
