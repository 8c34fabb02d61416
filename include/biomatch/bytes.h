/*
 * Bytes: fixed-order integers, hexadecimal, checksums and wiping.
 *
 * Thread: any.  Owns: nothing.
 */
#ifndef BIOMATCH_BYTES_H
#define BIOMATCH_BYTES_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "biomatch/error.h"

/* A borrowed run of bytes. */
struct bytes {
	const uint8_t *data;
	size_t len;
};

/* Big-endian, for keys that must sort; little-endian, for stored values. */
static inline void bytes_put_be32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void bytes_put_be64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint32_t bytes_get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static inline uint64_t bytes_get_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v);
}

/* Overwrites len bytes in a way the compiler keeps. */
void bytes_wipe(void *p, size_t len);
/* XXH3-64 of len bytes: the checksum of every stored record. */
uint64_t bytes_checksum(const void *p, size_t len);
/* Writes 2 * len lower-case digits and a NUL to out. */
void bytes_to_hex(const uint8_t *p, size_t len, char *out);
/* Reads exactly 2 * len hex digits. BM_EINVAL for anything else. */
int bytes_from_hex(const char *hex, uint8_t *out, size_t len) BM_MUST_CHECK;

/* The stored formats are little-endian and so is every supported machine. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian machines only");

#endif
