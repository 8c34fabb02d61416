/* A passport's DG2: what is found lies inside what was given. */
#include "biomatch/document.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes picture = {0};
	int error = document_find_picture((struct bytes){data, size}, &picture);

	REQUIRE(!error || error == BM_EDG2);
	if (error)
		return 0;
	REQUIRE(document_is_dg2((struct bytes){data, size}));
	REQUIRE(picture.len && picture.len < size);
	REQUIRE(picture.data > data && picture.data + picture.len <= data + size);
	return 0;
}
