#include "biomatch/console.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "biomatch/log.h"
#include "biomatch/parse.h"

#define MAX_HEADERS 8192
/* For a request to arrive, and for its answer to be taken. */
#define TIMEOUT_S 10

#define CONTENT_POLICY                                                                             \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "                \
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

struct console {
	struct console_options options;
	struct event_base *base;
	struct evhttp *http;
	struct event *stop;
	int stop_fd;
	uint16_t port;
	pthread_t thread;
	bool started;
};

static int render(const struct console *console, const struct console_page *page,
		  struct evbuffer *body)
{
	char *text = NULL;
	size_t len = 0;
	int status = HTTP_INTERNAL;
	FILE *out;

	if (!page->render)
		return evbuffer_add(body, page->content.data, page->content.len) ? HTTP_INTERNAL
										 : HTTP_OK;
	out = open_memstream(&text, &len);
	if (!out)
		return HTTP_INTERNAL;
	status = page->render(console->options.ctx, out);
	if (fclose(out) || evbuffer_add(body, text, len))
		status = HTTP_INTERNAL;
	free(text);
	return status;
}

static const struct console_page *find_page(const struct console *console, const char *path)
{
	for (size_t i = 0; path && i < console->options.n_pages; i++) {
		if (!strcmp(console->options.pages[i].path, path))
			return &console->options.pages[i];
	}
	return NULL;
}

static void answer(struct evhttp_request *request, void *ctx)
{
	const struct console *console = ctx;
	const struct console_page *page =
		find_page(console, evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request)));
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	struct evbuffer *body = evbuffer_new();
	int status = HTTP_NOTFOUND;

	if (!body) {
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
		return;
	}
	if (page) {
		status = render(console, page, body);
		evhttp_add_header(headers, "Content-Type", page->type);
	}
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(headers, "Content-Security-Policy", CONTENT_POLICY);
	evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
	evhttp_send_reply(request, status, NULL, body);
	evbuffer_free(body);
}

static int fail(const struct console *console, char message[256], const char *why)
{
	snprintf(message, 256, "%.120s: %.100s", console->options.listen, why);
	return BM_ENET;
}

static int listen_at(struct console *console, char message[256])
{
	char host[PARSE_HOST_MAX + 1];
	struct sockaddr_storage at = {0};
	socklen_t len = sizeof(at);
	struct evhttp_bound_socket *bound;
	uint16_t port;

	if (parse_address(console->options.listen, host, &port))
		return fail(console, message, "not of the form host:port");
	bound = evhttp_bind_socket_with_handle(console->http, *host ? host : NULL, port);
	if (!bound)
		return fail(console, message, strerror(errno));
	if (getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&at, &len))
		return fail(console, message, strerror(errno));
	console->port =
		/* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): getsockname() wrote it. */
		ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&at)->sin6_port
					       : ((struct sockaddr_in *)(void *)&at)->sin_port);
	return 0;
}

static void stop(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	event_base_loopbreak(((struct console *)ctx)->base);
}

static void *run(void *ctx)
{
	struct console *console = ctx;

	pthread_setname_np(pthread_self(), "console");
	event_base_dispatch(console->base);
	return NULL;
}

static int start(struct console *console)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	console->started = !pthread_create(&console->thread, NULL, run, console);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return console->started ? 0 : BM_ENOMEM;
}

static int open_http(struct console *console)
{
	console->base = event_base_new();
	console->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!console->base || console->stop_fd < 0)
		return BM_ENOMEM;
	console->stop = event_new(console->base, console->stop_fd, EV_READ, stop, console);
	console->http = evhttp_new(console->base);
	if (!console->stop || !console->http || event_add(console->stop, NULL))
		return BM_ENOMEM;
	evhttp_set_allowed_methods(console->http, EVHTTP_REQ_GET);
	evhttp_set_max_headers_size(console->http, MAX_HEADERS);
	evhttp_set_max_body_size(console->http, 0);
	evhttp_set_timeout(console->http, TIMEOUT_S);
	evhttp_set_gencb(console->http, answer, console);
	return 0;
}

int console_open(const struct console_options *options, struct console **out, char message[256])
{
	struct console *console = calloc(1, sizeof(*console));
	int error;

	if (!console)
		return BM_ENOMEM;
	console->options = *options;
	console->stop_fd = -1;
	error = open_http(console);
	if (!error)
		error = listen_at(console, message);
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
	if (console->http)
		evhttp_free(console->http);
	if (console->stop)
		event_free(console->stop);
	if (console->base)
		event_base_free(console->base);
	if (console->stop_fd >= 0)
		close(console->stop_fd);
	free(console);
}
