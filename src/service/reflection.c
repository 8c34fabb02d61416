#include "reflection.h"

#include <google/protobuf/descriptor.pb-c.h>
#include <stdio.h>
#include <stdlib.h>

#include "grpc/reflection/v1/reflection.pb-c.h"

typedef Google__Protobuf__FileDescriptorProto file;
typedef Google__Protobuf__DescriptorProto message;
typedef Grpc__Reflection__V1__ServerReflectionRequest question;
typedef Grpc__Reflection__V1__ServerReflectionResponse answer;

struct reflection {
	Google__Protobuf__FileDescriptorSet *set;
};

int reflection_open(struct reflection **out)
{
	struct bytes packed = wire_descriptor_set();
	struct reflection *reflection = malloc(sizeof(*reflection));

	if (!reflection)
		return BM_ENOMEM;
	/* Our own bytes, linked into the program: no scan. */
	reflection->set =
		google__protobuf__file_descriptor_set__unpack(NULL, packed.len, packed.data);
	if (!reflection->set) {
		free(reflection);
		return BM_EINTERNAL;
	}
	*out = reflection;
	return 0;
}

void reflection_close(struct reflection *reflection)
{
	if (!reflection)
		return;
	google__protobuf__file_descriptor_set__free_unpacked(reflection->set, NULL);
	free(reflection);
}

/*
 * Whether symbol is name, or, with *rest set, lies below it: "a.b.c" is below
 * "a.b" with the rest "c".
 */
static bool at_or_below(const char *symbol, const char *name, const char **rest)
{
	size_t len = name ? strlen(name) : 0;

	*rest = symbol;
	if (!len)
		return true;
	if (strncmp(symbol, name, len) || (symbol[len] && symbol[len] != '.'))
		return false;
	*rest = symbol[len] ? symbol + len + 1 : NULL;
	return true;
}

static bool in_enums(Google__Protobuf__EnumDescriptorProto **enums, size_t n, const char *symbol)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(enums[i]->name, symbol))
			return true;
	}
	return false;
}

static bool in_message(const message *m, const char *symbol)
{
	const char *rest;

	if (!at_or_below(symbol, m->name, &rest))
		return false;
	if (!rest)
		return true;
	for (size_t i = 0; i < m->n_field; i++) {
		if (!strcmp(m->field[i]->name, rest))
			return true;
	}
	for (size_t i = 0; i < m->n_nested_type; i++) {
		if (in_message(m->nested_type[i], rest))
			return true;
	}
	return in_enums(m->enum_type, m->n_enum_type, rest);
}

static bool in_service(const Google__Protobuf__ServiceDescriptorProto *s, const char *symbol)
{
	const char *rest;

	if (!at_or_below(symbol, s->name, &rest))
		return false;
	if (!rest)
		return true;
	for (size_t i = 0; i < s->n_method; i++) {
		if (!strcmp(s->method[i]->name, rest))
			return true;
	}
	return false;
}

static bool in_file(const file *f, const char *symbol)
{
	const char *rest;

	if (!at_or_below(symbol, f->package, &rest) || !rest)
		return false;
	for (size_t i = 0; i < f->n_message_type; i++) {
		if (in_message(f->message_type[i], rest))
			return true;
	}
	for (size_t i = 0; i < f->n_service; i++) {
		if (in_service(f->service[i], rest))
			return true;
	}
	return in_enums(f->enum_type, f->n_enum_type, rest);
}

static const file *find_file(const struct reflection *reflection, const question *asked)
{
	for (size_t i = 0; i < reflection->set->n_file; i++) {
		const file *f = reflection->set->file[i];

		if (asked->message_request_case ==
				    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME
			    ? !strcmp(f->name, asked->file_by_filename)
			    : in_file(f, asked->file_containing_symbol))
			return f;
	}
	return NULL;
}

