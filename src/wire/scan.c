#include <stdbool.h>

#include "biomatch/wire.h"

#define TAG_MAX_BYTES    5
#define VARINT_MAX_BYTES 10

/* What is left to read, and of all fields what may still come. */
struct cursor {
	const uint8_t *p, *end;
	unsigned *fields_left;
};

static size_t left(const struct cursor *c)
{
	return (size_t)(c->end - c->p);
}

static int read_varint(struct cursor *c, size_t max_bytes, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < max_bytes && c->p < c->end; i++) {
		uint8_t byte = *c->p++;

		v |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte < 0x80) {
			*out = v;
			return 0;
		}
	}
	return BM_EPROTO;
}

static int skip_bytes(struct cursor *c, size_t n)
{
	if (n > left(c))
		return BM_EPROTO;
	c->p += n;
	return 0;
}

static int read_length_prefixed(struct cursor *c, struct bytes *out)
{
	uint64_t len;

	if (read_varint(c, TAG_MAX_BYTES, &len) || len > left(c))
		return BM_EPROTO;
	*out = (struct bytes){c->p, (size_t)len};
	c->p += len;
	return 0;
}

static int take_field(struct cursor *c)
{
	if (!*c->fields_left)
		return BM_ETOOBIG;
	(*c->fields_left)--;
	return 0;
}

/* The bytes that follow a lead byte, and the range of the first of them (RFC 3629). */
static unsigned utf8_follow(uint8_t lead, uint8_t *low, uint8_t *high)
{
	*low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
	*high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
	if (lead >= 0xc2 && lead <= 0xdf)
		return 1;
	if (lead >= 0xe0 && lead <= 0xef)
		return 2;
	return lead >= 0xf0 && lead <= 0xf4 ? 3 : 0;
}

/* Text is UTF-8 without surrogates, overlong forms and NUL, which would end it in C. */
static bool text_valid(struct bytes s)
{
	for (size_t i = 0; i < s.len;) {
		uint8_t low, high;
		unsigned follow;

		if (s.data[i] < 0x80) {
			if (!s.data[i++])
				return false;
			continue;
		}
		follow = utf8_follow(s.data[i], &low, &high);
		if (!follow || follow >= s.len - i)
			return false;
		if (s.data[i + 1] < low || s.data[i + 1] > high)
			return false;
		for (unsigned k = 2; k <= follow; k++) {
			if ((s.data[i + k] & 0xc0) != 0x80)
				return false;
		}
		i += follow + 1;
	}
	return true;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type,
						  uint32_t number)
{
	for (unsigned i = 0; i < type->n_fields; i++) {
		if (type->fields[i].id == number)
			return &type->fields[i];
	}
	return NULL;
}

static ProtobufCWireType native_wire_type(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return PROTOBUF_C_WIRE_TYPE_32BIT;
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return PROTOBUF_C_WIRE_TYPE_64BIT;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
	default:
		return PROTOBUF_C_WIRE_TYPE_VARINT;
	}
}

/* A value of fixed form; groups and the reserved wire types are refused. */
static int skip_scalar(struct cursor *c, unsigned wire_type)
{
	uint64_t ignored;

	switch (wire_type) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		return read_varint(c, VARINT_MAX_BYTES, &ignored);
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		return skip_bytes(c, 4);
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		return skip_bytes(c, 8);
	default:
		return BM_EPROTO;
	}
}

/* Every element is counted: one byte of a packed varint becomes up to eight. */
static int scan_packed(struct cursor *c, struct bytes data, unsigned wire_type)
{
	struct cursor inner = {data.data, data.data + data.len, c->fields_left};

	while (inner.p < inner.end) {
		int error = take_field(&inner);

		if (!error)
			error = skip_scalar(&inner, wire_type);
		if (error)
			return error;
	}
	return 0;
}

static int scan_message(const ProtobufCMessageDescriptor *type, struct cursor *c, unsigned depth);

static int scan_length_prefixed(const ProtobufCFieldDescriptor *field, struct cursor *c,
				unsigned depth)
{
	struct cursor inner = {.fields_left = c->fields_left};
	struct bytes data;

	if (read_length_prefixed(c, &data))
		return BM_EPROTO;
	if (!field || field->type == PROTOBUF_C_TYPE_BYTES)
		return 0;
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return text_valid(data) ? 0 : BM_EPROTO;
	case PROTOBUF_C_TYPE_MESSAGE:
		inner.p = data.data;
		inner.end = data.data + data.len;
		return scan_message(field->descriptor, &inner, depth + 1);
	default:
		if (field->label != PROTOBUF_C_LABEL_REPEATED)
			return BM_EPROTO;
		return scan_packed(c, data, native_wire_type(field->type));
	}
}

static int scan_field(const ProtobufCMessageDescriptor *type, struct cursor *c, unsigned depth)
{
	const ProtobufCFieldDescriptor *field;
	uint64_t tag;
	unsigned wire_type;
	int error = take_field(c);

	if (error)
		return error;
	if (read_varint(c, TAG_MAX_BYTES, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
		return BM_EPROTO;
	wire_type = tag & 7;
	field = find_field(type, (uint32_t)(tag >> 3));
	if (wire_type == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
		return scan_length_prefixed(field, c, depth);
	if (field && wire_type != native_wire_type(field->type))
		return BM_EPROTO;
	return skip_scalar(c, wire_type);
}

static int scan_message(const ProtobufCMessageDescriptor *type, struct cursor *c, unsigned depth)
{
	if (depth > WIRE_MAX_DEPTH)
		return BM_EPROTO;
	while (c->p < c->end) {
		int error = scan_field(type, c, depth);

		if (error)
			return error;
	}
	return 0;
}

int wire_scan(const ProtobufCMessageDescriptor *type, struct bytes data)
{
	unsigned fields = WIRE_MAX_FIELDS;
	struct cursor c = {data.data, data.data, &fields};

	if (data.len)
		c.end += data.len;
	return scan_message(type, &c, 1);
}
