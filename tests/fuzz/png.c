/* PNG, with its eXIf chunk. */
#include "picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_picture("\x89PNG\r\n\x1a\n", 8, data, size);
	return 0;
}
