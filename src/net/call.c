#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "conn.h"

/*
 * Bytes of answers that a client may leave unread and still ask for more on the same
 * call; of all calls of its connection.
 */
#define CALL_UNSENT_MAX ((size_t)1 << 20)
#define CONN_UNSENT_MAX ((size_t)4 << 20)

static int64_t upload_limit(const struct net_call *call)
{
	return clock_monotonic_ns() + call->loop->server->options.request_ms * CLOCK_NS_PER_MS;
}

struct net_call *call_new(struct conn *conn, int32_t stream)
{
	struct net_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->loop = conn->loop;
	call->conn = conn;
	call->stream = stream;
	call->peer = conn->peer;
	call->deadline_ns = CLOCK_FOREVER;
	call->upload_until_ns = upload_limit(call);
	call->reader.max_message = conn->loop->server->options.max_message;
	call->out_tail = &call->out;
	call->next = conn->calls;
	if (call->next)
		call->next->prev = call;
	conn->calls = call;
	conn->n_calls++;
	return call;
}

static void wipe_free(void *p, size_t len)
{
	if (p)
		bytes_wipe(p, len);
	free(p);
}

/*
 * Messages that arrive at one time share the connection's bytes: one that finds
 * no room for its whole length waits for its turn, the client being held back by
 * the stream's window, so that those begun can always be completed. One alone
 * always may go on.
 */
static bool may_go_on(struct net_call *call)
{
	struct conn *conn = call->conn;
	size_t len = call->reader.len;

	if (call->answered || call->reserved || call->reader.prefix_len < GRPC_PREFIX)
		return true;
	if (conn->reserved &&
	    conn->reserved + len > conn->loop->server->options.max_connection_bytes / 2)
		return false;
	conn->reserved += len;
	call->reserved = len;
	return true;
}

/* Lets the client send more of the stream, if it may. */
static void open_window(struct net_call *call)
{
	if (!call->owed || !may_go_on(call))
		return;
	/* Fails for want of memory alone; the limit on uploads then ends the call. */
	(void)nghttp2_session_consume_stream(call->conn->session, call->stream, call->owed);
	call->owed = 0;
}

static void give_turn(struct net_call *call)
{
	if (!call->reserved)
		return;
	call->conn->reserved -= call->reserved;
	call->reserved = 0;
	for (struct net_call *other = call->conn->calls; other; other = other->next)
		open_window(other);
}

static void drop_message(struct net_call *call)
{
	if (!call->conn)
		return;
	conn_release(call->conn, call->held);
	call->held = 0;
	grpc_reader_deinit(&call->reader);
	give_turn(call);
}

/* The first chunk has been taken, or nobody wants it. */
static void drop_chunk(struct net_call *call)
{
	struct chunk *chunk = call->out;

	call->out = chunk->next;
	if (!call->out)
		call->out_tail = &call->out;
	if (call->conn)
		conn_release(call->conn, chunk->len);
	atomic_fetch_sub(&call->unsent, chunk->len - GRPC_PREFIX);
	wipe_free(chunk, sizeof(*chunk) + chunk->len);
}

static void drop_output(struct net_call *call)
{
	while (call->out)
		drop_chunk(call);
}

/*
 * True while answers wait that the client has not taken: a small question may have a
 * large answer, so that who asks and never reads is to be asked for no more.
 */
static bool leaves_unread(const struct net_call *call)
{
	size_t all = 0;

	if (atomic_load(&call->unsent) > CALL_UNSENT_MAX)
		return true;
	for (const struct net_call *c = call->conn->calls; c; c = c->next)
		all += atomic_load(&c->unsent);
	return all > CONN_UNSENT_MAX;
}

/* Gone when neither the connection nor the handler knows it any more. */
static void free_if_over(struct net_call *call)
{
	if (call->conn || (call->state && !call->finished))
		return;
	if (call->deadline)
		event_free(call->deadline);
	free(call->path);
	free(call->status_message);
	free(call->details);
	free(call);
}

