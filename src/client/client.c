#include "biomatch/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"
#include "biomatch/wire.h"
#include "call.h"
#include "connection.h"

struct biomatch_client {
	struct target target;
	uint32_t connect_ms;
	SSL_CTX *tls;
	nghttp2_session_callbacks *callbacks;
	struct connection connection;
	struct fault fault;
};

int biomatch_client_open(const struct biomatch_options *options, struct biomatch_client **out,
			 char message[BIOMATCH_MESSAGE_MAX])
{
	struct biomatch_client *client = calloc(1, sizeof(*client));
	int error;

	if (!client) {
		snprintf(message, BIOMATCH_MESSAGE_MAX, "out of memory");
		return BM_ENOMEM;
	}
	client->connection.fd = -1;
	client->connect_ms = options->connect_ms;
	error = target_parse(options->target, options->server_name, &client->target);
	if (error)
		fault_set(&client->fault, error, "the target is not host:port: %.128s",
			  options->target);
	else
		error = tls_context_new(options, &client->fault, &client->tls);
	if (!error) {
		client->callbacks = call_callbacks_new();
		if (!client->callbacks)
			error = fault_set(&client->fault, BM_ENOMEM, "out of memory");
	}
	if (error) {
		memcpy(message, client->fault.text, BIOMATCH_MESSAGE_MAX);
		biomatch_client_close(client);
		return error;
	}
	*out = client;
	return 0;
}

void biomatch_client_close(struct biomatch_client *client)
{
	if (!client)
		return;
	connection_close(&client->connection);
	nghttp2_session_callbacks_del(client->callbacks);
	SSL_CTX_free(client->tls);
	free(client);
}

const char *biomatch_client_error(const struct biomatch_client *client)
{
	return client->fault.text;
}

static int connect_client(struct biomatch_client *client, int64_t deadline_ns)
{
	int64_t limit = clock_monotonic_ns() + client->connect_ms * CLOCK_NS_PER_MS;

	if (connection_usable(&client->connection))
		return 0;
	connection_close(&client->connection);
	return connection_open(&client->connection, client->tls, &client->target, client->callbacks,
			       limit < deadline_ns ? limit : deadline_ns, &client->fault);
}

static int attempt(struct biomatch_client *client, struct call *call, const char *path,
		   int64_t deadline_ns)
{
	int error = connect_client(client, deadline_ns);

	if (error)
		return error;
	error = call_run(call, &client->connection, &client->target, path, deadline_ns,
			 &client->fault);
	/*
	 * A late call ends its connection too: that stops the work at the other end,
	 * and the connection may be why it was late.
	 */
	if (error)
		connection_close(&client->connection);
	return error;
}

