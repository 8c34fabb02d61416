#include "load.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"
#include "biomatch/wire.h"

#define PREFIX     5
#define REPLY_ROOM 256
#define OUT_ROOM   (64 * 1024)
#define FRAME_ROOM (17 * 1024)
#define WARM_UP_NS (300 * CLOCK_NS_PER_MS)
/* Longer than any answer takes: the machine was paused, or the server hangs. */
#define STUCK_MS 10000

struct load {
	SSL_CTX *tls;
	nghttp2_session_callbacks *callbacks;
	const char *path;
	uint8_t *request, *expected; /* framed */
	size_t request_len, expected_len;

	/* Of the run under way. */
	int64_t count_from_ns, count_to_ns;
	bool over;
	unsigned open; /* calls under way */
	uint64_t counted;
	uint32_t *took_ns;
	size_t room;
};

struct caller {
	int64_t began_ns;
	uint8_t reply[REPLY_ROOM];
	size_t reply_len, sent;
	bool http_ok, grpc_ok;
};

struct peer {
	struct load *load;
	int fd;
	SSL *ssl;
	nghttp2_session *session;
	struct caller *callers;
	uint8_t out[OUT_ROOM];
};

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void check(bool right, const char *what)
{
	if (!right)
		fail("%s", what);
}

static ssize_t read_request(nghttp2_session *session, int32_t stream, uint8_t *out, size_t room,
			    uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
	const struct load *load = ((const struct peer *)ctx)->load;
	struct caller *caller = source->ptr;
	size_t n = load->request_len - caller->sent;

	(void)session;
	(void)stream;
	n = n < room ? n : room;
	memcpy(out, load->request + caller->sent, n);
	caller->sent += n;
	if (caller->sent == load->request_len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

#define HEADER(name, value)                                                                        \
	{                                                                                          \
		(uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name),         \
			strlen(value),                                                             \
			NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE               \
	}

static void begin(struct peer *peer, struct caller *caller)
{
	const nghttp2_nv headers[] = {
		HEADER(":method", "POST"),         HEADER(":scheme", "https"),
		HEADER(":path", peer->load->path), HEADER(":authority", "localhost"),
		HEADER("te", "trailers"),          HEADER("content-type", "application/grpc"),
		HEADER("user-agent", "bench"),     HEADER("grpc-timeout", "5S"),
	};
	nghttp2_data_provider body = {.source.ptr = caller, .read_callback = read_request};

	*caller = (struct caller){.began_ns = clock_monotonic_ns()};
	peer->load->open++;
	check(nghttp2_submit_request(peer->session, NULL, headers,
				     sizeof(headers) / sizeof(headers[0]), &body, caller) > 0,
	      "cannot submit a request");
}

static bool is(const uint8_t *text, size_t len, const char *what)
{
	return len == strlen(what) && !memcmp(text, what, len);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *ctx)
{
	struct caller *caller = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void)flags;
	(void)ctx;
	if (is(name, name_len, ":status"))
		caller->http_ok = is(value, len, "200");
	else if (is(name, name_len, "grpc-status"))
		caller->grpc_ok = is(value, len, "0");
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t len, void *ctx)
{
	struct caller *caller = nghttp2_session_get_stream_user_data(session, stream);

	(void)flags;
	(void)ctx;
	check(len <= REPLY_ROOM - caller->reply_len, "an answer is too long");
	memcpy(caller->reply + caller->reply_len, data, len);
	caller->reply_len += len;
	return 0;
}

static void count(struct load *load, int64_t began_ns, int64_t ended_ns)
{
	if (began_ns < load->count_from_ns || ended_ns >= load->count_to_ns)
		return;
	if (load->counted == load->room) {
		load->room = load->room ? 2 * load->room : 1 << 16;
		load->took_ns = realloc(load->took_ns, load->room * sizeof(*load->took_ns));
		check(load->took_ns, "out of memory");
	}
	load->took_ns[load->counted++] = (uint32_t)(ended_ns - began_ns);
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *ctx)
{
	struct caller *caller = nghttp2_session_get_stream_user_data(session, stream);
	struct peer *peer = ctx;
	struct load *load = peer->load;

	if (code || !caller->http_ok || !caller->grpc_ok)
		fail("a call failed: HTTP/2 error %u, http %s, grpc %s", code,
		     caller->http_ok ? "200" : "failed", caller->grpc_ok ? "OK" : "failed");
	check(caller->reply_len == load->expected_len &&
		      !memcmp(caller->reply, load->expected, load->expected_len),
	      "an answer is wrong");
	count(load, caller->began_ns, clock_monotonic_ns());
	load->open--;
	if (!load->over)
		begin(peer, caller);
	return 0;
}

/* All that is to be sent, in one record. It is little: the socket takes it. */
static void flush(struct peer *peer)
{
	const uint8_t *data;
	size_t len, written;
	ssize_t n;

	do {
		len = 0;
		n = 1;
		while (n > 0 && len < OUT_ROOM - FRAME_ROOM) {
			n = nghttp2_session_mem_send(peer->session, &data);
			check(n >= 0 && (size_t)n <= FRAME_ROOM, "cannot send");
			memcpy(peer->out + len, data, (size_t)n);
			len += (size_t)n;
		}
		if (len && SSL_write_ex(peer->ssl, peer->out, len, &written) != 1)
			fail("cannot write");
	} while (n > 0);
}

static void receive(struct peer *peer)
{
	uint8_t in[16 * 1024];
	size_t len;

	do {
		if (SSL_read_ex(peer->ssl, in, sizeof(in), &len) != 1) {
			check(SSL_get_error(peer->ssl, 0) == SSL_ERROR_WANT_READ,
			      "the server hung up");
			return;
		}
		check(nghttp2_session_mem_recv(peer->session, in, len) == (ssize_t)len,
		      "the server broke HTTP/2");
	} while (SSL_has_pending(peer->ssl));
}

static SSL_CTX *tls_new(const char *pki, bool with_certificate)
{
	static const unsigned char alpn[] = "\x02h2";
	SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
	char path[512];

	check(tls && SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) == 1 &&
		      SSL_CTX_set_ciphersuites(tls, "TLS_AES_256_GCM_SHA384") == 1 &&
		      !SSL_CTX_set_alpn_protos(tls, alpn, sizeof(alpn) - 1),
	      "cannot set up TLS");
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_read_ahead(tls, 1);
	snprintf(path, sizeof(path), "%s/ca.pem", pki);
	check(SSL_CTX_load_verify_file(tls, path) == 1, path);
	if (!with_certificate)
		return tls;
	snprintf(path, sizeof(path), "%s/bench.pem", pki);
	check(SSL_CTX_use_certificate_chain_file(tls, path) == 1, path);
	snprintf(path, sizeof(path), "%s/bench.key", pki);
	check(SSL_CTX_use_PrivateKey_file(tls, path, SSL_FILETYPE_PEM) == 1, path);
	return tls;
}

