/*
 * An HTTP/2 client that writes its frames itself, so that it can also write what
 * no client should. It reads, answers SETTINGS and obeys flow control wherever
 * it waits.
 */
#ifndef TEST_NET_H2CLIENT_H
#define TEST_NET_H2CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"

#define CLIENT_STREAMS 64
#define CLIENT_WAIT_NS (8 * CLOCK_NS_PER_SEC)
#define CLIENT_FRAME   16384

enum {
	F_DATA,
	F_HEADERS,
	F_PRIORITY,
	F_RST_STREAM,
	F_SETTINGS,
	F_PUSH_PROMISE,
	F_PING,
	F_GOAWAY,
	F_WINDOW_UPDATE,
	F_CONTINUATION,
};
#define END_STREAM  0x1
#define END_HEADERS 0x4
#define ACK         0x1

/* What came back on a stream. */
struct answer {
	char headers[2048]; /* "name: value\n", trailers behind the headers */
	uint8_t *body;
	size_t len;
	unsigned blocks; /* of headers */
	bool ended, reset;
	uint32_t reset_code;
	int64_t window; /* what may still be sent */
};

struct client {
	SSL_CTX *tls;
	SSL *ssl;
	int fd;
	nghttp2_hd_inflater *inflater;
	uint8_t in[1 << 16];
	size_t in_len;
	bool shut; /* the server closed the connection, or broke it */
	bool keeps_windows;
	int64_t window;
	struct answer answers[CLIENT_STREAMS]; /* by stream id / 2 */
	unsigned settings, pings, goaways;
	int32_t last_stream;
	uint32_t goaway_code;
};

static inline struct answer *client_answer(struct client *c, int32_t stream)
{
	assert_true(stream > 0 && stream / 2 < CLIENT_STREAMS);
	return &c->answers[stream / 2];
}

static inline void client_wait_socket(struct client *c, short events, int64_t until)
{
	struct pollfd p = {.fd = c->fd, .events = events};

	(void)poll(&p, 1, clock_poll_timeout(until));
}

/* Connects a socket and makes the TLS objects; no byte is sent. */
static inline struct client *client_new(uint16_t port, const char *dir, const char *name,
					int version)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct client *c = calloc(1, sizeof(*c));
	const int on = 1;
	char path[512];

	assert_non_null(c);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(c->fd >= 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
	assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
	c->tls = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(c->tls, version);
	SSL_CTX_set_mode(c->tls,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (name) {
		snprintf(path, sizeof(path), "%s/%s.pem", dir, name);
		assert_int_equal(SSL_CTX_use_certificate_chain_file(c->tls, path), 1);
		snprintf(path, sizeof(path), "%s/%s.key", dir, name);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(c->tls, path, SSL_FILETYPE_PEM), 1);
	}
	c->ssl = SSL_new(c->tls);
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_alpn_protos(c->ssl, (const unsigned char *)"\x02h2", 3);
	assert_int_equal(nghttp2_hd_inflate_new(&c->inflater), 0);
	c->window = 65535;
	return c;
}

static inline void client_free(struct client *c)
{
	for (int i = 0; i < CLIENT_STREAMS; i++)
		free(c->answers[i].body);
	nghttp2_hd_inflate_del(c->inflater);
	SSL_free(c->ssl);
	SSL_CTX_free(c->tls);
	close(c->fd);
	free(c);
}

static inline bool client_handshake(struct client *c)
{
	int64_t until = clock_monotonic_ns() + CLIENT_WAIT_NS;

	for (;;) {
		int rc, error;

		ERR_clear_error();
		rc = SSL_connect(c->ssl);
		if (rc == 1)
			return true;
		error = SSL_get_error(c->ssl, rc);
		if (error == SSL_ERROR_WANT_READ)
			client_wait_socket(c, POLLIN, until);
		else if (error == SSL_ERROR_WANT_WRITE)
			client_wait_socket(c, POLLOUT, until);
		else
			return false;
		assert_true(clock_monotonic_ns() < until);
	}
}

static inline void client_read(struct client *c);

/* Sends bytes; reads meanwhile where the server does not take them. */
static inline void client_write(struct client *c, const void *data, size_t len)
{
	int64_t until = clock_monotonic_ns() + CLIENT_WAIT_NS;

	for (size_t sent = 0; sent < len && !c->shut;) {
		int n;

		ERR_clear_error();
		n = SSL_write(c->ssl, (const uint8_t *)data + sent, (int)(len - sent));
		if (n > 0) {
			sent += (size_t)n;
			continue;
		}
		if (SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_WRITE) {
			c->shut = true;
			return;
		}
		client_read(c);
		if (!c->shut)
			client_wait_socket(c, POLLIN | POLLOUT, until);
		assert_true(clock_monotonic_ns() < until);
	}
}

