#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "biomatch/log.h"
#include "biomatch/parse.h"
#include "conn.h"

#define BACKLOG 1024
/* Connections taken at once before other work gets its turn. */
#define ACCEPT_AT_ONCE 64

static int fail(const struct net_server *server, char message[256], const char *why)
{
	snprintf(message, 256, "%.120s: %.100s", server->options.listen, why);
	return BM_ENET;
}

static int bind_address(struct net_server *server, const struct addrinfo *at)
{
	int on = 1, fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return BM_ENET;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, BACKLOG)) {
		close(fd);
		return BM_ENET;
	}
	server->listen_fd = fd;
	server->owns_listen_fd = true;
	return 0;
}

static int open_address(struct net_server *server, char message[256])
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM},
			*found;
	char host[PARSE_HOST_MAX + 1], service[8];
	uint16_t port;
	int rc;

	if (parse_address(server->options.listen, host, &port))
		return fail(server, message, "not of the form host:port");
	snprintf(service, sizeof(service), "%u", port);
	rc = getaddrinfo(*host ? host : NULL, service, &hints, &found);
	if (rc)
		return fail(server, message, gai_strerror(rc));
	rc = bind_address(server, found);
	freeaddrinfo(found);
	return rc ? fail(server, message, strerror(errno)) : 0;
}

static int open_inherited(struct net_server *server, char message[256])
{
	int listening = 0;
	socklen_t len = sizeof(listening);
	uint64_t fd;

	if (parse_uint(server->options.listen + 3, 0, 65535, &fd) ||
	    getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) || !listening ||
	    fcntl((int)fd, F_SETFL, O_NONBLOCK) || fcntl((int)fd, F_SETFD, FD_CLOEXEC))
		return fail(server, message, "not a listening socket");
	server->listen_fd = (int)fd;
	return 0;
}

int listener_open(struct net_server *server, char message[256])
{
	struct sockaddr_storage at = {0};
	socklen_t len = sizeof(at);
	int error = strncmp(server->options.listen, "fd:", 3) ? open_address(server, message)
							      : open_inherited(server, message);

	if (error)
		return error;
	if (getsockname(server->listen_fd, (struct sockaddr *)&at, &len))
		return fail(server, message, strerror(errno));
	if (at.ss_family == AF_INET)
		server->port = ntohs(((struct sockaddr_in *)(void *)&at)->sin_port);
	else if (at.ss_family == AF_INET6)
		server->port = ntohs(((struct sockaddr_in6 *)(void *)&at)->sin6_port);
	server->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return 0;
}

/* The socket stays ready for as long as somebody waits, so the loop must not look. */
static void pause_accepting(struct net_server *server)
{
	const struct timeval pause = {.tv_usec = 100 * 1000};

	event_del(server->accept);
	evtimer_add(server->accept_again, &pause);
}

/* The reserve is spent to turn one client away instead of leaving it in the queue. */
static void out_of_descriptors(struct net_server *server)
{
	int fd;

	log_error("out_of_descriptors", "connections=%u", atomic_load(&server->connections));
	close(server->reserve_fd);
	fd = accept(server->listen_fd, NULL, NULL);
	if (fd >= 0)
		close(fd);
	server->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pause_accepting(server);
}

/*
 * Those that have not shown a certificate get half the places at most: they may
 * delay others that are new, not lock out who is known.
 */
static bool is_full(struct net_server *server)
{
	unsigned max = server->options.max_connections;

	return atomic_load(&server->connections) >= max ||
	       atomic_load(&server->handshaking) >= (max + 1) / 2;
}

static void accept_again(evutil_socket_t fd, short what, void *ctx)
{
	struct net_server *server = ctx;

	(void)fd;
	(void)what;
	event_add(server->accept, NULL);
}

static void take(struct net_server *server, int fd)
{
	atomic_fetch_add(&server->connections, 1);
	atomic_fetch_add(&server->handshaking, 1);
	atomic_fetch_add(&server->accepted, 1);
	handshake_begin(server, fd);
}

static void accept_ready(evutil_socket_t listener, short what, void *ctx)
{
	struct net_server *server = ctx;

	(void)what;
	for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
		int fd;

		if (is_full(server)) {
			pause_accepting(server);
			return;
		}
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			take(server, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			   errno == ENOMEM) {
			out_of_descriptors(server);
			return;
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

int listener_start(struct net_server *server)
{
	struct event_base *base = server->loops[LOBBY].base;

	server->accept =
		event_new(base, server->listen_fd, EV_READ | EV_PERSIST, accept_ready, server);
	server->accept_again = evtimer_new(base, accept_again, server);
	return server->accept && server->accept_again && !event_add(server->accept, NULL)
		       ? 0
		       : BM_ENOMEM;
}

void listener_stop(struct net_server *server)
{
	if (server->accept)
		event_free(server->accept);
	if (server->accept_again)
		event_free(server->accept_again);
	server->accept = server->accept_again = NULL;
	if (server->listen_fd >= 0 && server->owns_listen_fd)
		close(server->listen_fd);
	if (server->reserve_fd >= 0)
		close(server->reserve_fd);
	server->listen_fd = server->reserve_fd = -1;
}
