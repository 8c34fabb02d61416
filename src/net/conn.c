#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/log.h"
#include "conn.h"

/* Handed to HTTP/2 at once: what few bytes ask for, compressed headers say, can take long. */
#define PIECE (2 * 1024)
/* Lines about misbehaving peers that a loop writes at most. */
#define LOG_PER_SECOND 10
/* Between the two GOAWAYs of a shutdown, for calls under way to the server (RFC 9113, 6.8). */
#define GOAWAY_PAUSE_NS (200 * CLOCK_NS_PER_MS)
/* Bytes that nobody reads are taken from a socket this many at once. */
#define DISCARDED_AT_ONCE (1 << 20)
/* For the client to take what was sent last. */
#define LINGER_NS CLOCK_NS_PER_SEC

bool conn_hold(struct conn *conn, size_t bytes)
{
	struct net_server *server = conn->loop->server;

	if (conn->bytes_held + bytes > server->options.max_connection_bytes)
		return false;
	if (atomic_fetch_add(&server->bytes_held, bytes) + bytes >
	    server->options.max_total_bytes) {
		atomic_fetch_sub(&server->bytes_held, bytes);
		return false;
	}
	conn->bytes_held += bytes;
	return true;
}

void conn_release(struct conn *conn, size_t bytes)
{
	conn->bytes_held -= bytes;
	atomic_fetch_sub(&conn->loop->server->bytes_held, bytes);
}

static void drop_pending(struct conn *conn)
{
	if (conn->pending)
		bytes_wipe(conn->pending, conn->pending_len);
	free(conn->pending);
	conn->pending = NULL;
	conn->pending_len = conn->pending_sent = 0;
}

static void close_socket(struct net_server *server, int fd)
{
	close(fd);
	pthread_mutex_lock(&server->lock);
	if (atomic_fetch_sub(&server->connections, 1) == 1)
		pthread_cond_broadcast(&server->emptied);
	pthread_mutex_unlock(&server->lock);
}

void conn_touch(struct conn *conn)
{
	if (conn->touched)
		return;
	conn->touched = true;
	conn->next_touched = conn->loop->touched;
	conn->loop->touched = conn;
}

static void forget_touch(struct conn *conn)
{
	struct conn **at = &conn->loop->touched;

	while (*at != conn)
		at = &(*at)->next_touched;
	*at = conn->next_touched;
	conn->touched = false;
}

void conn_flush_touched(struct loop *loop)
{
	while (loop->touched) {
		struct conn *conn = loop->touched;

		forget_touch(conn);
		conn_flush(conn);
	}
}

void conn_refuse(struct net_server *server, int fd)
{
	atomic_fetch_sub(&server->handshaking, 1);
	close_socket(server, fd);
}

void conn_link(struct conn *conn, struct loop *loop)
{
	conn->loop = loop;
	conn->prev = NULL;
	conn->next = loop->conns;
	if (conn->next)
		conn->next->prev = conn;
	loop->conns = conn;
}

static void forget_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

void conn_leave(struct conn *conn)
{
	forget_event(&conn->readable);
	forget_event(&conn->writable);
	forget_event(&conn->again);
	if (conn->prev)
		conn->prev->next = conn->next;
	else
		conn->loop->conns = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
}

static void tell_handler(const struct conn *conn, bool began)
{
	const struct net_handler *handler = &conn->loop->server->handler;

	if (handler->connection)
		handler->connection(handler->ctx, &conn->peer, began);
}

void conn_close(struct conn *conn)
{
	struct net_server *server = conn->loop->server;

	/* nghttp2 does not tell of the streams it frees with a session. */
	while (conn->calls)
		call_detach(conn->calls);
	conn_leave(conn);
	if (conn->session) {
		nghttp2_session_del(conn->session);
		tell_handler(conn, false);
	} else {
		atomic_fetch_sub(&server->handshaking, 1);
	}
	if (conn->ssl) {
		/* Without an answer: the client knows from GOAWAY or does not care. */
		if (conn->session && !conn->over_ns)
			SSL_shutdown(conn->ssl);
		SSL_free(conn->ssl);
	}
	if (conn->touched)
		forget_touch(conn);
	close_socket(server, conn->fd);
	drop_pending(conn);
	free(conn);
}

