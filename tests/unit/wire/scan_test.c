/* Hostile bytes: every one must be told apart from a message, and cost nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "biomatch/v1/enrolment_service.pb-c.h"
#include "biomatch/v1/matching_service.pb-c.h"
#include "biomatch/wire.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/rpc/error_details.pb-c.h"

#define ARENA_LIMIT ((size_t)16 << 20)

#define VERIFY   (&biomatch__v1__verify_request__descriptor)
#define IDENTIFY (&biomatch__v1__identify_request__descriptor)
#define FACE     (&biomatch__v1__face__descriptor)
#define REPORT   (&biomatch__v1__probe_report__descriptor)

/* Asserts that the scan and the unpack agree on data, and gives the result. */
static int try_bytes(const ProtobufCMessageDescriptor *type, const void *data, size_t len)
{
	/* A copy of the exact size, so that the sanitizer sees a read past the end. */
	uint8_t *copy = malloc(len ? len : 1);
	ProtobufCMessage *message = NULL;
	struct bytes bytes = {copy, len};
	struct arena arena;
	int scanned, unpacked;

	assert_non_null(copy);
	if (len)
		memcpy(copy, data, len);
	arena_init(&arena, ARENA_LIMIT);
	scanned = wire_scan(type, bytes);
	unpacked = wire_unpack(type, &arena, bytes, &message);
	assert_int_equal(scanned, unpacked);
	if (!unpacked)
		assert_ptr_equal(message->descriptor, type);
	arena_deinit(&arena);
	free(copy);
	return unpacked;
}

#define CASE(type, code, text)                                                                     \
	{                                                                                          \
#type " " #code, type, text, sizeof(text) - 1, code                                \
	}

