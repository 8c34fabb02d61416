/*
 * One thread, a fixed number of connections, one request on each. Memory is
 * asked for only while a page is rendered, so that whoever looks at a daemon that
 * is out of it is told so, and nothing else happens.
 */
#include "biomatch/console.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "biomatch/parse.h"

/* Further ones wait to be accepted. */
#define CONNECTIONS 16
/* Of a request's head. */
#define MAX_REQUEST 8192
#define MAX_HEAD    512
/* For a request to arrive and its answer to be taken. */
#define TIMEOUT_NS (10 * CLOCK_NS_PER_SEC)

enum state {
	FREE,
	READING,
	WRITING,
	ENDING, /* all is sent; what the client still sends is not looked at */
};

struct connection {
	enum state state;
	int fd;
	int64_t until_ns;
	size_t len; /* of the request */
	char request[MAX_REQUEST + 1];
	char head[MAX_HEAD];
	char *body;
	size_t head_len, body_len, sent;
};

struct console {
	struct console_options options;
	int listen_fd, stop_fd;
	uint16_t port;
	pthread_t thread;
	bool started;
	struct connection connections[CONNECTIONS];
};

static const char *status_text(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	default:
		return "Internal Server Error";
	}
}

/* A page that did not fit in memory is none: half of the metrics would be false ones. */
static int render(const struct console *console, const struct console_page *page,
		  struct connection *c)
{
	FILE *out = open_memstream(&c->body, &c->body_len);
	int status;
	bool whole;

	if (!out)
		return 500;
	status = page->render(console->options.ctx, out);
	whole = !ferror(out);
	/* Closing a stream that found no memory for its last bytes succeeds, with nothing in it. */
	if (!fclose(out) && whole && c->body)
		return status;
	free(c->body);
	c->body = NULL;
	c->body_len = 0;
	return 500;
}

static const struct console_page *find_page(const struct console *console, const char *path)
{
	for (size_t i = 0; i < console->options.n_pages; i++) {
		if (!strcmp(console->options.pages[i].path, path))
			return &console->options.pages[i];
	}
	return NULL;
}

/* Cuts the path out of the request line; gives the status where there is none to be shown. */
static int parse_request(char *request, const char **path)
{
	char *target = strchr(request, ' '), *end = strstr(request, "\r\n"), *version;

	if (!target || !end || target > end)
		return 400;
	*target++ = '\0';
	*end = '\0';
	version = strchr(target, ' ');
	if (*target != '/' || !version || strncmp(version, " HTTP/1.", 8))
		return 400;
	*version = '\0';
	target[strcspn(target, "?")] = '\0';
	*path = target;
	return strcmp(request, "GET") ? 405 : 200;
}

static void answer(const struct console *console, struct connection *c, int status)
{
	const struct console_page *page = NULL;
	const char *path;

	if (status == 200)
		status = parse_request(c->request, &path);
	if (status == 200) {
		page = find_page(console, path);
		status = page ? render(console, page, c) : 404;
	}
	c->head_len =
		(size_t)snprintf(c->head, sizeof(c->head),
				 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
				 "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
				 "Connection: close\r\n\r\n",
				 status, status_text(status), page ? page->type : "text/plain",
				 c->body_len, status == 405 ? "Allow: GET\r\n" : "");
	c->state = WRITING;
}

static void end(struct connection *c)
{
	close(c->fd);
	free(c->body);
	*c = (struct connection){.state = FREE};
}

/* True where a call on the socket is to be made again once it is ready. */
static bool must_wait(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void read_request(const struct console *console, struct connection *c)
{
	ssize_t n = recv(c->fd, c->request + c->len, MAX_REQUEST - c->len, 0);

	if (must_wait(n))
		return;
	if (n <= 0) {
		end(c);
		return;
	}
	c->len += (size_t)n;
	c->request[c->len] = '\0';
	if (strlen(c->request) < c->len)
		answer(console, c, 400);
	else if (strstr(c->request, "\r\n\r\n"))
		answer(console, c, 200);
	else if (c->len == MAX_REQUEST)
		answer(console, c, 431);
}

static void write_answer(struct connection *c)
{
	bool in_head = c->sent < c->head_len;
	const char *from = in_head ? c->head + c->sent : c->body + (c->sent - c->head_len);
	size_t left = (in_head ? c->head_len : c->head_len + c->body_len) - c->sent;
	ssize_t n = send(c->fd, from, left, MSG_NOSIGNAL);

	if (must_wait(n))
		return;
	if (n < 0) {
		end(c);
		return;
	}
	c->sent += (size_t)n;
	if (c->sent < c->head_len + c->body_len)
		return;
	/* To close with bytes unread would take the answer back. */
	shutdown(c->fd, SHUT_WR);
	c->state = ENDING;
}

static void read_rest(struct connection *c)
{
	ssize_t n = recv(c->fd, c->request, MAX_REQUEST, 0);

	if (n <= 0 && !must_wait(n))
		end(c);
}

static void serve(const struct console *console, struct connection *c)
{
	if (c->state == READING)
		read_request(console, c);
	else if (c->state == ENDING)
		read_rest(c);
	if (c->state == WRITING)
		write_answer(c);
}

static struct connection *find_free(struct console *console)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		if (console->connections[i].state == FREE)
			return &console->connections[i];
	}
	return NULL;
}

