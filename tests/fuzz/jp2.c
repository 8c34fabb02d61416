/* JPEG 2000: the boxed form, or the bare codestream where the first byte is 0xff. */
#include "picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] == 0xff)
		fuzz_picture("\xff\x4f\xff\x51", 4, data, size);
	else
		fuzz_picture("\0\0\0\x0cjP  \r\n\x87\n", 12, data, size);
	return 0;
}
