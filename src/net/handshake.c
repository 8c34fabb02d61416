/* A connection until its peer is known: it may be anybody's, so it is not served where others are.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/log.h"
#include "conn.h"

#define ADDRESS_LEN 64
/* A peer whose machine is gone is noticed after this, with no call under way too. */
#define PEER_GONE_MS (60 * 1000)

static void conn_address(int fd, char out[ADDRESS_LEN])
{
	struct sockaddr_storage at = {0};
	socklen_t len = sizeof(at);

	if (getpeername(fd, (struct sockaddr *)&at, &len) ||
	    getnameinfo((struct sockaddr *)&at, len, out, ADDRESS_LEN, NULL, 0, NI_NUMERICHOST))
		strcpy(out, "unknown");
}

static void log_failure(struct conn *conn, unsigned long error)
{
	const char *reason = error ? ERR_reason_error_string(error) : NULL;
	unsigned long unlogged;
	char from[ADDRESS_LEN];

	if (!conn_may_log(conn, &unlogged))
		return;
	conn_address(conn->fd, from);
	log_info("handshake_failed", "from=%s reason=%s unlogged=%lu", from,
		 reason ? reason : "connection closed", unlogged);
}

/* From here on the connection is another loop's. */
static void hand_over(struct conn *conn)
{
	struct net_server *server = conn->loop->server;
	struct loop *to = &server->loops[1 + server->next_loop++ % server->options.threads];

	conn_leave(conn);
	conn->write_blocked = false;
	conn->enter.kind = POST_CONNECTION;
	conn->enter.conn = conn;
	loop_post(to, &conn->enter);
}

static void shake_hands(struct conn *conn)
{
	unsigned long reason;
	int rc;

	ERR_clear_error();
	rc = SSL_accept(conn->ssl);
	if (rc == 1 && !tls_peer(conn->ssl, &conn->peer)) {
		hand_over(conn);
		return;
	}
	reason = ERR_peek_last_error();
	if (rc != 1 && conn_wait_tls(conn, rc))
		return;
	atomic_fetch_add(&conn->loop->server->handshake_failures, 1);
	log_failure(conn, reason);
	conn_close(conn);
}

static void readable(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	shake_hands(ctx);
}

static void writable(evutil_socket_t fd, short what, void *ctx)
{
	struct conn *conn = ctx;

	(void)fd;
	(void)what;
	conn->write_blocked = false;
	shake_hands(conn);
}

/* A socket that will not take one of them still works. */
static void set_socket_options(int fd)
{
	const int on = 1, gone_ms = PEER_GONE_MS, idle = 30, interval = 10, probes = 3;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &gone_ms, sizeof(gone_ms));
}

static int open_tls(struct conn *conn)
{
	struct net_server *server = conn->loop->server;

	pthread_mutex_lock(&server->tls_lock);
	conn->ssl = SSL_new(server->tls);
	pthread_mutex_unlock(&server->tls_lock);
	return conn->ssl && SSL_set_fd(conn->ssl, conn->fd) == 1 &&
			       SSL_set_app_data(conn->ssl, conn) == 1
		       ? 0
		       : BM_ENOMEM;
}

void handshake_begin(struct net_server *server, int fd)
{
	struct loop *loop = &server->loops[LOBBY];
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn) {
		conn_refuse(server, fd);
		return;
	}
	conn->fd = fd;
	conn->accepted_ns = clock_monotonic_ns();
	conn_link(conn, loop);
	set_socket_options(fd);
	conn->readable = event_new(loop->base, fd, EV_READ | EV_PERSIST, readable, conn);
	conn->writable = event_new(loop->base, fd, EV_WRITE, writable, conn);
	if (!conn->readable || !conn->writable || open_tls(conn) || event_add(conn->readable, NULL))
		conn_close(conn);
}
