#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "biomatch/v1/matching_service.pb-c.h"
#include "biomatch/wire.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

static void packs_what_it_unpacks(void **state)
{
	static uint8_t picture[] = {0, 1, 2, 0};
	Biomatch__V1__Image image = BIOMATCH__V1__IMAGE__INIT;
	Biomatch__V1__Probe probe = BIOMATCH__V1__PROBE__INIT;
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	const Biomatch__V1__VerifyRequest *back;
	ProtobufCMessage *message;
	struct arena arena;
	uint8_t *data;
	size_t len;

	(void)state;
	image.data = (ProtobufCBinaryData){sizeof(picture), picture};
	probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	probe.image = &image;
	request.subject_id = (char *)"\xf0\x9f\x98\x80";
	request.probe = &probe;
	assert_int_equal(wire_pack(&request.base, &data, &len), 0);
	arena_init(&arena, 1 << 16);
	assert_int_equal(wire_unpack(&biomatch__v1__verify_request__descriptor, &arena,
				     (struct bytes){data, len}, &message),
			 0);
	free(data);
	back = (const Biomatch__V1__VerifyRequest *)message;
	assert_string_equal(back->subject_id, "\xf0\x9f\x98\x80");
	assert_string_equal(back->gallery, "");
	assert_int_equal(back->probe->kind_case, BIOMATCH__V1__PROBE__KIND_IMAGE);
	assert_int_equal(back->probe->image->data.len, sizeof(picture));
	assert_memory_equal(back->probe->image->data.data, picture, sizeof(picture));
	arena_deinit(&arena);
}

static void packs_an_empty_message(void **state)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	uint8_t *data;
	size_t len;

	(void)state;
	assert_int_equal(wire_pack(&request.base, &data, &len), 0);
	assert_int_equal(len, 0);
	assert_non_null(data);
	free(data);
}

/* Whatever the limit, unpacking ends in a code; here it meets each allocation in turn. */
static void ends_when_the_arena_does(void **state)
{
	static const uint8_t request[] = "\x0a\x01"
					 "a\x22\x07\x0a\x05\x0a\x03"
					 "abc\xfa\x01\x01z";
	unsigned refused = 0;

	(void)state;
	for (size_t limit = 0; limit <= 4096; limit += 64) {
		ProtobufCMessage *message;
		struct arena arena;
		int error;

		arena_init(&arena, limit);
		error = wire_unpack(&biomatch__v1__verify_request__descriptor, &arena,
				    (struct bytes){request, sizeof(request) - 1}, &message);
		if (error) {
			assert_int_equal(error, BM_ETOOBIG);
			refused++;
		}
		arena_deinit(&arena);
	}
	assert_in_range(refused, 4, 40);
}

static void tells_an_error_whole(void **state)
{
	const struct wire_error error = {.code = BM_EINVAL,
					 .field = "probe.image",
					 .detail = "it is empty",
					 .retry_ms = 1250};
	struct wire_told told;
	struct arena arena;
	char message[WIRE_MESSAGE_MAX];
	uint8_t *data;
	size_t len;

	(void)state;
	assert_int_equal(wire_pack_error(&error, &data, &len), 0);
	arena_init(&arena, 1 << 16);
	assert_int_equal(wire_unpack_error((struct bytes){data, len}, &arena, &told), 0);
	free(data);
	assert_string_equal(told.reason, "INVALID_ARGUMENT");
	assert_string_equal(told.message, "a field of the request is not valid: it is empty");
	assert_string_equal(told.field, "probe.image");
	assert_int_equal(told.retry_ms, 1250);
	wire_error_message(&error, message);
	assert_string_equal(message, told.message);
	arena_deinit(&arena);
}