static void take_connection(struct console *console)
{
	struct connection *c = find_free(console);
	int fd = accept4(console->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	c->state = READING;
	c->fd = fd;
	c->until_ns = clock_monotonic_ns() + TIMEOUT_NS;
}

/* What to wait for; gives when the first connection's time is over. */
static int64_t prepare(struct console *console, struct pollfd fds[CONNECTIONS + 2])
{
	int64_t now = clock_monotonic_ns(), first = CLOCK_FOREVER;

	fds[0] = (struct pollfd){.fd = console->stop_fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = find_free(console) ? console->listen_fd : -1,
				 .events = POLLIN};
	for (int i = 0; i < CONNECTIONS; i++) {
		struct connection *c = &console->connections[i];

		if (c->state != FREE && now >= c->until_ns)
			end(c);
		fds[i + 2] = (struct pollfd){.fd = c->state == FREE ? -1 : c->fd,
					     .events = c->state == WRITING ? POLLOUT : POLLIN};
		if (c->state != FREE && c->until_ns < first)
			first = c->until_ns;
	}
	return first;
}

static void *run(void *ctx)
{
	struct console *console = ctx;
	struct pollfd fds[CONNECTIONS + 2];

	pthread_setname_np(pthread_self(), "console");
	for (;;) {
		int64_t until_ns = prepare(console, fds);
		int n = poll(fds, CONNECTIONS + 2, clock_poll_timeout(until_ns));

		if (n <= 0)
			continue;
		if (fds[0].revents)
			return NULL;
		for (int i = 0; i < CONNECTIONS; i++) {
			if (fds[i + 2].revents)
				serve(console, &console->connections[i]);
		}
		if (fds[1].revents)
			take_connection(console);
	}
}

static int fail(const struct console *console, char message[256], const char *why)
{
	snprintf(message, 256, "%.120s: %.100s", console->options.listen, why);
	return BM_ENET;
}

static int listen_at(struct console *console, const struct addrinfo *at)
{
	const int on = 1;
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return BM_ENET;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, CONNECTIONS)) {
		close(fd);
		return BM_ENET;
	}
	console->listen_fd = fd;
	return 0;
}

static int find_port(struct console *console)
{
	struct sockaddr_storage at = {0};
	socklen_t len = sizeof(at);

	if (getsockname(console->listen_fd, (struct sockaddr *)&at, &len))
		return BM_ENET;
	console->port =
		ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&at)->sin6_port
					       : ((struct sockaddr_in *)(void *)&at)->sin_port);
	return 0;
}

static int open_socket(struct console *console, char message[256])
{
	const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM,
					.ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	char host[PARSE_HOST_MAX + 1], service[8];
	struct addrinfo *found;
	uint16_t port;
	int rc, error;

	if (parse_address(console->options.listen, host, &port))
		return fail(console, message, "not of the form host:port");
	snprintf(service, sizeof(service), "%u", port);
	rc = getaddrinfo(*host ? host : NULL, service, &wanted, &found);
	if (rc)
		return fail(console, message, gai_strerror(rc));
	error = listen_at(console, found);
	freeaddrinfo(found);
	if (!error)
		error = find_port(console);
	return error ? fail(console, message, strerror(errno)) : 0;
}

static int start(struct console *console)
{
	sigset_t all, before;

	console->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (console->stop_fd < 0)
		return BM_ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	console->started = !pthread_create(&console->thread, NULL, run, console);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return console->started ? 0 : BM_ENOMEM;
}

int console_open(const struct console_options *options, struct console **out, char message[256])
{
	struct console *console = calloc(1, sizeof(*console));
	int error;

	if (!console)
		return BM_ENOMEM;
	console->options = *options;
	console->listen_fd = console->stop_fd = -1;
	error = open_socket(console, message);
	if (!error)
		error = start(console);
	if (error) {
		console_close(console);
		return error;
	}
	*out = console;
	return 0;
}

uint16_t console_port(const struct console *console)
{
	return console->port;
}

void console_close(struct console *console)
{
	const uint64_t one = 1;

	if (console->started) {
		if (write(console->stop_fd, &one, sizeof(one)) != sizeof(one))
			log_error("console_not_stopped", "reason=%s", strerror(errno));
		pthread_join(console->thread, NULL);
	}
	for (int i = 0; i < CONNECTIONS; i++) {
		if (console->connections[i].state != FREE)
			end(&console->connections[i]);
	}
	if (console->listen_fd >= 0)
		close(console->listen_fd);
	if (console->stop_fd >= 0)
		close(console->stop_fd);
	free(console);
}
