#include <string.h>

#include "conn.h"

/* Of one request's headers, counted as RFC 9113 does: name, value and 32 each. */
#define MAX_HEADER_BYTES (16 * 1024)
#define MAX_HEADERS      100
#define MAX_PATH         256
/*
 * Frames that carry no request cost nothing to send: a client may send so many
 * at once, so many a second, and some with each request and piece of a message,
 * since real clients measure the bandwidth and open the window as they go.
 */
#define CONTROL_BURST      1000.0
#define CONTROL_PER_SECOND 100.0
#define CONTROL_PER_CALL   8.0
#define CONTROL_PER_DATA   2.0

#define CONNECTION_WINDOW (4 << 20)
#define STREAM_WINDOW     (1 << 20)

static struct net_call *call_of(nghttp2_session *session, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(session, stream);
}

static int abuse(struct conn *conn)
{
	nghttp2_session_terminate_session(conn->session, NGHTTP2_ENHANCE_YOUR_CALM);
	conn->closing = true;
	return 0;
}

static bool control_frame_allowed(struct conn *conn)
{
	int64_t now = clock_monotonic_ns();

	conn->control_frames -=
		(double)(now - conn->control_ns) / (double)CLOCK_NS_PER_SEC * CONTROL_PER_SECOND;
	conn->control_ns = now;
	if (conn->control_frames < 0)
		conn->control_frames = 0;
	return ++conn->control_frames <= CONTROL_BURST;
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

static void take_header(struct net_call *call, const uint8_t *name, size_t name_len,
			const char *value, size_t len)
{
	int64_t timeout;

	if (is(name, name_len, ":path") && len <= MAX_PATH) {
		call->path = strndup(value, len);
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
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *ctx)
{
	struct net_call *call = call_of(session, frame->hd.stream_id);

	(void)flags;
	if (!call)
		return 0;
	call->header_bytes += name_len + len + 32;
	if (++call->headers > MAX_HEADERS || call->header_bytes > MAX_HEADER_BYTES) {
		abuse(ctx);
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	if (frame->headers.cat == NGHTTP2_HCAT_REQUEST && name_len)
		take_header(call, name, name_len, (const char *)value, len);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t len, void *ctx)
{
	struct net_call *call = call_of(session, stream);

	(void)flags;
	(void)ctx;
	if (call)
		(void)call_data(call, data, len); /* a refusal is on its way to the client */
	/* Memory is bounded by the caps, so the window can open at once. */
	return nghttp2_session_consume(session, stream, len) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct conn *conn = ctx;
	struct net_call *call = call_of(session, frame->hd.stream_id);
	bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		conn->control_frames -= CONTROL_PER_CALL;
		if (call && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
			call_begin(call);
		break;
	case NGHTTP2_DATA:
		if (frame->hd.length)
			conn->control_frames -= CONTROL_PER_DATA;
		else if (!ends && !control_frame_allowed(conn))
			return abuse(conn);
		break;
	default:
		return control_frame_allowed(conn) ? 0 : abuse(conn);
	}
	if (call && ends)
		call_half_close(call);
	return 0;
}

/*
 * A client that still sends when its answer is complete is told to stop, after
 * the trailers: a RST_STREAM queued with them would leave first.
 */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct net_call *call = call_of(session, frame->hd.stream_id);

	(void)ctx;
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

static int submit_settings(struct conn *conn)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, conn->loop->server->options.max_streams},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, MAX_HEADER_BYTES},
	};

	return nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
				       sizeof(settings) / sizeof(settings[0])) ||
			       nghttp2_session_set_local_window_size(
				       conn->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW)
		       ? BM_ENOMEM
		       : 0;
}

int h2_open(struct conn *conn)
{
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	int error = set_callbacks(&callbacks);

	if (error)
		return error;
	error = set_options(&option);
	if (!error) {
		if (nghttp2_session_server_new2(&conn->session, callbacks, conn, option))
			error = BM_ENOMEM;
		nghttp2_option_del(option);
	}
	nghttp2_session_callbacks_del(callbacks);
	conn->control_ns = clock_monotonic_ns();
	return error ? error : submit_settings(conn);
}