static void tells_a_bare_error(void **state)
{
	const struct wire_error error = {.code = BM_ENOGALLERY};
	struct wire_told told;
	struct arena arena;
	uint8_t *data;
	size_t len;

	(void)state;
	assert_int_equal(wire_pack_error(&error, &data, &len), 0);
	arena_init(&arena, 1 << 16);
	assert_int_equal(wire_unpack_error((struct bytes){data, len}, &arena, &told), 0);
	free(data);
	assert_string_equal(told.reason, "GALLERY_UNKNOWN");
	assert_string_equal(told.message, "no gallery has this name");
	assert_string_equal(told.field, "");
	assert_int_equal(told.retry_ms, 0);
	arena_deinit(&arena);
}

/* The packed status as another implementation would read it. */
static void names_its_details(void **state)
{
	const struct wire_error error = {.code = BM_EBUSY, .retry_ms = 500};
	const Google__Rpc__ErrorInfo *info;
	const Google__Rpc__Status *status;
	ProtobufCMessage *message;
	struct arena arena;
	uint8_t *data;
	size_t len;

	(void)state;
	assert_int_equal(wire_pack_error(&error, &data, &len), 0);
	arena_init(&arena, 1 << 16);
	assert_int_equal(wire_unpack(&google__rpc__status__descriptor, &arena,
				     (struct bytes){data, len}, &message),
			 0);
	status = (const Google__Rpc__Status *)message;
	assert_int_equal(status->code, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(status->n_details, 2);
	assert_string_equal(status->details[0]->type_url,
			    "type.googleapis.com/google.rpc.ErrorInfo");
	assert_string_equal(status->details[1]->type_url,
			    "type.googleapis.com/google.rpc.RetryInfo");
	assert_int_equal(wire_unpack(&google__rpc__error_info__descriptor, &arena,
				     (struct bytes){status->details[0]->value.data,
						    status->details[0]->value.len},
				     &message),
			 0);
	info = (const Google__Rpc__ErrorInfo *)message;
	assert_string_equal(info->domain, "biomatch");
	assert_string_equal(info->reason, "OVERLOADED");
	free(data);
	arena_deinit(&arena);
}

static void skips_details_it_does_not_know(void **state)
{
	static uint8_t junk[] = {0xff, 0xff};
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT, *list[] = {&any};
	Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
	struct wire_told told;
	struct arena arena;
	uint8_t *data;
	size_t len;

	(void)state;
	any.type_url = (char *)"type.googleapis.com/google.rpc.DebugInfo";
	any.value = (ProtobufCBinaryData){sizeof(junk), junk};
	status.message = (char *)"text";
	status.n_details = 1;
	status.details = list;
	assert_int_equal(wire_pack(&status.base, &data, &len), 0);
	arena_init(&arena, 1 << 16);
	assert_int_equal(wire_unpack_error((struct bytes){data, len}, &arena, &told), 0);
	assert_string_equal(told.message, "text");
	assert_string_equal(told.reason, "");
	free(data);

	any.type_url = (char *)"type.googleapis.com/google.rpc.ErrorInfo";
	assert_int_equal(wire_pack(&status.base, &data, &len), 0);
	assert_int_equal(wire_unpack_error((struct bytes){data, len}, &arena, &told), BM_EPROTO);
	free(data);
	arena_deinit(&arena);
}

static void embeds_every_proto(void **state)
{
	static const char *const files[] = {
		"biomatch/v1/matching_service.proto", "biomatch/v1/admin_service.proto",
		"grpc/health/v1/health.proto", "google/protobuf/timestamp.proto"};
	struct bytes set = wire_descriptor_set();

	(void)state;
	assert_true(set.len > 1000);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		assert_non_null(memmem(set.data, set.len, files[i], strlen(files[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packs_what_it_unpacks),
		cmocka_unit_test(packs_an_empty_message),
		cmocka_unit_test(ends_when_the_arena_does),
		cmocka_unit_test(tells_an_error_whole),
		cmocka_unit_test(tells_a_bare_error),
		cmocka_unit_test(names_its_details),
		cmocka_unit_test(skips_details_it_does_not_know),
		cmocka_unit_test(embeds_every_proto),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
