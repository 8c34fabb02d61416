#include "biomatch/document.h"
#include "tlv.h"

/* ICAO Doc 9303-10, table of data group 2. */
#define TAG_DG2              0x75u
#define TAG_TEMPLATES        0x7f61u
#define TAG_COUNT            0x02u
#define TAG_TEMPLATE         0x7f60u
#define TAG_DATA             0x5f2eu
#define TAG_DATA_CONSTRUCTED 0x7f2eu

/* ISO/IEC 19794-5:2005, clause 5: sizes in bytes. */
#define RECORD_HEADER     14u
#define FACE_INFORMATION  20u
#define FEATURE_POINT     8u
#define IMAGE_INFORMATION 12u

bool document_is_dg2(struct bytes file)
{
	return file.len && file.data[0] == TAG_DG2;
}

static bool is_record(struct bytes data)
{
	return data.len >= RECORD_HEADER && !memcmp(data.data, "FAC", 4);
}

/* The picture of a record's first face. */
static int find_in_record(struct bytes record, struct bytes *picture)
{
	const uint8_t *face = record.data + RECORD_HEADER;
	size_t len, before;

	if (memcmp(record.data + 4, "010", 4) || bytes_get_be32(record.data + 8) != record.len ||
	    record.len < RECORD_HEADER + FACE_INFORMATION)
		return BM_EDG2;
	len = bytes_get_be32(face);
	before = FACE_INFORMATION + ((size_t)face[4] << 8 | face[5]) * FEATURE_POINT +
		 IMAGE_INFORMATION;
	if (len > record.len - RECORD_HEADER || len <= before)
		return BM_EDG2;
	*picture = (struct bytes){face + before, len - before};
	return 0;
}

/*
 * ISO/IEC 39794-5:2019, annex A, under automatic tags, in the [1] that the application
 * profile of passports puts around it. What else each level holds is passed over: nearly
 * all of it is optional.
 */
static int find_in_block(struct bytes data, struct bytes *picture)
{
	static const unsigned path[] = {
		0xa1, /* the profile's choice */
		0x65, /* FaceImageDataBlock */
		0xa1, /* representationBlocks */
		0x30, /* RepresentationBlock */
		0xa1, /* imageRepresentation */
		0xa0, /* base */
		0xa0, /* imageRepresentation2DBlock */
		0x80, /* representationData2D */
	};

	for (size_t i = 0; i < sizeof(path) / sizeof(path[0]); i++) {
		int error = tlv_find(data, path[i], &data);

		if (error)
			return error;
	}
	*picture = data;
	return data.len ? 0 : BM_EDG2;
}

/* The biometric data block of the first face. */
static int find_data(struct bytes dg2, struct bytes *data)
{
	struct bytes templates, count, template;
	int error = tlv_expect(&dg2, TAG_DG2, &templates);

	if (error || dg2.len)
		return BM_EDG2;
	error = tlv_find(templates, TAG_TEMPLATES, &templates);
	if (!error)
		error = tlv_expect(&templates, TAG_COUNT, &count);
	if (error || count.len != 1 || !count.data[0])
		return BM_EDG2;
	error = tlv_find(templates, TAG_TEMPLATE, &template);
	if (error)
		return error;
	error = tlv_find(template, TAG_DATA, data);
	return error ? tlv_find(template, TAG_DATA_CONSTRUCTED, data) : 0;
}

int document_find_picture(struct bytes dg2, struct bytes *picture)
{
	struct bytes data;
	int error = find_data(dg2, &data);

	if (error)
		return error;
	return is_record(data) ? find_in_record(data, picture) : find_in_block(data, picture);
}