/* Tells the handler that nobody waits any more, once. */
static void tell_cancelled(struct net_call *call)
{
	const struct net_handler *handler = &call->loop->server->handler;

	if (atomic_exchange(&call->cancelled, true))
		return;
	if (call->state && !call->finished)
		handler->cancel(handler->ctx, call->state);
}

void call_detach(struct net_call *call)
{
	struct conn *conn = call->conn;

	call->answered = true;
	drop_message(call);
	drop_output(call);
	if (call->deadline)
		event_del(call->deadline);
	if (call->prev)
		call->prev->next = call->next;
	else
		conn->calls = call->next;
	if (call->next)
		call->next->prev = call->prev;
	conn->n_calls--;
	conn->idle_since_ns = clock_monotonic_ns();
	call->conn = NULL;
	tell_cancelled(call);
	free_if_over(call);
}

/* Brings the end of the call to the client: trailers, after what is queued. */
static void answer(struct net_call *call, enum grpc_status code)
{
	call->answered = true;
	call->code = code;
	if (call->deadline)
		event_del(call->deadline);
	/* What of the request is still to come is of no use. */
	drop_message(call);
}

static nghttp2_nv header(const char *name, const char *value)
{
	return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
			    strlen(value), NGHTTP2_NV_FLAG_NONE};
}

/* The trailers, behind whatever headers nva holds already. */
static size_t add_trailers(const struct net_call *call, nghttp2_nv *nva, size_t n, char code[4])
{
	code[0] = code[1] = '\0';
	if (call->code >= 10)
		code[0] = (char)('0' + call->code / 10);
	code[call->code >= 10] = (char)('0' + call->code % 10);
	code[1 + (call->code >= 10)] = '\0';
	nva[n++] = header("grpc-status", code);
	if (call->status_message && *call->status_message)
		nva[n++] = header("grpc-message", call->status_message);
	if (call->details && *call->details)
		nva[n++] = header("grpc-status-details-bin", call->details);
	return n;
}

/* Tells the handler when nothing is left of what it sent. */
static void tell_sent(struct net_call *call)
{
	const struct net_handler *handler = &call->loop->server->handler;

	if (!call->out && !call->finished && handler->sent)
		handler->sent(handler->ctx, call->state);
}

static ssize_t read_output(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room,
			   uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
	struct net_call *call = source->ptr;
	struct chunk *chunk = call->out;
	nghttp2_nv nva[4];
	char code[4];
	size_t n;

	(void)ctx;
	call->moved_ns = clock_monotonic_ns();
	if (chunk) {
		n = chunk->len - chunk->sent < room ? chunk->len - chunk->sent : room;
		memcpy(buffer, chunk->data + chunk->sent, n);
		chunk->sent += n;
		if (chunk->sent == chunk->len) {
			drop_chunk(call);
			tell_sent(call);
		}
		return (ssize_t)n;
	}
	if (!call->answered)
		return NGHTTP2_ERR_DEFERRED;
	*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
	if (nghttp2_submit_trailer(session, stream, nva, add_trailers(call, nva, 0, code)))
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	call->trailers_sent = true;
	return 0;
}

/* Sends the headers of the response, which say it all where there is no message. */
static void begin_response(struct net_call *call)
{
	nghttp2_data_provider provider = {.source = {.ptr = call}, .read_callback = read_output};
	nghttp2_nv nva[8] = {header(":status", "200"), header("content-type", "application/grpc")};
	bool whole = call->answered && !call->out;
	char code[4];
	size_t n = 2;

	if (call->encoded)
		nva[n++] = header("grpc-accept-encoding", "identity");
	if (whole)
		n = add_trailers(call, nva, n, code);
	call->headers_sent = true;
	call->trailers_sent = whole;
	if (nghttp2_submit_response(call->conn->session, call->stream, nva, n,
				    whole ? NULL : &provider))
		nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->stream,
					  NGHTTP2_INTERNAL_ERROR);
}

