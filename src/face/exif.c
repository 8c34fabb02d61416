#include "picture.h"

#include <string.h>

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

unsigned exif_orientation(struct bytes file)
{
	const uint8_t *tiff = file.data;
	size_t len = file.len;
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

/*
 * EXIF orientation as steps of the source per step right and down in the
 * upright picture, in units of a column (x) and a row (y), and the corner
 * where the upright picture begins.
 */
static const struct {
	bool from_right, from_bottom; /* the corner in the source */
	bool swap;                    /* right in the result is down in the source */
} turns[9] = {
	[2] = {true, false, false}, [3] = {true, true, false}, [4] = {false, true, false},
	[5] = {false, false, true}, [6] = {false, true, true}, [7] = {true, true, true},
	[8] = {true, false, true},
};

int exif_turn(struct picture *picture, unsigned orientation)
{
	struct picture turned = {0};
	uint32_t w = picture->width, h = picture->height;
	bool swap;
	int error;

	if (orientation < 2 || orientation > 8)
		return 0;
	swap = turns[orientation].swap;
	error = picture_init(&turned, swap ? h : w, swap ? w : h);
	if (error)
		return error;
	for (uint32_t y = 0; y < turned.height; y++) {
		for (uint32_t x = 0; x < turned.width; x++) {
			uint32_t sx = swap ? y : x, sy = swap ? x : y;

			if (turns[orientation].from_right)
				sx = w - 1 - sx;
			if (turns[orientation].from_bottom)
				sy = h - 1 - sy;
			memcpy(turned.pixels + ((size_t)y * turned.width + x) * 3,
			       picture->pixels + ((size_t)sy * w + sx) * 3, 3);
		}
	}
	picture_deinit(picture);
	*picture = turned;
	return 0;
}
