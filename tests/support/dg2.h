/* Face data groups of passports, put together by the tests. */
#ifndef TEST_DG2_H
#define TEST_DG2_H

#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"

/* A growing run of bytes; what is put in front encloses what is there. */
struct dg2 {
	uint8_t *data;
	size_t len;
};

static inline void dg2_put(struct dg2 *to, size_t at, const void *bytes, size_t len)
{
	to->data = realloc(to->data, to->len + len);
	assert_non_null(to->data);
	memmove(to->data + at + len, to->data + at, to->len - at);
	memcpy(to->data + at, bytes, len);
	to->len += len;
}

/* Encloses everything from `from` on in an element, its length in four bytes. */
static inline void dg2_enclose(struct dg2 *to, size_t from, unsigned tag)
{
	uint8_t head[7] = {(uint8_t)(tag >> 8), (uint8_t)tag, 0x84};
	size_t skip = tag > 0xff ? 0 : 1;

	bytes_put_be32(head + 3, (uint32_t)(to->len - from));
	dg2_put(to, from, head + skip, sizeof(head) - skip);
}

#define DG2_RECORD_HEADER 14
#define DG2_FACE          20
#define DG2_POINT         8
#define DG2_IMAGE         12

/* ISO/IEC 19794-5:2005: record header, facial information, points, image information. */
static inline void dg2_add_record(struct dg2 *to, struct bytes picture, unsigned points)
{
	size_t face_len = DG2_FACE + points * DG2_POINT + DG2_IMAGE + picture.len;
	size_t before = DG2_RECORD_HEADER + face_len - picture.len;
	uint8_t *head = calloc(1, before);

	assert_non_null(head);
	memcpy(head,
	       "FAC\0"
	       "010",
	       8);
	bytes_put_be32(head + 8, (uint32_t)(DG2_RECORD_HEADER + face_len));
	head[13] = 1;
	bytes_put_be32(head + DG2_RECORD_HEADER, (uint32_t)face_len);
	head[DG2_RECORD_HEADER + 5] = (uint8_t)points;
	dg2_put(to, to->len, head, before);
	dg2_put(to, to->len, picture.data, picture.len);
	free(head);
}

/* ISO/IEC 39794-5:2019, with no more than what it demands. */
static inline void dg2_add_block(struct dg2 *to, struct bytes picture)
{
	static const uint8_t id[] = {0x80, 1, 0}, format[] = {0xa1, 5, 0xa0, 3, 0x80, 1, 2},
			     version[] = {0xa0, 7, 0x80, 1, 3, 0x81, 2, 0x07, 0xe3};
	size_t from = to->len;

	dg2_put(to, from, picture.data, picture.len);
	dg2_enclose(to, from, 0x80);
	dg2_put(to, to->len, format, sizeof(format));
	dg2_enclose(to, from, 0xa0);
	dg2_enclose(to, from, 0xa0);
	dg2_enclose(to, from, 0xa1);
	dg2_put(to, from, id, sizeof(id));
	dg2_enclose(to, from, 0x30);
	dg2_enclose(to, from, 0xa1);
	dg2_put(to, from, version, sizeof(version));
	dg2_enclose(to, from, 0x65);
	dg2_enclose(to, from, 0xa1);
}

/* The templates around one data block, with a header as ICAO Doc 9303-10 has it. */
static inline void dg2_finish(struct dg2 *to, unsigned data_tag)
{
	static const uint8_t count[] = {0x02, 1, 1},
			     header[] = {0xa1, 14, 0x81, 1,    2,    0x82, 1, 0,
					 0x87, 2,  0x01, 0x01, 0x88, 2,    0, 8};

	dg2_enclose(to, 0, data_tag);
	dg2_put(to, 0, header, sizeof(header));
	dg2_enclose(to, 0, 0x7f60);
	dg2_put(to, 0, count, sizeof(count));
	dg2_enclose(to, 0, 0x7f61);
	dg2_enclose(to, 0, 0x75);
}

static inline struct dg2 dg2_of_record(struct bytes picture, unsigned points)
{
	struct dg2 out = {0};

	dg2_add_record(&out, picture, points);
	dg2_finish(&out, 0x5f2e);
	return out;
}

static inline struct dg2 dg2_of_block(struct bytes picture)
{
	struct dg2 out = {0};

	dg2_add_block(&out, picture);
	dg2_finish(&out, 0x7f2e);
	return out;
}

#endif
