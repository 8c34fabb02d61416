#include "call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"
#include "biomatch/parse.h"
#include "biomatch/wire.h"

int call_init(struct call *call, const ProtobufCMessage *request)
{
	int error;

	*call = (struct call){.http_status = -1, .grpc_status = -1};
	error = wire_pack(request, &call->request, &call->request_len);
	if (!error)
		bytes_put_be32(call->prefix + 1, (uint32_t)call->request_len);
	return error;
}

void call_deinit(struct call *call)
{
	if (call->request)
		bytes_wipe(call->request, call->request_len);
	free(call->request);
	if (call->reply)
		bytes_wipe(call->reply, call->reply_got);
	free(call->reply);
}

static ssize_t read_request(nghttp2_session *session, int32_t stream, uint8_t *out, size_t room,
			    uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, stream);
	size_t n, total;

	(void)source;
	(void)user;
	if (!call)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	total = GRPC_PREFIX + call->request_len;
	if (call->sent < GRPC_PREFIX) {
		n = GRPC_PREFIX - call->sent;
		n = n < room ? n : room;
		memcpy(out, call->prefix + call->sent, n);
	} else {
		n = total - call->sent;
		n = n < room ? n : room;
		memcpy(out, call->request + call->sent - GRPC_PREFIX, n);
	}
	call->sent += n;
	if (call->sent == total)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

/* A header value that must be a small number; -1 where it is none. */
static int header_number(const uint8_t *value, size_t len)
{
	char text[8];
	uint64_t number;

	if (len >= sizeof(text))
		return -1;
	memcpy(text, value, len);
	text[len] = '\0';
	return parse_uint(text, 0, 999, &number) ? -1 : (int)number;
}

/* Keeps a value that fits; one that does not is left out whole. */
static void header_text(char *out, size_t room, const uint8_t *value, size_t len)
{
	if (len >= room)
		return;
	memcpy(out, value, len);
	out[len] = '\0';
}

static bool named(const char *want, const uint8_t *name, size_t len)
{
	return strlen(want) == len && !memcmp(want, name, len);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *user)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void)flags;
	(void)user;
	if (!call)
		return 0;
	if (named(":status", name, name_len))
		call->http_status = header_number(value, len);
	else if (named("grpc-status", name, name_len))
		call->grpc_status = header_number(value, len);
	else if (named("grpc-message", name, name_len))
		header_text(call->message, sizeof(call->message), value, len);
	else if (named("grpc-status-details-bin", name, name_len))
		header_text(call->details, sizeof(call->details), value, len);
	return 0;
}

/* The prefix is whole: takes its length if it may be taken. */
static void begin_reply(struct call *call)
{
	call->reply_len = bytes_get_be32(call->reply_prefix + 1);
	if (call->reply_prefix[0])
		call->error = BM_EPROTO;
	else if (call->reply_len > CALL_MAX_REPLY)
		call->error = BM_ETOOBIG;
	else if (!(call->reply = malloc(call->reply_len + 1)))
		call->error = BM_ENOMEM;
}

/* A stream's message is whole: the next may come. */
static void hand_message(struct call *call)
{
	call->error = call->take(call->take_ctx, (struct bytes){call->reply, call->reply_len});
	bytes_wipe(call->reply, call->reply_len);
	free(call->reply);
	call->reply = NULL;
	call->prefix_got = call->reply_got = call->reply_len = 0;
	call->stirred = true;
}

/* Takes some bytes of the prefix, or of the message behind it. */
static void take_bytes(struct call *call, const uint8_t **data, size_t *len)
{
	size_t n;

	if (call->prefix_got < GRPC_PREFIX) {
		call->reply_prefix[call->prefix_got++] = *(*data)++;
		--*len;
		if (call->prefix_got < GRPC_PREFIX)
			return;
		begin_reply(call);
	} else {
		n = call->reply_len - call->reply_got;
		/* A second message in the answer to a unary call. */
		if (!n)
			call->error = BM_EPROTO;
		n = n < *len ? n : *len;
		memcpy(call->reply + call->reply_got, *data, n);
		call->reply_got += n;
		*data += n;
		*len -= n;
	}
	if (call->take && !call->error && call->reply_got == call->reply_len)
		hand_message(call);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t len, void *user)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, stream);

	(void)flags;
	(void)user;
	if (!call)
		return 0;
	while (len && !call->error)
		take_bytes(call, &data, &len);
	call->stirred |= call->error != 0;
	return 0;
}