/* Moves the response on after a change of what there is to send. */
static void push(struct net_call *call)
{
	if (!call->out || !call->out->next)
		call->moved_ns = clock_monotonic_ns();
	if (!call->headers_sent)
		begin_response(call);
	else if (!call->trailers_sent)
		nghttp2_session_resume_data(call->conn->session, call->stream);
}

void call_refuse(struct net_call *call, enum grpc_status code, const char *message)
{
	if (call->answered)
		return;
	call->status_message = grpc_message_encode(message, NET_STATUS_MESSAGE_MAX);
	drop_output(call);
	answer(call, code);
	push(call);
	tell_cancelled(call);
}

static void deadline_passed(evutil_socket_t fd, short what, void *ctx)
{
	struct net_call *call = ctx;
	struct conn *conn = call->conn;

	(void)fd;
	(void)what;
	call_refuse(call, GRPC_DEADLINE_EXCEEDED, "the deadline passed before the work was done");
	if (conn)
		conn_flush(conn);
}

static int start_deadline(struct net_call *call)
{
	int64_t left = call->deadline_ns - clock_monotonic_ns();
	struct timeval wait = {0};

	if (call->deadline_ns == CLOCK_FOREVER)
		return 0;
	if (left > 0) {
		wait.tv_sec = left / CLOCK_NS_PER_SEC;
		wait.tv_usec = left % CLOCK_NS_PER_SEC / CLOCK_NS_PER_US;
	}
	call->deadline = evtimer_new(call->loop->base, deadline_passed, call);
	return call->deadline && !evtimer_add(call->deadline, &wait) ? 0 : BM_ENOMEM;
}

static void refuse_http(struct net_call *call, const char *status)
{
	nghttp2_nv nva[] = {header(":status", status)};

	call->answered = call->headers_sent = call->trailers_sent = true;
	nghttp2_submit_response(call->conn->session, call->stream, nva, 1, NULL);
}

static void open_handler(struct net_call *call)
{
	struct net_server *server = call->loop->server;
	int error = server->handler.open(server->handler.ctx, call, call->path,
					 &call->reader.max_message, &call->state);

	if (error) {
		call->state = NULL;
		call_refuse(call, bm_error_grpc(error), bm_error_text(error));
		return;
	}
	net_meter_give_call(&call->conn->meter);
	atomic_fetch_add(&server->calls, 1);
	atomic_fetch_add(&server->calls_open, 1);
}