bool conn_wait_tls(struct conn *conn, int rc)
{
	switch (SSL_get_error(conn->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return true;
	case SSL_ERROR_WANT_WRITE:
		if (!conn->write_blocked)
			event_add(conn->writable, NULL);
		conn->write_blocked = true;
		return true;
	default:
		return false;
	}
}

/* Writes as much as the socket takes; *sent tells how much. False when broken. */
static bool write_some(struct conn *conn, const uint8_t *data, size_t len, size_t *sent)
{
	for (*sent = 0; *sent < len;) {
		int n;

		ERR_clear_error(); /* SSL_get_error looks at the thread's, of any connection */
		n = SSL_write(conn->ssl, data + *sent, (int)(len - *sent));
		if (n <= 0) {
			if (!conn->stalled_since_ns)
				conn->stalled_since_ns = clock_monotonic_ns();
			return conn_wait_tls(conn, n);
		}
		*sent += (size_t)n;
		conn->stalled_since_ns = 0;
	}
	return true;
}

/* Writes what was kept; false when broken. */
static bool write_pending(struct conn *conn)
{
	size_t sent;

	if (!conn->pending)
		return true;
	if (!write_some(conn, conn->pending + conn->pending_sent,
			conn->pending_len - conn->pending_sent, &sent))
		return false;
	conn->pending_sent += sent;
	if (conn->pending_sent == conn->pending_len)
		drop_pending(conn);
	return true;
}

static bool keep(struct conn *conn, const uint8_t *data, size_t len)
{
	if (!len)
		return true;
	conn->pending = malloc(len);
	if (!conn->pending)
		return false;
	memcpy(conn->pending, data, len);
	conn->pending_len = len;
	return true;
}

/* Gathers frames, so that small ones share a TLS record. -1 when broken. */
static ssize_t gather(struct conn *conn, uint8_t *out)
{
	const uint8_t *data;
	size_t len = 0;
	ssize_t n = 0;

	while (len + LOOP_LARGEST_FRAME <= LOOP_SCRATCH &&
	       (n = nghttp2_session_mem_send(conn->session, &data)) > 0) {
		if ((size_t)n > LOOP_LARGEST_FRAME)
			return -1;
		memcpy(out + len, data, (size_t)n);
		len += (size_t)n;
	}
	return n < 0 ? -1 : (ssize_t)len;
}

/* False when the connection is broken. */
static bool flush(struct conn *conn)
{
	uint8_t *scratch = conn->loop->scratch;

	if (!write_pending(conn))
		return false;
	while (!conn->pending) {
		ssize_t len = gather(conn, scratch);
		bool ok;
		size_t sent;

		if (len <= 0)
			return len == 0;
		ok = write_some(conn, scratch, (size_t)len, &sent) &&
		     keep(conn, scratch + sent, (size_t)len - sent);
		bytes_wipe(scratch, (size_t)len);
		if (!ok)
			return false;
	}
	return true;
}

/* Comes back to the connection without being called by its socket. */
static bool come_back(struct conn *conn, int64_t wait_ns)
{
	const struct timeval wait = {.tv_sec = wait_ns / CLOCK_NS_PER_SEC,
				     .tv_usec = wait_ns % CLOCK_NS_PER_SEC / CLOCK_NS_PER_US};

	return !evtimer_add(conn->again, &wait);
}

/* Looks at the socket but where there is a reason not to. */
static bool watch(struct conn *conn)
{
	bool watch = !conn->read_paused && !conn->resting;

	if (watch == conn->watched)
		return true;
	conn->watched = watch;
	if (!watch)
		return !event_del(conn->readable);
	/* No socket tells of what the TLS library has read already. */
	return !event_add(conn->readable, NULL) &&
	       (!SSL_has_pending(conn->ssl) || come_back(conn, 0));
}

/* A peer that does not read is not read: what it would ask for cannot be told. */
static bool pause_reading(struct conn *conn, bool pause)
{
	conn->read_paused = pause;
	return watch(conn);
}

static bool is_over(const struct conn *conn)
{
	return !conn->pending && (conn->closing || (!nghttp2_session_want_read(conn->session) &&
						    !nghttp2_session_want_write(conn->session)));
}

/*
 * Says that nothing follows, and waits for the client to close: a socket closed
 * with bytes unread is reset, and what was sent last can be lost with it.
 */
static void linger(struct conn *conn)
{
	conn->over_ns = clock_monotonic_ns();
	conn->resting = conn->read_paused = false;
	if (!watch(conn)) {
		conn_close(conn);
		return;
	}
	SSL_shutdown(conn->ssl);
	shutdown(conn->fd, SHUT_WR);
}

void conn_flush(struct conn *conn)
{
	if (!conn->session || conn->over_ns)
		return;
	if (!flush(conn) || !pause_reading(conn, conn->pending || conn->closing))
		conn_close(conn);
	else if (is_over(conn))
		linger(conn);
}

/* Reads for a turn and hands to HTTP/2; false when the connection is over. */
static bool read_some(struct conn *conn)
{
	uint8_t *scratch = conn->loop->scratch;
	int64_t now = clock_monotonic_ns(), until = now + METER_TURN_NS;

	for (; now < until; now = clock_monotonic_ns()) {
		ssize_t taken = 0;
		int n;

		ERR_clear_error();
		n = SSL_read(conn->ssl, scratch, PIECE);
		if (n > 0 && net_meter_count(&conn->meter, (struct bytes){scratch, (size_t)n}, now))
			taken = nghttp2_session_mem_recv(conn->session, scratch, (size_t)n);
		else if (n > 0 || conn->meter.budget < 0)
			h2_abuse(conn, "frames");
		else
			return conn_wait_tls(conn, n);
		if (n > 0)
			bytes_wipe(scratch, (size_t)n);
		if (conn->closing)
			return true;
		if (taken < 0)
			return false;
	}
	return !SSL_has_pending(conn->ssl) || come_back(conn, 0);
}

/*
 * One turn. A connection that keeps its loop busy for more than its share waits, since
 * all that the others ask goes through the same thread.
 */
static void work(struct conn *conn)
{
	int64_t began = clock_thread_ns(), wait;

	if (!read_some(conn)) {
		conn_close(conn);
		return;
	}
	wait = net_meter_spend(&conn->meter, clock_thread_ns() - began, clock_monotonic_ns());
	if (wait && !conn->closing) {
		atomic_fetch_add(&conn->loop->server->rests, !conn->resting);
		conn->resting = true;
		if (!watch(conn) || !come_back(conn, wait)) {
			conn_close(conn);
			return;
		}
	}
	conn_flush(conn);
}

/* What comes after the end, unread. */
static void discard(struct conn *conn)
{
	ssize_t n = recv(conn->fd, NULL, DISCARDED_AT_ONCE, MSG_TRUNC | MSG_DONTWAIT);

	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
		conn_close(conn);
}

static void readable(evutil_socket_t fd, short what, void *ctx)
{
	struct conn *conn = ctx;

	(void)fd;
	(void)what;
	if (conn->over_ns)
		discard(conn);
	else
		work(conn);
}

static void again(evutil_socket_t fd, short what, void *ctx)
{
	struct conn *conn = ctx;

	(void)fd;
	(void)what;
	conn->resting = false;
	if (!watch(conn))
		conn_close(conn);
	else if (conn->watched && !conn->over_ns)
		work(conn);
}

static void writable(evutil_socket_t fd, short what, void *ctx)
{
	struct conn *conn = ctx;

	(void)fd;
	(void)what;
	conn->write_blocked = false;
	conn_flush(conn);
}

/* First "no more, soon", then "this was the last": calls under way get through. */
static void begin_drain(struct conn *conn)
{
	conn->drained_ns = clock_monotonic_ns();
	nghttp2_submit_shutdown_notice(conn->session);
}

/* The certificate may have been taken back since the connection, or its handshake, began. */
static bool is_trusted(struct conn *conn)
{
	struct net_server *server = conn->loop->server;
	SSL_CTX *now;
	bool trusted;

	pthread_mutex_lock(&server->tls_lock);
	now = server->tls;
	SSL_CTX_up_ref(now);
	pthread_mutex_unlock(&server->tls_lock);
	trusted = now == SSL_get_SSL_CTX(conn->ssl) ||
		  revocation_trusts(SSL_CTX_get_cert_store(now), conn->ssl);
	SSL_CTX_free(now);
	if (!trusted) {
		atomic_fetch_add(&server->revoked, 1);
		log_notice("peer_no_longer_trusted", "peer=%s serial=%s", conn->peer.uri,
			   conn->peer.serial);
	}
	return trusted;
}

void conn_recheck(struct conn *conn)
{
	if (conn->session && !is_trusted(conn))
		conn_close(conn);
}

bool conn_may_log(struct conn *conn, unsigned long *unlogged)
{
	struct loop *loop = conn->loop;
	int64_t second = clock_monotonic_ns() / CLOCK_NS_PER_SEC;

	if (second != loop->log_second)
		loop->logged = 0;
	loop->log_second = second;
	if (loop->logged >= LOG_PER_SECOND) {
		loop->unlogged++;
		return false;
	}
	loop->logged++;
	*unlogged = loop->unlogged;
	loop->unlogged = 0;
	return true;
}

static int open_session(struct conn *conn)
{
	struct event_base *base = conn->loop->base;
	int error;

	conn->readable = event_new(base, conn->fd, EV_READ | EV_PERSIST, readable, conn);
	conn->writable = event_new(base, conn->fd, EV_WRITE, writable, conn);
	conn->again = evtimer_new(base, again, conn);
	if (!conn->readable || !conn->writable || !conn->again)
		return BM_ENOMEM;
	error = h2_open(conn);
	if (error && conn->session)
		nghttp2_session_del(conn->session);
	if (error)
		conn->session = NULL;
	return error;
}

void conn_enter(struct loop *loop, struct conn *conn)
{
	struct net_server *server = loop->server;

	conn_link(conn, loop);
	if (loop->closing || !is_trusted(conn) || open_session(conn)) {
		conn_close(conn);
		return;
	}
	atomic_fetch_sub(&server->handshaking, 1);
	atomic_fetch_add(&server->handshakes, 1);
	tell_handler(conn, true);
	conn->idle_since_ns = clock_monotonic_ns();
	if (loop->draining)
		begin_drain(conn);
	if (watch(conn))
		conn_flush(conn);
	else
		conn_close(conn);
}

void conn_drain(struct conn *conn)
{
	if (!conn->session || conn->drained_ns)
		return;
	begin_drain(conn);
	conn_flush(conn);
}

/* A header block that does not end holds up the whole connection. */
static bool headers_are_late(const struct conn *conn, int64_t now_ns)
{
	for (const struct net_call *call = conn->calls; call; call = call->next) {
		if (!call->begun && now_ns >= call->upload_until_ns)
			return true;
	}
	return false;
}

static bool time_is_up(const struct conn *conn, int64_t now_ns)
{
	const struct net_options *options = &conn->loop->server->options;

	if (!conn->session)
		return now_ns - conn->accepted_ns >= options->handshake_ms * CLOCK_NS_PER_MS;
	if (conn->stalled_since_ns &&
	    now_ns - conn->stalled_since_ns >= options->stall_ms * CLOCK_NS_PER_MS)
		return true;
	if (conn->over_ns && now_ns - conn->over_ns >= LINGER_NS)
		return true;
	return headers_are_late(conn, now_ns);
}

static bool is_idle(const struct conn *conn, int64_t now_ns)
{
	return !conn->n_calls && now_ns - conn->idle_since_ns >=
					 conn->loop->server->options.idle_ms * CLOCK_NS_PER_MS;
}

void conn_sweep(struct conn *conn, int64_t now_ns)
{
	struct net_call *next;

	if (time_is_up(conn, now_ns)) {
		conn_close(conn);
		return;
	}
	if (!conn->session)
		return;
	if (!conn->drained_ns && is_idle(conn, now_ns))
		begin_drain(conn);
	if (conn->drained_ns && !conn->goaway_sent &&
	    now_ns - conn->drained_ns >= GOAWAY_PAUSE_NS) {
		conn->goaway_sent = true;
		nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(conn->session),
				      NGHTTP2_NO_ERROR, NULL, 0);
	}
	for (struct net_call *call = conn->calls; call; call = next) {
		next = call->next;
		call_sweep(call, now_ns);
	}
	conn_flush(conn);
}
