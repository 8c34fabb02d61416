#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/parse.h"
#include "connection.h"

int fault_set(struct fault *fault, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(fault->text, sizeof(fault->text), format, args);
	va_end(args);
	return code;
}

static int copy_name(char *out, size_t room, const char *s, size_t len)
{
	if (!len || len >= room)
		return BM_EINVAL;
	memcpy(out, s, len);
	out[len] = '\0';
	return 0;
}

int target_parse(const char *text, const char *server_name, struct target *out)
{
	const char *colon = strrchr(text, ':'), *host = text, *end = colon;
	uint64_t port;

	if (!colon || parse_uint(colon + 1, 1, 65535, &port))
		return BM_EINVAL;
	if (text[0] == '[') {
		host++;
		end = colon - 1;
		if (end < host || *end != ']')
			return BM_EINVAL;
	} else if (memchr(text, ':', (size_t)(colon - text))) {
		return BM_EINVAL;
	}
	if (copy_name(out->host, sizeof(out->host), host, (size_t)(end - host)) ||
	    copy_name(out->port, sizeof(out->port), colon + 1, strlen(colon + 1)) ||
	    copy_name(out->authority, sizeof(out->authority), text, strlen(text)))
		return BM_EINVAL;
	if (!server_name)
		server_name = out->host;
	return copy_name(out->server_name, sizeof(out->server_name), server_name,
			 strlen(server_name));
}

/* 0, or the errno of the attempt. */
static int finish_connect(int fd, int64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int n, result = 0;

	do
		n = poll(&p, 1, clock_poll_timeout(deadline_ns));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno;
	if (!n)
		return ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &result, &len) ? errno : result;
}

static int connect_one(const struct addrinfo *address, int64_t deadline_ns, int *out)
{
	int on = 1, failed = 0;
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	if (connect(fd, address->ai_addr, address->ai_addrlen))
		failed = errno == EINPROGRESS ? finish_connect(fd, deadline_ns) : errno;
	/* The last frame of a request must not wait for the answer to the one before. */
	if (!failed && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		failed = errno;
	if (failed)
		close(fd);
	else
		*out = fd;
	return failed;
}

int target_dial(const struct target *target, int64_t deadline_ns, struct fault *fault, int *fd)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
	int failed = getaddrinfo(target->host, target->port, &hints, &list);

	if (failed)
		return fault_set(fault, BM_ENET, "cannot find the host %s: %s", target->host,
				 gai_strerror(failed));
	failed = EADDRNOTAVAIL;
	for (const struct addrinfo *a = list; a && failed; a = a->ai_next)
		failed = connect_one(a, deadline_ns, fd);
	freeaddrinfo(list);
	if (failed)
		return fault_set(fault, BM_ENET, "cannot connect to %s: %s", target->authority,
				 strerror(failed));
	return 0;
}
