#include <stdio.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "cli.h"

json_t *text_json(const char *text)
{
	json_t *value = json_string(text);
	char ascii[1024];
	size_t n = 0;

	if (value)
		return value;
	for (; text[n] && n + 1 < sizeof(ascii); n++)
		ascii[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
	ascii[n] = '\0';
	return json_string(ascii);
}

/* A hash, a pseudonym or a signature is no longer; a template or a picture always is. */
#define HEX_MAX 64

/* Of templates and pictures only the length is told. */
static json_t *bytes_json(const ProtobufCBinaryData *data)
{
	char hex[2 * HEX_MAX + 1];

	if (data->len > HEX_MAX)
		return json_pack("{s:I}", "bytes", (json_int_t)data->len);
	bytes_to_hex(data->data, data->len, hex);
	return json_string(hex);
}

static json_t *enum_json(const ProtobufCEnumDescriptor *type, int value)
{
	const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);

	return known ? json_string(known->name) : json_integer(value);
}

static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *value)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT32:
		return json_integer(*(const uint32_t *)value);
	case PROTOBUF_C_TYPE_UINT64:
		return json_integer((json_int_t) * (const uint64_t *)value);
	case PROTOBUF_C_TYPE_INT32:
		return json_integer(*(const int32_t *)value);
	case PROTOBUF_C_TYPE_INT64:
		return json_integer(*(const int64_t *)value);
	case PROTOBUF_C_TYPE_FLOAT:
		return json_real((double)*(const float *)value);
	case PROTOBUF_C_TYPE_DOUBLE:
		return json_real(*(const double *)value);
	case PROTOBUF_C_TYPE_BOOL:
		return json_boolean(*(const protobuf_c_boolean *)value);
	case PROTOBUF_C_TYPE_ENUM:
		return enum_json(field->descriptor, *(const int *)value);
	case PROTOBUF_C_TYPE_STRING:
		return json_string(*(const char *const *)value);
	case PROTOBUF_C_TYPE_BYTES:
		return bytes_json(value);
	case PROTOBUF_C_TYPE_MESSAGE:
		return message_json(*(const ProtobufCMessage *const *)value);
	default: /* the contract uses no other type */
		return json_null();
	}
}

static json_t *repeated_json(const ProtobufCFieldDescriptor *field, const uint8_t *base)
{
	size_t n = *(const size_t *)(const void *)(base + field->quantifier_offset);
	const uint8_t *items = *(const uint8_t *const *)(const void *)(base + field->offset);
	/* Every repeated field of the contract holds bytes, or strings or messages: pointers. */
	size_t size =
		field->type == PROTOBUF_C_TYPE_BYTES ? sizeof(ProtobufCBinaryData) : sizeof(void *);
	json_t *array = json_array();

	for (size_t i = 0; array && i < n; i++) {
		if (json_array_append_new(array, value_json(field, items + i * size))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* A submessage that is unset and a oneof that is another are left out. */
static bool field_set(const ProtobufCFieldDescriptor *field, const uint8_t *base)
{
	if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
	    *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id)
		return false;
	return field->type != PROTOBUF_C_TYPE_MESSAGE ||
	       field->label == PROTOBUF_C_LABEL_REPEATED ||
	       *(const void *const *)(const void *)(base + field->offset);
}

json_t *message_json(const ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;
	const uint8_t *base = (const uint8_t *)message;
	json_t *object;

	if (type == &google__protobuf__timestamp__descriptor) {
		char text[32];

		time_format((const Google__Protobuf__Timestamp *)message, text);
		return json_string(text);
	}
	object = json_object();
	for (unsigned i = 0; object && i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];
		json_t *value;

		if (!field_set(field, base))
			continue;
		value = field->label == PROTOBUF_C_LABEL_REPEATED
				? repeated_json(field, base)
				: value_json(field, base + field->offset);
		if (json_object_set_new(object, field->name, value)) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

int print_json(const ProtobufCMessage *message)
{
	json_t *root = message_json(message);
	int result = root ? json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : -1;

	putchar('\n');
	json_decref(root);
	return result ? EXIT_LOCAL : EXIT_DONE;
}
