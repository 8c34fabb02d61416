#include <stdbool.h>

#include "image.h"

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT      3
#define ENTRY_LEN       12

static unsigned read16(const uint8_t *p, bool big)
{
	return big ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

static uint32_t read32(const uint8_t *p, bool big)
{
	uint32_t high = read16(big ? p : p + 2, big), low = read16(big ? p + 2 : p, big);

	return high << 16 | low;
}

unsigned exif_orientation(const uint8_t *tiff, size_t len)
{
	uint32_t at, n;
	bool big;

	if (len < 8 || tiff[0] != tiff[1] || (tiff[0] != 'M' && tiff[0] != 'I'))
		return 1;
	big = tiff[0] == 'M';
	at = read32(tiff + 4, big);
	if (read16(tiff + 2, big) != 42 || at > len - 2)
		return 1;
	n = read16(tiff + at, big);
	for (at += 2; n && len - at >= ENTRY_LEN; n--, at += ENTRY_LEN) {
		unsigned value;

		if (read16(tiff + at, big) != TAG_ORIENTATION)
			continue;
		value = read16(tiff + at + 8, big);
		return read16(tiff + at + 2, big) == TYPE_SHORT && value >= 1 && value <= 8 ? value
											    : 1;
	}
	return 1;
}