static inline size_t put_head(uint8_t *out, uint32_t len, uint8_t type, uint8_t flags,
			      int32_t stream)
{
	bytes_put_be32(out, len << 8);
	out[3] = type;
	out[4] = flags;
	bytes_put_be32(out + 5, (uint32_t)stream);
	return 9;
}

static inline void client_frame(struct client *c, uint8_t type, uint8_t flags, int32_t stream,
				const void *payload, size_t len)
{
	uint8_t *frame = malloc(9 + len);

	assert_non_null(frame);
	put_head(frame, (uint32_t)len, type, flags, stream);
	if (len)
		memcpy(frame + 9, payload, len);
	client_write(c, frame, 9 + len);
	free(frame);
}

static inline void client_update_window(struct client *c, int32_t stream, uint32_t by)
{
	uint8_t payload[4];

	bytes_put_be32(payload, by);
	client_frame(c, F_WINDOW_UPDATE, 0, stream, payload, sizeof(payload));
}

static inline void take_headers(struct client *c, struct answer *answer, uint8_t *block, size_t len)
{
	size_t have = strlen(answer->headers);

	answer->blocks++;
	for (;;) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t n = nghttp2_hd_inflate_hd2(c->inflater, &nv, &flags, block, len, 1);

		assert_true(n >= 0);
		block += n;
		len -= (size_t)n;
		if (flags & NGHTTP2_HD_INFLATE_EMIT)
			have += (size_t)snprintf(answer->headers + have,
						 sizeof(answer->headers) - have, "%s: %s\n",
						 nv.name, nv.value);
		assert_true(have < sizeof(answer->headers));
		if (flags & NGHTTP2_HD_INFLATE_FINAL) {
			nghttp2_hd_inflate_end_headers(c->inflater);
			return;
		}
		if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && !len)
			return;
	}
}

static inline void take_data(struct client *c, int32_t stream, const uint8_t *data, size_t len)
{
	struct answer *answer = client_answer(c, stream);

	if (!len)
		return;
	answer->body = realloc(answer->body, answer->len + len);
	memcpy(answer->body + answer->len, data, len);
	answer->len += len;
	if (!c->keeps_windows) {
		client_update_window(c, 0, (uint32_t)len);
		client_update_window(c, stream, (uint32_t)len);
	}
}

static inline void take_settings(struct client *c, const uint8_t *payload, size_t len)
{
	for (size_t i = 0; i + 6 <= len; i += 6) {
		if (payload[i + 1] != NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE)
			continue;
		for (int s = 0; s < CLIENT_STREAMS; s++)
			c->answers[s].window += bytes_get_be32(payload + i + 2) - 65535;
	}
	c->settings++;
	client_frame(c, F_SETTINGS, ACK, 0, NULL, 0);
}

static inline void take_frame(struct client *c, uint8_t *frame, size_t len)
{
	int32_t stream = (int32_t)bytes_get_be32(frame + 5);
	uint8_t *payload = frame + 9;

	switch (frame[3]) {
	case F_DATA:
		take_data(c, stream, payload, len);
		break;
	case F_HEADERS:
		take_headers(c, client_answer(c, stream), payload, len);
		break;
	case F_RST_STREAM:
		client_answer(c, stream)->reset = true;
		client_answer(c, stream)->reset_code = bytes_get_be32(payload);
		break;
	case F_SETTINGS:
		if (!(frame[4] & ACK))
			take_settings(c, payload, len);
		break;
	case F_PING:
		c->pings += frame[4] & ACK;
		break;
	case F_GOAWAY:
		c->goaways++;
		c->last_stream = (int32_t)bytes_get_be32(payload);
		c->goaway_code = bytes_get_be32(payload + 4);
		break;
	case F_WINDOW_UPDATE:
		*(stream ? &client_answer(c, stream)->window : &c->window) +=
			bytes_get_be32(payload);
		break;
	}
	if (frame[3] <= F_HEADERS && frame[4] & END_STREAM)
		client_answer(c, stream)->ended = true;
}

/* Takes what is there. */
static inline void client_read(struct client *c)
{
	while (!c->shut) {
		size_t at = 0;
		int n;

		ERR_clear_error();
		n = SSL_read(c->ssl, c->in + c->in_len, (int)(sizeof(c->in) - c->in_len));
		if (n <= 0) {
			if (SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ)
				return;
			c->shut = true;
			return;
		}
		c->in_len += (size_t)n;
		while (c->in_len - at >= 9) {
			size_t len = bytes_get_be32(c->in + at) >> 8;

			if (c->in_len - at < 9 + len)
				break;
			take_frame(c, c->in + at, len);
			at += 9 + len;
		}
		memmove(c->in, c->in + at, c->in_len - at);
		c->in_len -= at;
	}
}