static const struct {
	const char *name;
	const ProtobufCMessageDescriptor *type;
	const char *data;
	size_t len;
	int code;
} table[] = {
	CASE(VERIFY, 0, ""),
	CASE(VERIFY, 0,
	     "\x0a\x03"
	     "abc"),
	CASE(VERIFY, 0, "\x0a\x00"),
	/* two, three and four bytes, and the ends of their ranges */
	CASE(VERIFY, 0, "\x0a\x02\xc2\x80"),
	CASE(VERIFY, 0, "\x0a\x02\xdf\xbf"),
	CASE(VERIFY, 0, "\x0a\x03\xe0\xa0\x80"),
	CASE(VERIFY, 0, "\x0a\x03\xed\x9f\xbf"),
	CASE(VERIFY, 0, "\x0a\x03\xee\x80\x80"),
	CASE(VERIFY, 0, "\x0a\x03\xef\xbf\xbf"),
	CASE(VERIFY, 0, "\x0a\x04\xf0\x90\x80\x80"),
	CASE(VERIFY, 0, "\x0a\x04\xf4\x8f\xbf\xbf"),
	/* text that is not UTF-8: stray follow byte, overlong, surrogate, too high, cut off */
	CASE(VERIFY, BM_EPROTO, "\x0a\x01\x80"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x02\xc0\xaf"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x02\xc1\xbf"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x03\xe0\x9f\xbf"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x03\xed\xa0\x80"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x03\xed\xbf\xbf"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x04\xf0\x8f\xbf\xbf"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x04\xf4\x90\x80\x80"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x04\xf5\x80\x80\x80"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x01\xff"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x01\xc2"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x02\xe2\x82"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x03\xf0\x9f\x98"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x03\xf0\x9f\x41"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x03\xe2\x41\x82"),
	/* a NUL would end the string in C */
	CASE(VERIFY, BM_EPROTO,
	     "\x0a\x03"
	     "a\0b"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x01\0"),
	/* the same in a string two levels down; bytes may hold anything */
	CASE(VERIFY, BM_EPROTO, "\x22\x05\x22\x03\x0a\x01\xff"),
	CASE(VERIFY, 0, "\x22\x05\x22\x03\x12\x01\xff"),
	/* lengths past the end, past 32 bits, and none at all */
	CASE(VERIFY, BM_EPROTO,
	     "\x0a\x04"
	     "abc"),
	CASE(VERIFY, BM_EPROTO, "\x0a\xff\xff\xff\xff\x0f"),
	CASE(VERIFY, BM_EPROTO, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	CASE(VERIFY, BM_EPROTO, "\x0a"),
	CASE(VERIFY, BM_EPROTO, "\x0a\x80"),
	CASE(VERIFY, BM_EPROTO, "\x22\x02\x0a\x05"),
	/* tags: field 0, over 32 bits, never ending */
	CASE(VERIFY, BM_EPROTO, "\x02\x00"),
	CASE(VERIFY, BM_EPROTO, "\x80\x80\x80\x80\x10\x00"),
	CASE(VERIFY, BM_EPROTO, "\xff\xff\xff\xff\xff\xff\xff\xff"),
	CASE(VERIFY, BM_EPROTO, "\x8a\x80\x80\x80\x80\x00\x00"),
	/* groups and the two wire types that do not exist, known field or not */
	CASE(VERIFY, BM_EPROTO, "\x0b\x0c"),
	CASE(VERIFY, BM_EPROTO, "\x0c"),
	CASE(VERIFY, BM_EPROTO, "\xfb\x01\xfc\x01"),
	CASE(VERIFY, BM_EPROTO, "\x0e\x00"),
	CASE(VERIFY, BM_EPROTO, "\x0f\x00"),
	/* a known field with another wire type */
	CASE(VERIFY, BM_EPROTO, "\x08\x01"),
	CASE(VERIFY, BM_EPROTO, "\x0d\x01\x02\x03\x04"),
	CASE(VERIFY, BM_EPROTO, "\x09\x01\x02\x03\x04\x05\x06\x07\x08"),
	CASE(IDENTIFY, BM_EPROTO, "\x22\x01\x05"),
	CASE(FACE, BM_EPROTO, "\x10\x01"),
	CASE(FACE, BM_EPROTO, "\x12\x04\x00\x00\x00\x00"),
	/* unknown fields are skipped, whole */
	CASE(VERIFY, 0, "\xf8\x01\x96\x01"),
	CASE(VERIFY, 0, "\xf9\x01\x01\x02\x03\x04\x05\x06\x07\x08"),
	CASE(VERIFY, 0, "\xfa\x01\x02\xff\xff"),
	CASE(VERIFY, 0, "\xfd\x01\x01\x02\x03\x04"),
	CASE(VERIFY, BM_EPROTO, "\xf8\x01\x96"),
	CASE(VERIFY, BM_EPROTO, "\xf9\x01\x01\x02\x03\x04\x05\x06\x07"),
	CASE(VERIFY, BM_EPROTO, "\xfd\x01\x01\x02\x03"),
	/* numbers: ten bytes are a varint, eleven are not; fixed ones must be there */
	CASE(IDENTIFY, 0, "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	CASE(IDENTIFY, BM_EPROTO, "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	CASE(FACE, 0, "\x15\x00\x00\x80\x3f"),
	CASE(FACE, BM_EPROTO, "\x15\x00\x00\x80"),
	/* a field given twice, a oneof given as both of its kinds */
	CASE(VERIFY, 0,
	     "\x0a\x01"
	     "a\x0a\x01"
	     "b"),
	CASE(VERIFY, 0, "\x22\x02\x0a\x00\x22\x02\x22\x00"),
	CASE(VERIFY, 0,
	     "\x22\x0a\x0a\x03\x0a\x01"
	     "a\x22\x03\x12\x01"
	     "b"),
};

static void refuses_what_is_malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int code = try_bytes(table[i].type, table[i].data, table[i].len);

		if (code != table[i].code)
			fail_msg("row %zu (%s): %d", i, table[i].name, code);
	}
}

static void takes_an_empty_message_without_data(void **state)
{
	(void)state;
	assert_int_equal(wire_scan(VERIFY, (struct bytes){NULL, 0}), 0);
}

/* depth submessages of a type that is not recursive end as unknown fields; this one is. */
static const ProtobufCFieldDescriptor recursive_field;
static const unsigned recursive_name[] = {0};
static const ProtobufCIntRange recursive_range[] = {{1, 0}, {0, 1}};

struct recursive {
	ProtobufCMessage base;
	struct recursive *inner;
};

static const ProtobufCMessageDescriptor recursive_type = {
	.magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
	.name = "recursive",
	.sizeof_message = sizeof(struct recursive),
	.n_fields = 1,
	.fields = &recursive_field,
	.fields_sorted_by_name = recursive_name,
	.n_field_ranges = 1,
	.field_ranges = recursive_range,
};

static const ProtobufCFieldDescriptor recursive_field = {
	.name = "inner",
	.id = 1,
	.label = PROTOBUF_C_LABEL_NONE,
	.type = PROTOBUF_C_TYPE_MESSAGE,
	.offset = offsetof(struct recursive, inner),
	.descriptor = &recursive_type,
};

/* Writes levels nested messages, the outermost first; gives their length. */
static uint8_t *nested(unsigned levels, size_t *len)
{
	size_t room = (size_t)levels * 6;
	uint8_t *data = malloc(room + 1), *p = data + room;

	assert_non_null(data);
	for (unsigned i = 1; i < levels; i++) {
		size_t inner = (size_t)(data + room - p), value = inner;
		uint8_t varint[5];
		size_t n = 0;

		do {
			varint[n++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
			value >>= 7;
		} while (value);
		p -= n;
		memcpy(p, varint, n);
		*--p = 0x0a;
	}
	*len = (size_t)(data + room - p);
	memmove(data, p, *len);
	return data;
}

static void limits_the_depth(void **state)
{
	static const struct {
		unsigned levels;
		int code;
	} cases[] = {
		{1, 0}, {WIRE_MAX_DEPTH, 0}, {WIRE_MAX_DEPTH + 1, BM_EPROTO}, {10000, BM_EPROTO}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len;
		uint8_t *data = nested(cases[i].levels, &len);

		assert_int_equal(try_bytes(&recursive_type, data, len), cases[i].code);
		free(data);
	}
}

/* n times the two bytes of an empty face. */
static uint8_t *empty_faces(size_t n)
{
	uint8_t *data = malloc(2 * n);

	assert_non_null(data);
	for (size_t i = 0; i < n; i++)
		memcpy(data + 2 * i, "\x1a", 2);
	return data;
}

static void limits_the_elements(void **state)
{
	size_t many = (size_t)2 << 20;
	uint8_t *data = empty_faces(many);

	(void)state;
	assert_int_equal(try_bytes(REPORT, data, 2 * many), BM_ETOOBIG);
	assert_int_equal(try_bytes(REPORT, data, (size_t)2 * WIRE_MAX_FIELDS + 2), BM_ETOOBIG);
	assert_int_equal(try_bytes(REPORT, data, (size_t)2 * WIRE_MAX_FIELDS), 0);
	free(data);
}

static void counts_unknown_fields(void **state)
{
	size_t n = WIRE_MAX_FIELDS + 1;
	uint8_t *data = malloc(2 * n);

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < n; i++)
		memcpy(data + 2 * i, "\x78\x01", 2);
	assert_int_equal(try_bytes(VERIFY, data, 2 * n), BM_ETOOBIG);
	assert_int_equal(try_bytes(VERIFY, data, 2 * n - 2), 0);
	free(data);
}

struct packed {
	ProtobufCMessage base;
	size_t n_values, n_fixed;
	uint32_t *values;
	double *fixed;
};

static const ProtobufCFieldDescriptor packed_fields[] = {
	{.name = "values",
	 .id = 1,
	 .label = PROTOBUF_C_LABEL_REPEATED,
	 .type = PROTOBUF_C_TYPE_UINT32,
	 .quantifier_offset = offsetof(struct packed, n_values),
	 .offset = offsetof(struct packed, values),
	 .flags = PROTOBUF_C_FIELD_FLAG_PACKED},
	{.name = "fixed",
	 .id = 2,
	 .label = PROTOBUF_C_LABEL_REPEATED,
	 .type = PROTOBUF_C_TYPE_DOUBLE,
	 .quantifier_offset = offsetof(struct packed, n_fixed),
	 .offset = offsetof(struct packed, fixed),
	 .flags = PROTOBUF_C_FIELD_FLAG_PACKED},
};
static const unsigned packed_names[] = {1, 0};
static const ProtobufCIntRange packed_range[] = {{1, 0}, {0, 2}};
static const ProtobufCMessageDescriptor packed_type = {
	.magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
	.name = "packed",
	.sizeof_message = sizeof(struct packed),
	.n_fields = 2,
	.fields = packed_fields,
	.fields_sorted_by_name = packed_names,
	.n_field_ranges = 1,
	.field_ranges = packed_range,
};

static void walks_packed_numbers(void **state)
{
	size_t n = WIRE_MAX_FIELDS, len = n + 4;
	uint8_t *data = calloc(1, len + 8);

	(void)state;
	assert_int_equal(try_bytes(&packed_type, "\x0a\x03\x01\x96\x01", 5), 0);
	assert_int_equal(try_bytes(&packed_type, "\x08\x01\x08\x02", 4), 0);
	assert_int_equal(try_bytes(&packed_type, "\x0a\x02\x01\x96", 4), BM_EPROTO);
	assert_int_equal(try_bytes(&packed_type,
				   "\x12\x08"
				   "12345678",
				   10),
			 0);
	assert_int_equal(try_bytes(&packed_type,
				   "\x12\x07"
				   "1234567",
				   9),
			 BM_EPROTO);
	assert_non_null(data);
	/* one field and as many elements */
	data[0] = 0x0a;
	data[1] = (uint8_t)(0x80 | (n & 0x7f));
	data[2] = (uint8_t)(0x80 | (n >> 7 & 0x7f));
	data[3] = (uint8_t)(n >> 14);
	assert_int_equal(try_bytes(&packed_type, data, len), BM_ETOOBIG);
	free(data);
}

/* A message with every kind of field the contract has. */
static uint8_t *sample(size_t *len)
{
	static uint8_t picture[] = {0xff, 0xd8, 0x00, 0xff};
	Google__Protobuf__Timestamp captured = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Biomatch__V1__Encounter encounter = BIOMATCH__V1__ENCOUNTER__INIT;
	Biomatch__V1__Image image = BIOMATCH__V1__IMAGE__INIT;
	Biomatch__V1__Probe probe = BIOMATCH__V1__PROBE__INIT;
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	uint8_t *data;

	captured.seconds = -1;
	captured.nanos = 999999999;
	encounter.encounter_id = (char *)"e-1";
	encounter.captured_at = &captured;
	image.data = (ProtobufCBinaryData){sizeof(picture), picture};
	probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	probe.image = &image;
	request.purpose = (char *)"registration";
	request.subject_id = (char *)"\xe5\xbc\xa0";
	request.encounter = &encounter;
	request.reference = &probe;
	request.refuse_duplicates = 1;
	assert_int_equal(wire_pack(&request.base, &data, len), 0);
	return data;
}

static void survives_every_truncation(void **state)
{
	const ProtobufCMessageDescriptor *type = &biomatch__v1__enrol_request__descriptor;
	size_t len, whole = 0;
	uint8_t *data = sample(&len);

	(void)state;
	assert_int_equal(try_bytes(type, data, len), 0);
	for (size_t cut = 0; cut < len; cut++)
		whole += try_bytes(type, data, cut) == 0;
	/* Only where a top-level field ends: nothing, purpose, subject, encounter, reference. */
	assert_int_equal(whole, 5);
	free(data);
}

static void survives_mutations(void **state)
{
	const ProtobufCMessageDescriptor *type = &biomatch__v1__enrol_request__descriptor;
	uint32_t seed = 2463534242;
	size_t len;
	uint8_t *data = sample(&len), mutated[256];

	(void)state;
	assert_true(len < sizeof(mutated));
	for (unsigned round = 0; round < 50000; round++) {
		memcpy(mutated, data, len);
		for (unsigned k = 0; k <= round % 4; k++) {
			seed ^= seed << 13;
			seed ^= seed >> 17;
			seed ^= seed << 5;
			mutated[seed % len] = (uint8_t)(seed >> 16);
		}
		try_bytes(type, mutated, len);
	}
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_what_is_malformed),
		cmocka_unit_test(takes_an_empty_message_without_data),
		cmocka_unit_test(limits_the_depth),
		cmocka_unit_test(limits_the_elements),
		cmocka_unit_test(counts_unknown_fields),
		cmocka_unit_test(walks_packed_numbers),
		cmocka_unit_test(survives_every_truncation),
		cmocka_unit_test(survives_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
