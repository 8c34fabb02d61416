#include "biomatch/bytes.h"

#include <xxhash.h>

void bytes_wipe(void *p, size_t len)
{
	explicit_bzero(p, len);
}

uint64_t bytes_checksum(const void *p, size_t len)
{
	return XXH3_64bits(p, len);
}

void bytes_to_hex(const uint8_t *p, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int bytes_from_hex(const char *hex, uint8_t *out, size_t len)
{
	if (strlen(hex) != 2 * len)
		return BM_EINVAL;
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return BM_EINVAL;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}