static int answer_error(struct service_call *call, answer *out, enum grpc_status code,
			const char *text)
{
	Grpc__Reflection__V1__ErrorResponse *error =
		call_message(call, &grpc__reflection__v1__error_response__descriptor);

	if (!error)
		return BM_ENOMEM;
	error->error_code = (int32_t)code;
	error->error_message = (char *)(uintptr_t)text;
	out->error_response = error;
	out->message_response_case =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
	return 0;
}

static int answer_file(struct service_call *call, const question *asked, answer *out)
{
	const file *f = find_file(call->service->reflection, asked);
	Grpc__Reflection__V1__FileDescriptorResponse *files =
		call_message(call, &grpc__reflection__v1__file_descriptor_response__descriptor);
	ProtobufCBinaryData *packed = call_alloc(call, sizeof(*packed));

	if (!f)
		return answer_error(call, out, GRPC_NOT_FOUND, "no such file or symbol");
	if (!files || !packed)
		return BM_ENOMEM;
	packed->len = protobuf_c_message_get_packed_size(&f->base);
	packed->data = call_alloc(call, packed->len);
	if (!packed->data)
		return BM_ENOMEM;
	protobuf_c_message_pack(&f->base, packed->data);
	files->file_descriptor_proto = packed;
	files->n_file_descriptor_proto = 1;
	out->file_descriptor_response = files;
	out->message_response_case =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
	return 0;
}

static int add_service(struct service_call *call, const file *f, const char *name,
		       Grpc__Reflection__V1__ServiceResponse **out)
{
	size_t len = strlen(f->package) + strlen(name) + 2;

	*out = call_message(call, &grpc__reflection__v1__service_response__descriptor);
	if (!*out)
		return BM_ENOMEM;
	(*out)->name = call_alloc(call, len);
	if (!(*out)->name)
		return BM_ENOMEM;
	snprintf((*out)->name, len, "%s.%s", f->package, name);
	return 0;
}

static int answer_list(struct service_call *call, answer *out)
{
	const Google__Protobuf__FileDescriptorSet *set = call->service->reflection->set;
	Grpc__Reflection__V1__ListServiceResponse *list =
		call_message(call, &grpc__reflection__v1__list_service_response__descriptor);
	size_t n = 0;

	for (size_t i = 0; i < set->n_file; i++)
		n += set->file[i]->n_service;
	if (list)
		list->service = call_alloc(call, (n + 1) * sizeof(*list->service));
	if (!list || !list->service)
		return BM_ENOMEM;
	for (size_t i = 0; i < set->n_file; i++) {
		const file *f = set->file[i];

		for (size_t j = 0; j < f->n_service; j++) {
			if (add_service(call, f, f->service[j]->name,
					&list->service[list->n_service]))
				return BM_ENOMEM;
			list->n_service++;
		}
	}
	out->list_services_response = list;
	out->message_response_case =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
	return 0;
}

static int answer_question(struct service_call *call, question *asked, answer *out)
{
	out->valid_host = asked->host;
	out->original_request = asked;
	switch (asked->message_request_case) {
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
		return answer_file(call, asked, out);
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
		return answer_list(call, out);
	default:
		return answer_error(call, out, GRPC_NOT_FOUND, "the protos have no extensions");
	}
}

static int ask(struct service_call *call)
{
	answer *out =
		call_message(call, &grpc__reflection__v1__server_reflection_response__descriptor);
	int error;

	if (!out)
		return BM_ENOMEM;
	error = answer_question(call, (void *)call->request, out);
	if (!error)
		call_send(call, &out->base);
	/* Each question starts afresh, so that a long stream costs no memory. */
	call->request = NULL;
	arena_reset(&call->arena);
	return error;
}

const struct rpc reflection_rpc = {
	.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	.request = &grpc__reflection__v1__server_reflection_request__descriptor,
	.message = ask,
	.is_reflection = true,
};

/* The two versions differ in nothing but the package's name. */
const struct rpc reflection_alpha_rpc = {
	.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
	.request = &grpc__reflection__v1__server_reflection_request__descriptor,
	.message = ask,
	.is_reflection = true,
};
