#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/log.h"
#include "conn.h"

/* Of one request's headers, counted as RFC 9113 does: name, value and 32 each. */
#define MAX_HEADER_BYTES (16 * 1024)
#define MAX_HEADERS      100
#define MAX_PATH         256
/* So much more than that is no mistake but an attack on the decompression. */
#define ABUSIVE_HEADERS 4

#define CONNECTION_WINDOW (4 << 20)
#define LEAST_WINDOW      (64 << 10)
#define LARGEST_WINDOW    (1 << 20)

static struct net_call *call_of(nghttp2_session *session, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(session, stream);
}

void h2_abuse(struct conn *conn, const char *what)
{
	unsigned long unlogged;

	if (conn->closing)
		return;
	if (conn_may_log(conn, &unlogged))
		log_notice("connection_abusive", "what=%s peer=%s unlogged=%lu", what,
			   conn->peer.uri, unlogged);
	nghttp2_session_terminate_session(conn->session, NGHTTP2_ENHANCE_YOUR_CALM);
	conn->closing = true;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct conn *conn = ctx;
	struct net_call *call;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	call = call_new(conn, frame->hd.stream_id);
	if (!call)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
	return 0;
}

static bool is(const uint8_t *text, size_t len, const char *what)
{
	return len == strlen(what) && !memcmp(text, what, len);
}

static int take_header(struct net_call *call, const uint8_t *name, size_t name_len,
		       const char *value, size_t len)
{
	int64_t timeout;

	if (is(name, name_len, ":path") && len <= MAX_PATH) {
		call->path = strndup(value, len);
		return call->path ? 0 : BM_ENOMEM;
	} else if (is(name, name_len, ":method")) {
		call->is_post = is((const uint8_t *)value, len, "POST");
	} else if (is(name, name_len, "content-type")) {
		call->is_grpc = grpc_content_type(value, len);
	} else if (is(name, name_len, "grpc-encoding")) {
		call->encoded = !is((const uint8_t *)value, len, "identity");
	} else if (is(name, name_len, "grpc-timeout")) {
		int64_t now = clock_monotonic_ns();

		call->bad_timeout = grpc_timeout_parse(value, len, &timeout) != 0;
		if (!call->bad_timeout && timeout < CLOCK_FOREVER - now)
			call->deadline_ns = now + timeout;
	} else if (is(name, name_len, "traceparent") && grpc_traceparent_valid(value, len)) {
		memcpy(call->traceparent, value, len);
	}
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *ctx)
{
	struct net_call *call = call_of(session, frame->hd.stream_id);

	(void)flags;
	if (!call)
		return 0;
	call->header_bytes += name_len + len + 32;
	call->headers++;
	if (call->headers > ABUSIVE_HEADERS * MAX_HEADERS ||
	    call->header_bytes > ABUSIVE_HEADERS * MAX_HEADER_BYTES) {
		h2_abuse(ctx, "headers");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	call->too_large = call->headers > MAX_HEADERS || call->header_bytes > MAX_HEADER_BYTES;
	if (!call->too_large && frame->headers.cat == NGHTTP2_HCAT_REQUEST && name_len &&
	    take_header(call, name, name_len, (const char *)value, len))
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t len, void *ctx)
{
	struct net_call *call = call_of(session, stream);

	(void)flags;
	(void)ctx;
	/* One call that waits must not hold up the others: only its own window stays closed. */
	if (nghttp2_session_consume_connection(session, len))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (call)
		call_data(call, data, len);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct net_call *call = call_of(session, frame->hd.stream_id);

	(void)ctx;
	if (!call || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		call_begin(call);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		call_half_close(call);
	return 0;
}

/*
 * A client that still sends when its answer is complete is told to stop, after
 * the trailers: a RST_STREAM queued with them would leave first.
 */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct conn *conn = ctx;
	struct net_call *call = call_of(session, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_DATA)
		net_meter_give_sent(&conn->meter);
	if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
	    call && !call->half_closed)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
					  NGHTTP2_NO_ERROR);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *ctx)
{
	struct net_call *call = call_of(session, stream);

	(void)code;
	(void)ctx;
	if (call) {
		nghttp2_session_set_stream_user_data(session, stream, NULL);
		call_detach(call);
	}
	return 0;
}

static int set_callbacks(nghttp2_session_callbacks **out)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks))
		return BM_ENOMEM;
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	*out = callbacks;
	return 0;
}

static int set_options(nghttp2_option **out)
{
	nghttp2_option *option;

	if (nghttp2_option_new(&option))
		return BM_ENOMEM;
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_max_settings(option, 32);
	nghttp2_option_set_max_outbound_ack(option, 100);
	nghttp2_option_set_max_continuations(option, 8);
	nghttp2_option_set_stream_reset_rate_limit(option, 1000, 33);
	nghttp2_option_set_no_closed_streams(option, 1);
	*out = option;
	return 0;
}

/*
 * What a call may send before there is room for its message. All calls at once
 * fill half of what the connection may hold; messages with room share the rest.
 */
static uint32_t stream_window(const struct net_options *options)
{
	size_t window = options->max_connection_bytes / 2 / options->max_streams;

	if (window < LEAST_WINDOW)
		return LEAST_WINDOW;
	return window < LARGEST_WINDOW ? (uint32_t)window : LARGEST_WINDOW;
}

static int submit_settings(struct conn *conn)
{
	const struct net_options *options = &conn->loop->server->options;
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options->max_streams},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window(options)},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, MAX_HEADER_BYTES},
	};

	return nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
				       sizeof(settings) / sizeof(settings[0])) ||
			       nghttp2_session_set_local_window_size(
				       conn->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW)
		       ? BM_ENOMEM
		       : 0;
}

/*
 * Frames pass through the session's memory with what callers are told in them,
 * so it is wiped before it goes back.
 */
static void *session_malloc(size_t size, void *ctx)
{
	(void)ctx;
	return malloc(size);
}

static void *session_calloc(size_t n, size_t size, void *ctx)
{
	(void)ctx;
	return calloc(n, size);
}

static void session_free(void *p, void *ctx)
{
	(void)ctx;
	if (p)
		bytes_wipe(p, malloc_usable_size(p));
	free(p);
}

static void *session_realloc(void *p, size_t size, void *ctx)
{
	size_t old = p ? malloc_usable_size(p) : 0;
	void *fresh = malloc(size);

	if (fresh && p) {
		memcpy(fresh, p, old < size ? old : size);
		session_free(p, ctx);
	}
	return fresh;
}

int h2_open(struct conn *conn)
{
	nghttp2_mem memory = {NULL, session_malloc, session_free, session_calloc, session_realloc};
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	int error = set_callbacks(&callbacks);

	if (error)
		return error;
	error = set_options(&option);
	if (!error) {
		if (nghttp2_session_server_new3(&conn->session, callbacks, conn, option, &memory))
			error = BM_ENOMEM;
		nghttp2_option_del(option);
	}
	nghttp2_session_callbacks_del(callbacks);
	net_meter_init(&conn->meter, conn->loop->server->options.connection_share,
		       clock_monotonic_ns());
	return error ? error : submit_settings(conn);
}