static int dial(uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)) &&
		      !setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)),
	      "cannot connect");
	return fd;
}

static SSL *ssl_new(SSL_CTX *tls, int fd)
{
	SSL *ssl = SSL_new(tls);

	check(ssl && SSL_set_fd(ssl, fd) == 1 && SSL_set1_host(ssl, "localhost") == 1 &&
		      SSL_set_tlsext_host_name(ssl, "localhost") == 1,
	      "cannot set up TLS");
	return ssl;
}

static struct peer *peer_open(struct load *load, uint16_t port, unsigned streams)
{
	struct peer *peer = calloc(1, sizeof(*peer));

	check(peer, "out of memory");
	peer->load = load;
	peer->callers = calloc(streams, sizeof(*peer->callers));
	peer->fd = dial(port);
	peer->ssl = ssl_new(load->tls, peer->fd);
	check(peer->callers && SSL_connect(peer->ssl) == 1, "no TLS connection");
	check(!fcntl(peer->fd, F_SETFL, O_NONBLOCK), "cannot connect");
	check(!nghttp2_session_client_new(&peer->session, load->callbacks, peer) &&
		      !nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, NULL, 0),
	      "no HTTP/2 session");
	return peer;
}

static void peer_close(struct peer *peer)
{
	nghttp2_session_del(peer->session);
	SSL_shutdown(peer->ssl);
	SSL_free(peer->ssl);
	close(peer->fd);
	free(peer->callers);
	free(peer);
}