/* The service may end its side while the request is still being sent. */
static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void)user;
	if (!call)
		return 0;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	call->answered = true;
	call->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	call->stirred |= call->ended;
	return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *user)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, stream);

	(void)user;
	if (!call)
		return 0;
	call->ended = call->stirred = true;
	call->reset = code;
	call->stream = 0;
	return 0;
}

nghttp2_session_callbacks *call_callbacks_new(void)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks))
		return NULL;
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	return callbacks;
}

/* At most eight digits and a unit, rounded down so that the service gives up first. */
static void format_timeout(int64_t deadline_ns, char out[16])
{
	int64_t ms = (deadline_ns - clock_monotonic_ns()) / CLOCK_NS_PER_MS;

	if (ms < 1)
		ms = 1;
	if (ms < 100000000)
		snprintf(out, 16, "%" PRId64 "m", ms);
	else
		snprintf(out, 16, "%" PRId64 "S", ms / 1000);
}

#define HEADER(name, value)                                                                        \
	{                                                                                          \
		(uint8_t *)(name), (uint8_t *)(value), strlen(name), strlen(value),                \
			NGHTTP2_NV_FLAG_NONE                                                       \
	}

static int submit(struct call *call, struct connection *c, const struct target *target,
		  const char *path, int64_t deadline_ns, struct fault *fault)
{
	nghttp2_data_provider body = {.read_callback = read_request};
	char timeout[16];

	format_timeout(deadline_ns, timeout);
	/* The last one is left out where there is no deadline. */
	const nghttp2_nv headers[] = {
		HEADER(":method", "POST"),
		HEADER(":scheme", "https"),
		HEADER(":path", path),
		HEADER(":authority", target->authority),
		HEADER("te", "trailers"),
		HEADER("content-type", "application/grpc"),
		HEADER("user-agent", "biomatch/" BIOMATCH_VERSION),
		HEADER("grpc-timeout", timeout),
	};

	call->stream = nghttp2_submit_request(
		c->session, NULL, headers,
		sizeof(headers) / sizeof(headers[0]) - (deadline_ns == CLOCK_FOREVER), &body, call);
	if (call->stream < 0)
		return fault_set(fault, BM_EPROTO, "cannot send: %s",
				 nghttp2_strerror(call->stream));
	return 0;
}

int call_run_stream(struct call *call, struct connection *c, const struct target *target,
		    const char *path, uint32_t idle_ms, struct fault *fault)
{
	int error = submit(call, c, target, path, CLOCK_FOREVER, fault);

	while (!error && !call->error && !call->ended) {
		call->stirred = false;
		error = connection_run(c, &call->stirred,
				       clock_monotonic_ns() + idle_ms * CLOCK_NS_PER_MS, fault);
	}
	return error;
}

int call_run(struct call *call, struct connection *c, const struct target *target, const char *path,
	     int64_t deadline_ns, struct fault *fault)
{
	int error = submit(call, c, target, path, deadline_ns, fault);

	if (!error)
		error = connection_run(c, &call->ended, deadline_ns, fault);
	if (error)
		return error;
	/* Answered before the request was sent whole: the rest is not wanted. */
	if (call->stream > 0) {
		nghttp2_session_set_stream_user_data(c->session, call->stream, NULL);
		if (nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, call->stream,
					      NGHTTP2_CANCEL))
			return fault_set(fault, BM_ENOMEM, "out of memory");
	}
	return 0;
}