void call_begin(struct net_call *call)
{
	call->begun = true;
	if (!call->is_post || !call->is_grpc || !call->path) {
		refuse_http(call, call->is_post ? "415" : "405");
	} else if (call->too_large) {
		call_refuse(call, GRPC_RESOURCE_EXHAUSTED, "the headers are too large");
	} else if (call->bad_timeout) {
		call_refuse(call, GRPC_INTERNAL, "grpc-timeout is malformed");
	} else if (call->encoded) {
		call_refuse(call, GRPC_UNIMPLEMENTED, "messages must not be compressed");
	} else if (start_deadline(call)) {
		call_refuse(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	} else {
		open_handler(call);
	}
}

static void refuse_message(struct net_call *call, int error)
{
	switch (error) {
	case BM_ETOOBIG:
		call_refuse(call, GRPC_RESOURCE_EXHAUSTED,
			    "the message is larger than the service accepts");
		break;
	case BM_EUNIMPL:
		call_refuse(call, GRPC_UNIMPLEMENTED, "messages must not be compressed");
		break;
	case BM_EPROTO:
		call_refuse(call, GRPC_INTERNAL, "the request is not framed as gRPC");
		break;
	default:
		call_refuse(call, GRPC_RESOURCE_EXHAUSTED,
			    "the service is at capacity; retry later");
		break;
	}
}

static void give_message(struct net_call *call, uint8_t *data, size_t len)
{
	const struct net_handler *handler = &call->loop->server->handler;

	call->got_message = true;
	give_turn(call);
	handler->message(handler->ctx, call->state, data, len);
}

/* Follows the reader's memory; false when a cap is reached. */
static bool count_room(struct net_call *call)
{
	size_t room = call->reader.room;

	if (room > call->held && !conn_hold(call->conn, room - call->held))
		return false;
	if (room < call->held)
		conn_release(call->conn, call->held - room);
	call->held = room;
	return true;
}

void call_data(struct net_call *call, const uint8_t *data, size_t len)
{
	struct bytes in = {data, len};
	uint8_t *message;
	int result;

	call->owed += len;
	while (in.len && call->state && !call->answered && !call->finished) {
		if (call->got_message && leaves_unread(call)) {
			call_refuse(call, GRPC_RESOURCE_EXHAUSTED, "the client reads too slowly");
			break;
		}
		if (call->got_message && !grpc_reader_inside(&call->reader))
			call->upload_until_ns = upload_limit(call);
		result = grpc_reader_take(&call->reader, &in, &message, &len);
		if (!count_room(call) && !result)
			result = BM_EBUSY;
		if (result < 0)
			refuse_message(call, result);
		else if (result)
			give_message(call, message, len);
	}
	open_window(call);
}

void call_half_close(struct net_call *call)
{
	const struct net_handler *handler = &call->loop->server->handler;

	call->half_closed = true;
	if (call->answered || call->finished || !call->state)
		return;
	if (grpc_reader_inside(&call->reader)) {
		call_refuse(call, GRPC_INTERNAL, "the request ends inside a message");
		return;
	}
	handler->half_close(handler->ctx, call->state);
}

void call_take_message(struct net_call *call, uint8_t *data, size_t len)
{
	struct chunk *chunk;

	if (!call->conn || call->answered) {
		atomic_fetch_sub(&call->unsent, len);
		wipe_free(data, len);
		return;
	}
	chunk = malloc(sizeof(*chunk) + GRPC_PREFIX + len);
	if (!chunk || !conn_hold(call->conn, GRPC_PREFIX + len)) {
		free(chunk);
		atomic_fetch_sub(&call->unsent, len);
		wipe_free(data, len);
		call_refuse(call, GRPC_RESOURCE_EXHAUSTED, "the client reads too slowly");
		conn_touch(call->conn);
		return;
	}
	*chunk = (struct chunk){.len = GRPC_PREFIX + len};
	chunk->data[0] = 0;
	bytes_put_be32(chunk->data + 1, (uint32_t)len);
	memcpy(chunk->data + GRPC_PREFIX, data, len);
	wipe_free(data, len);
	*call->out_tail = chunk;
	call->out_tail = &chunk->next;
	push(call);
	conn_touch(call->conn);
}

void call_take_finish(struct net_call *call, struct post *post)
{
	struct net_server *server = call->loop->server;
	struct conn *conn = call->conn;

	if (atomic_load(&call->lost))
		call_refuse(call, GRPC_RESOURCE_EXHAUSTED, "out of memory; retry later");
	if (!call->answered) {
		call->status_message = post->message;
		call->details = (char *)post->data;
		answer(call, post->code);
		push(call);
	} else {
		free(post->message);
		free(post->data);
	}
	call->finished = true;
	server->handler.close(server->handler.ctx, call->state);
	atomic_fetch_sub(&server->calls_open, 1);
	free_if_over(call);
	if (conn)
		conn_touch(conn);
}

static bool upload_is_late(const struct net_call *call, int64_t now_ns)
{
	return !call->half_closed && !call->answered && now_ns >= call->upload_until_ns &&
	       (!call->got_message || grpc_reader_inside(&call->reader));
}

/* There is something for the client, and its window stays closed. */
static bool is_stuck(const struct net_call *call, int64_t now_ns)
{
	return (call->out || (call->answered && !call->trailers_sent)) &&
	       now_ns - call->moved_ns >= call->loop->server->options.stall_ms * CLOCK_NS_PER_MS;
}

void call_sweep(struct net_call *call, int64_t now_ns)
{
	if (is_stuck(call, now_ns))
		nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->stream,
					  NGHTTP2_CANCEL);
	else if (upload_is_late(call, now_ns))
		call_refuse(call, GRPC_DEADLINE_EXCEEDED, "the request took too long to arrive");
}