/* Reads until the condition holds or the connection is closed; fails after too long. */
#define CLIENT_UNTIL(c, condition)                                                                 \
	do {                                                                                       \
		int64_t until_ = clock_monotonic_ns() + CLIENT_WAIT_NS;                            \
                                                                                                   \
		client_read(c);                                                                    \
		while (!(condition) && !(c)->shut) {                                               \
			client_wait_socket(c, POLLIN, until_);                                     \
			client_read(c);                                                            \
			assert_true(clock_monotonic_ns() < until_);                                \
		}                                                                                  \
	} while (0)

/* Preface and settings; the stream windows are the default until the server's come. */
static inline void client_greet(struct client *c)
{
	for (int i = 0; i < CLIENT_STREAMS; i++)
		c->answers[i].window = 65535;
	client_write(c, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
	client_frame(c, F_SETTINGS, 0, 0, NULL, 0);
	CLIENT_UNTIL(c, c->settings);
}

static inline size_t put_header(uint8_t *out, const char *name, const char *value)
{
	size_t n = 0, name_len = strlen(name), len = strlen(value);

	assert_true(name_len < 127 && len < 127);
	out[n++] = 0; /* a literal that enters no table */
	out[n++] = (uint8_t)name_len;
	memcpy(out + n, name, name_len);
	n += name_len;
	out[n++] = (uint8_t)len;
	memcpy(out + n, value, len);
	return n + len;
}

/* extra: names and values in turn, NULL at the end. A name given again replaces its default. */
static inline size_t client_header_block(uint8_t *out, const char *path, const char *const *extra)
{
	const char *fields[][2] = {
		{":method", "POST"},
		{":scheme", "https"},
		{":path", path},
		{":authority", "localhost"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	};
	size_t n = 0;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		for (size_t j = 0; extra && extra[j]; j += 2) {
			if (!strcmp(extra[j], fields[i][0]))
				fields[i][1] = extra[j + 1];
		}
		n += put_header(out + n, fields[i][0], fields[i][1]);
	}
	for (size_t j = 0; extra && extra[j]; j += 2) {
		bool given = false;

		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
			given = given || !strcmp(extra[j], fields[i][0]);
		if (!given)
			n += put_header(out + n, extra[j], extra[j + 1]);
	}
	return n;
}

static inline void client_request(struct client *c, int32_t stream, const char *path,
				  const char *const *extra)
{
	uint8_t block[4096];

	client_frame(c, F_HEADERS, END_HEADERS, stream, block,
		     client_header_block(block, path, extra));
}

/* DATA within the windows; stops early when the stream or the connection ends. */
static inline void client_data(struct client *c, int32_t stream, const uint8_t *data, size_t len,
			       bool end)
{
	struct answer *answer = client_answer(c, stream);
	size_t sent = 0;

	do {
		int64_t n = (int64_t)(len - sent);

		if (n)
			CLIENT_UNTIL(c, (c->window > 0 && answer->window > 0) || answer->reset ||
						answer->ended);
		if (c->shut || answer->reset || answer->ended)
			return;
		n = n > c->window ? c->window : n;
		n = n > answer->window ? answer->window : n;
		n = n > CLIENT_FRAME ? CLIENT_FRAME : n;
		c->window -= n;
		answer->window -= n;
		sent += (size_t)n;
		client_frame(c, F_DATA, end && sent == len ? END_STREAM : 0, stream,
			     data + sent - n, (size_t)n);
	} while (sent < len);
}

/* One gRPC message. */
static inline void client_message(struct client *c, int32_t stream, const void *data, size_t len,
				  bool end)
{
	uint8_t *framed = calloc(1, 5 + len);

	assert_non_null(framed);
	bytes_put_be32(framed + 1, (uint32_t)len);
	if (len)
		memcpy(framed + 5, data, len);
	client_data(c, stream, framed, 5 + len, end);
	free(framed);
}

static inline bool client_has(struct client *c, int32_t stream, const char *line)
{
	return strstr(client_answer(c, stream)->headers, line) != NULL;
}

/* The whole answer to a call; the connection must stay. */
static inline struct answer *client_end(struct client *c, int32_t stream)
{
	struct answer *answer = client_answer(c, stream);

	CLIENT_UNTIL(c, answer->ended || answer->reset);
	assert_false(c->shut && !answer->ended);
	return answer;
}

#endif
