#include "tlv.h"

#include <stdbool.h>

#define TAG_LONG     0x1fu /* the number of the tag follows */
#define MORE         0x80u
#define LENGTH_BYTES 4u

static int take_byte(struct bytes *in, unsigned *byte)
{
	if (!in->len)
		return BM_EDG2;
	*byte = *in->data++;
	in->len--;
	return 0;
}

static int take_tag(struct bytes *in, unsigned *tag)
{
	unsigned low;
	int error = take_byte(in, tag);

	if (error || (*tag & TAG_LONG) != TAG_LONG)
		return error;
	error = take_byte(in, &low);
	if (error || (low & MORE))
		return BM_EDG2;
	*tag = *tag << 8 | low;
	return 0;
}

static int take_length(struct bytes *in, size_t *len)
{
	unsigned first, byte;
	int error = take_byte(in, &first);

	if (error)
		return error;
	*len = first;
	if (!(first & MORE))
		return 0;
	first &= ~MORE;
	if (!first || first > LENGTH_BYTES)
		return BM_EDG2;
	for (*len = 0; first; first--) {
		error = take_byte(in, &byte);
		if (error)
			return error;
		*len = *len << 8 | byte;
	}
	return 0;
}

int tlv_take(struct bytes *in, unsigned *tag, struct bytes *value)
{
	size_t len = 0;
	int error = take_tag(in, tag);

	if (!error)
		error = take_length(in, &len);
	if (error || len > in->len)
		return BM_EDG2;
	*value = (struct bytes){in->data, len};
	in->data += len;
	in->len -= len;
	return 0;
}

int tlv_expect(struct bytes *in, unsigned tag, struct bytes *value)
{
	unsigned found;
	int error = tlv_take(in, &found, value);

	return error || found != tag ? BM_EDG2 : 0;
}

int tlv_find(struct bytes in, unsigned tag, struct bytes *value)
{
	struct bytes each;
	bool found = false;
	unsigned its;

	while (in.len) {
		if (tlv_take(&in, &its, &each))
			return BM_EDG2;
		if (its != tag || found)
			continue;
		*value = each;
		found = true;
	}
	return found ? 0 : BM_EDG2;
}