/* The status of an answer whose gRPC status is missing, by its HTTP status. */
static enum grpc_status http_to_grpc(int http)
{
	switch (http) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

/* details are a courtesy: where they cannot be read the status stands without. */
static void read_details(struct call *call, struct arena *arena, struct biomatch_status *status)
{
	struct wire_told told;
	size_t len;

	if (!call->details[0] || call_decode_base64(call->details, &len) ||
	    wire_unpack_error((struct bytes){(uint8_t *)call->details, len}, arena, &told))
		return;
	status->reason = told.reason;
	status->field = told.field;
	status->retry_ms = told.retry_ms;
}

static int read_status(struct biomatch_client *client, struct call *call, struct arena *arena,
		       struct biomatch_status *status)
{
	*status = (struct biomatch_status){.message = "", .reason = "", .field = ""};
	if (call->grpc_status < 0 && call->http_status > 0 && call->http_status != 200) {
		status->code = http_to_grpc(call->http_status);
		snprintf(call->message, sizeof(call->message), "the answer is HTTP status %d",
			 call->http_status);
	} else if (call->grpc_status < 0) {
		return fault_set(&client->fault, call->answered ? BM_EPROTO : BM_ENET,
				 "the service ended the call without a status (HTTP/2 error %u)",
				 call->reset);
	} else {
		status->code = call->grpc_status <= GRPC_UNAUTHENTICATED
				       ? (enum grpc_status)call->grpc_status
				       : GRPC_UNKNOWN;
	}
	call_decode_text(call->message);
	status->message = arena_strndup(arena, call->message, strlen(call->message));
	if (!status->message)
		return fault_set(&client->fault, BM_ENOMEM, "out of memory");
	read_details(call, arena, status);
	return 0;
}

static int read_reply(struct biomatch_client *client, const struct call *call,
		      const ProtobufCMessageDescriptor *type, struct arena *arena,
		      ProtobufCMessage **reply)
{
	int error = call->error;

	if (!error && (!call->reply || call->reply_got < call->reply_len))
		error = BM_EPROTO;
	if (!error)
		error = wire_unpack(type, arena, (struct bytes){call->reply, call->reply_len},
				    reply);
	if (error)
		return fault_set(&client->fault, error, "the reply cannot be read: %s",
				 bm_error_text(error));
	return 0;
}

int biomatch_client_call(struct biomatch_client *client, const char *path,
			 const ProtobufCMessage *request,
			 const ProtobufCMessageDescriptor *reply_type, uint32_t timeout_ms,
			 struct arena *arena, ProtobufCMessage **reply,
			 struct biomatch_status *status)
{
	int64_t deadline_ns = clock_monotonic_ns() + timeout_ms * CLOCK_NS_PER_MS;
	struct call call;
	int error = BM_OK;

	*reply = NULL;
	for (unsigned tries = 0; tries < 2; tries++) {
		error = call_init(&call, request);
		if (error) {
			fault_set(&client->fault, error, "%s", bm_error_text(error));
			goto out;
		}
		error = attempt(client, &call, path, deadline_ns);
		/* REFUSED_STREAM, also by GOAWAY: the service promises it did nothing. */
		if (error || tries || call.answered || call.reset != NGHTTP2_REFUSED_STREAM)
			break;
		call_deinit(&call);
	}
	if (!error)
		error = read_status(client, &call, arena, status);
	if (!error && status->code == GRPC_OK)
		error = read_reply(client, &call, reply_type, arena, reply);
out:
	call_deinit(&call);
	return error;
}

/* A stream's messages on their way from bytes to the caller. */
struct unpacking {
	const struct biomatch_stream *stream;
	const ProtobufCMessageDescriptor *type;
	struct arena *arena;
};

static int take_message(void *ctx, struct bytes packed)
{
	struct unpacking *u = ctx;
	ProtobufCMessage *message;
	int error;

	arena_reset(u->arena);
	error = wire_unpack(u->type, u->arena, packed, &message);
	return error ? error : u->stream->take(u->stream->ctx, message);
}

int biomatch_client_stream(struct biomatch_client *client, const char *path,
			   const ProtobufCMessage *request,
			   const ProtobufCMessageDescriptor *message_type,
			   const struct biomatch_stream *stream, struct arena *arena,
			   struct biomatch_status *status)
{
	struct unpacking unpacking = {stream, message_type, arena};
	struct call call;
	int error = call_init(&call, request);

	if (error)
		return fault_set(&client->fault, error, "the request cannot be packed");
	call.take = take_message;
	call.take_ctx = &unpacking;
	error = connect_client(client, CLOCK_FOREVER);
	if (error)
		goto out;
	client->connection.has_wake = stream->wake_fd >= 0;
	client->connection.wake_fd = stream->wake_fd;
	error = call_run_stream(&call, &client->connection, &client->target, path, stream->idle_ms,
				&client->fault);
	if (!error && call.error)
		error = fault_set(&client->fault, call.error, "the stream cannot be taken: %s",
				  bm_error_text(call.error));
	if (!error)
		error = read_status(client, &call, arena, status);
out:
	/* Nobody listens to what is left of the stream. */
	connection_close(&client->connection);
	call_deinit(&call);
	return error;
}