static int64_t cpu_ns(clockid_t clock)
{
	struct timespec t;

	check(!clock_gettime(clock, &t), "the server is gone");
	return t.tv_sec * CLOCK_NS_PER_SEC + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* One round: whoever was answered asks again. */
static void turn(int epoll)
{
	struct epoll_event events[64];
	int n = epoll_wait(epoll, events, 64, STUCK_MS);

	check(n > 0, "the server does not answer");
	for (int i = 0; i < n; i++) {
		receive(events[i].data.ptr);
		flush(events[i].data.ptr);
	}
}

/* The times of processors and clock while calls are counted. */
struct span {
	clockid_t server;
	int64_t ns, server_ns, own_ns;
};

static void span_move(struct span *span, int sign)
{
	span->ns += sign * clock_monotonic_ns();
	span->server_ns += sign * cpu_ns(span->server);
	span->own_ns += sign * cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static struct span ask(struct load *load, int epoll, pid_t server, unsigned ms)
{
	int64_t from_ns = clock_monotonic_ns() + WARM_UP_NS;
	struct span span = {0};

	check(!clock_getcpuclockid(server, &span.server), "the server is gone");
	load->counted = 0;
	load->count_from_ns = load->count_to_ns = INT64_MAX;
	while (clock_monotonic_ns() < from_ns)
		turn(epoll);
	load->count_from_ns = clock_monotonic_ns();
	span_move(&span, -1);
	while (clock_monotonic_ns() < load->count_from_ns + ms * CLOCK_NS_PER_MS)
		turn(epoll);
	span_move(&span, 1);
	load->over = true;
	load->count_to_ns = 0;
	while (load->open)
		turn(epoll);
	return span;
}

static struct load_result sum_up(struct load *load, const struct span *span)
{
	double n = (double)load->counted;

	check(load->counted, "no call was answered in time");
	qsort(load->took_ns, load->counted, sizeof(*load->took_ns), by_size);
	return (struct load_result){
		.rate = n * 1e9 / (double)span->ns,
		.server_us = (double)span->server_ns / 1e3 / n,
		.p50_us = load->took_ns[load->counted / 2] / 1e3,
		.p99_us = load->took_ns[(size_t)(0.99 * (n - 1))] / 1e3,
		.server_busy = (double)span->server_ns / (double)span->ns,
		.busy = (double)span->own_ns / (double)span->ns,
	};
}

struct load_result load_run(struct load *load, const struct load_server *server,
			    struct load_shape shape, unsigned ms)
{
	struct peer **peers = calloc(shape.connections, sizeof(*peers));
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct span span;

	check(peers && epoll >= 0, "out of memory");
	load->over = false;
	for (unsigned i = 0; i < shape.connections; i++) {
		struct epoll_event event = {.events = EPOLLIN};

		peers[i] = peer_open(load, server->port, shape.streams);
		event.data.ptr = peers[i];
		check(!epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i]->fd, &event), "epoll");
	}
	for (unsigned i = 0; i < shape.connections; i++) {
		for (unsigned k = 0; k < shape.streams; k++)
			begin(peers[i], &peers[i]->callers[k]);
		flush(peers[i]);
	}
	span = ask(load, epoll, server->pid, ms);
	for (unsigned i = 0; i < shape.connections; i++)
		peer_close(peers[i]);
	free(peers);
	close(epoll);
	return sum_up(load, &span);
}

static uint8_t *frame(const ProtobufCMessage *message, size_t *len)
{
	size_t packed = protobuf_c_message_get_packed_size(message);
	uint8_t *out = calloc(1, PREFIX + packed);

	check(out, "out of memory");
	bytes_put_be32(out + 1, (uint32_t)packed);
	*len = PREFIX + protobuf_c_message_pack(message, out + PREFIX);
	return out;
}

struct load *load_open(const char *pki, const char *path, const ProtobufCMessage *request,
		       const ProtobufCMessage *expected)
{
	struct load *load = calloc(1, sizeof(*load));

	check(load && !nghttp2_session_callbacks_new(&load->callbacks), "out of memory");
	load->path = path;
	load->tls = tls_new(pki, true);
	load->request = frame(request, &load->request_len);
	load->expected = frame(expected, &load->expected_len);
	nghttp2_session_callbacks_set_on_header_callback(load->callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(load->callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(load->callbacks, on_close);
	return load;
}

void load_close(struct load *load)
{
	nghttp2_session_callbacks_del(load->callbacks);
	SSL_CTX_free(load->tls);
	free(load->request);
	free(load->expected);
	free(load->took_ns);
	free(load);
}

void load_check_refusal(const char *pki, const struct load_server *server)
{
	SSL_CTX *tls = tls_new(pki, false);
	int fd = dial(server->port);
	SSL *ssl = ssl_new(tls, fd);
	size_t len;
	uint8_t byte;

	/* In TLS 1.3 the client is done before the server has judged it. */
	if (SSL_connect(ssl) == 1 && SSL_read_ex(ssl, &byte, 1, &len) == 1)
		fail("the server on port %u takes clients without a certificate", server->port);
	ERR_clear_error();
	SSL_free(ssl);
	close(fd);
	SSL_CTX_free(tls);
}
