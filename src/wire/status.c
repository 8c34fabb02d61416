#include <stdio.h>
#include <stdlib.h>

#include "biomatch/wire.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

#define TYPE_PREFIX "type.googleapis.com/google.rpc."
/* ErrorInfo, BadRequest, RetryInfo. */
#define DETAILS_MAX 3

static char domain[] = "biomatch";

void wire_error_message(const struct wire_error *error, char out[WIRE_MESSAGE_MAX])
{
	snprintf(out, WIRE_MESSAGE_MAX, "%s%s%s", bm_error_text(error->code),
		 error->detail ? ": " : "", error->detail ? error->detail : "");
}

/* The details of a status while it is put together. */
struct details {
	Google__Protobuf__Any any[DETAILS_MAX], *list[DETAILS_MAX];
	size_t n;
};

static int add_detail(struct details *d, char *type_url, const ProtobufCMessage *message)
{
	Google__Protobuf__Any *any = &d->any[d->n];
	int error;

	google__protobuf__any__init(any);
	any->type_url = type_url;
	error = wire_pack(message, &any->value.data, &any->value.len);
	if (error)
		return error;
	d->list[d->n++] = any;
	return 0;
}

static int add_error_info(struct details *d, const struct wire_error *error)
{
	static char url[] = TYPE_PREFIX "ErrorInfo";
	Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;

	info.reason = (char *)bm_error_reason(error->code);
	info.domain = domain;
	return add_detail(d, url, &info.base);
}

static int add_bad_request(struct details *d, const struct wire_error *error, char *message)
{
	static char url[] = TYPE_PREFIX "BadRequest";
	Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
	Google__Rpc__BadRequest__FieldViolation violation =
		GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
	Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};

	violation.field = (char *)error->field;
	violation.description = message;
	bad.n_field_violations = 1;
	bad.field_violations = violations;
	return add_detail(d, url, &bad.base);
}

static int add_retry_info(struct details *d, const struct wire_error *error)
{
	static char url[] = TYPE_PREFIX "RetryInfo";
	Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;
	Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;

	delay.seconds = error->retry_ms / 1000;
	delay.nanos = (int32_t)(error->retry_ms % 1000) * 1000000;
	retry.retry_delay = &delay;
	return add_detail(d, url, &retry.base);
}

int wire_pack_error(const struct wire_error *error, uint8_t **data, size_t *len)
{
	Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
	char message[WIRE_MESSAGE_MAX];
	struct details d = {.n = 0};
	int result = add_error_info(&d, error);

	wire_error_message(error, message);
	if (!result && error->field)
		result = add_bad_request(&d, error, message);
	if (!result && error->retry_ms)
		result = add_retry_info(&d, error);
	if (result)
		goto out;
	status.code = (int32_t)bm_error_grpc(error->code);
	status.message = message;
	status.n_details = d.n;
	status.details = d.list;
	result = wire_pack(&status.base, data, len);
out:
	for (size_t i = 0; i < d.n; i++)
		free(d.any[i].value.data);
	return result;
}

static int read_error_info(struct bytes data, struct arena *arena, struct wire_told *out)
{
	ProtobufCMessage *message;
	int error = wire_unpack(&google__rpc__error_info__descriptor, arena, data, &message);

	if (!error)
		out->reason = ((Google__Rpc__ErrorInfo *)message)->reason;
	return error;
}

static int read_bad_request(struct bytes data, struct arena *arena, struct wire_told *out)
{
	const Google__Rpc__BadRequest *bad;
	ProtobufCMessage *message;
	int error = wire_unpack(&google__rpc__bad_request__descriptor, arena, data, &message);

	if (error)
		return error;
	bad = (const Google__Rpc__BadRequest *)message;
	if (bad->n_field_violations)
		out->field = bad->field_violations[0]->field;
	return 0;
}

static int read_retry_info(struct bytes data, struct arena *arena, struct wire_told *out)
{
	const Google__Protobuf__Duration *delay;
	ProtobufCMessage *message;
	int error = wire_unpack(&google__rpc__retry_info__descriptor, arena, data, &message);

	if (error)
		return error;
	delay = ((const Google__Rpc__RetryInfo *)message)->retry_delay;
	if (delay && delay->seconds >= 0 && delay->seconds <= WIRE_RETRY_MAX_S &&
	    delay->nanos >= 0 && delay->nanos < 1000000000)
		out->retry_ms = (uint32_t)delay->seconds * 1000 + (uint32_t)delay->nanos / 1000000;
	return 0;
}

/* Details of types not listed are skipped, as a client must. */
static const struct {
	const char *type_url;
	int (*read)(struct bytes data, struct arena *arena, struct wire_told *out);
} readers[DETAILS_MAX] = {
	{TYPE_PREFIX "ErrorInfo", read_error_info},
	{TYPE_PREFIX "BadRequest", read_bad_request},
	{TYPE_PREFIX "RetryInfo", read_retry_info},
};

static int read_detail(const Google__Protobuf__Any *any, struct arena *arena, struct wire_told *out)
{
	for (size_t i = 0; i < DETAILS_MAX; i++) {
		if (!strcmp(any->type_url, readers[i].type_url))
			return readers[i].read((struct bytes){any->value.data, any->value.len},
					       arena, out);
	}
	return 0;
}

int wire_unpack_error(struct bytes data, struct arena *arena, struct wire_told *out)
{
	const Google__Rpc__Status *status;
	ProtobufCMessage *message;
	int error = wire_unpack(&google__rpc__status__descriptor, arena, data, &message);

	if (error)
		return error;
	status = (const Google__Rpc__Status *)message;
	*out = (struct wire_told){.message = status->message, .reason = "", .field = ""};
	for (size_t i = 0; i < status->n_details && !error; i++)
		error = read_detail(status->details[i], arena, out);
	return error;
}
