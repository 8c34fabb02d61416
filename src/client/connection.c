#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/clock.h"

/* Replies are small; a window of this size never holds one back. */
#define STREAM_WINDOW (4 << 20)
#define READ_SIZE     (16 * 1024)

/* Waits for the socket to be ready as TLS asked. */
static int wait_ready(const struct connection *c, short events, int64_t deadline_ns,
		      struct fault *fault)
{
	struct pollfd p[2] = {{.fd = c->fd, .events = events},
			      {.fd = c->has_wake ? c->wake_fd : -1, .events = POLLIN}};
	int n, timeout;

	do {
		timeout = clock_poll_timeout(deadline_ns);
		n = poll(p, 2, timeout);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return fault_set(fault, BM_ENET, "cannot wait for the network: %s",
				 strerror(errno));
	if (p[1].revents)
		return fault_set(fault, BM_ECANCELLED, "the call was given up");
	/* A service that trickles bytes is late all the same. */
	if (!n || !timeout)
		return fault_set(fault, BM_EDEADLINE, "the service did not answer in time");
	return 0;
}

/*
 * True until the service has acknowledged the settings. In TLS 1.3 it judges the
 * client's certificate after the client is done, and may hang up without a word.
 */
static bool never_served(const struct connection *c)
{
	return c->session &&
	       nghttp2_session_get_local_settings(c->session, NGHTTP2_SETTINGS_ENABLE_PUSH) != 0;
}

/* What an SSL_* failure that is no WANT_* means. */
static int tls_lost(const struct connection *c, int ssl_error, struct fault *fault)
{
	long verify = SSL_get_verify_result(c->ssl);

	if (verify != X509_V_OK)
		return fault_set(fault, BM_ETLS, "the service's certificate is refused: %s",
				 X509_verify_cert_error_string(verify));
	if (ssl_error == SSL_ERROR_SSL &&
	    ERR_GET_REASON(ERR_peek_last_error()) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return fault_set_tls(fault, "the service refused the TLS connection");
	ERR_clear_error();
	if (never_served(c))
		return fault_set(fault, BM_ETLS,
				 "the service hung up at once; it may not trust the certificate");
	if (ssl_error == SSL_ERROR_SYSCALL && errno)
		return fault_set(fault, BM_ENET, "the connection was lost: %s", strerror(errno));
	return fault_set(fault, BM_ENET, "the service closed the connection");
}

static int set_server_name(SSL *ssl, const char *name)
{
	struct in6_addr address;

	if (inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static int handshake(struct connection *c, int64_t deadline_ns, struct fault *fault)
{
	const unsigned char *protocol;
	unsigned len;

	for (;;) {
		int error, result, ssl_error;

		ERR_clear_error();
		errno = 0;
		result = SSL_connect(c->ssl);
		if (result == 1)
			break;
		ssl_error = SSL_get_error(c->ssl, result);
		if (ssl_error != SSL_ERROR_WANT_READ && ssl_error != SSL_ERROR_WANT_WRITE)
			return tls_lost(c, ssl_error, fault);
		error = wait_ready(c, ssl_error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT,
				   deadline_ns, fault);
		if (error)
			return error;
	}
	SSL_get0_alpn_selected(c->ssl, &protocol, &len);
	if (len != 2 || memcmp(protocol, "h2", 2))
		return fault_set(fault, BM_ETLS, "the service does not speak HTTP/2");
	return 0;
}

static int start_session(struct connection *c, const nghttp2_session_callbacks *callbacks)
{
	static const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
	};

	if (nghttp2_session_client_new(&c->session, callbacks, NULL))
		return BM_ENOMEM;
	if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 2) ||
	    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, STREAM_WINDOW))
		return BM_ENOMEM;
	return 0;
}

int connection_open(struct connection *c, SSL_CTX *tls, const struct target *target,
		    const nghttp2_session_callbacks *callbacks, int64_t deadline_ns,
		    struct fault *fault)
{
	int error = target_dial(target, deadline_ns, fault, &c->fd);

	if (error)
		return error;
	error = fault_set(fault, BM_ENOMEM, "out of memory");
	c->ssl = SSL_new(tls);
	if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1 ||
	    !set_server_name(c->ssl, target->server_name))
		goto out;
	error = handshake(c, deadline_ns, fault);
	if (!error)
		error = start_session(c, callbacks);
out:
	if (error)
		connection_close(c);
	return error;
}

void connection_close(struct connection *c)
{
	if (c->fd < 0)
		return;
	nghttp2_session_del(c->session);
	if (c->ssl && SSL_is_init_finished(c->ssl))
		SSL_shutdown(c->ssl);
	SSL_free(c->ssl);
	close(c->fd);
	ERR_clear_error();
	*c = (struct connection){.fd = -1};
}

/* Writes until all is sent or the socket is full. */
static int flush(struct connection *c, struct fault *fault)
{
	c->want_write = false;
	for (;;) {
		size_t written;
		int ssl_error;

		if (!c->out_len) {
			ssize_t n = nghttp2_session_mem_send(c->session, &c->out);

			if (n < 0)
				return fault_set(fault, BM_EPROTO, "cannot send: %s",
						 nghttp2_strerror((int)n));
			if (!n)
				return 0;
			c->out_len = (size_t)n;
		}
		ERR_clear_error();
		errno = 0;
		if (SSL_write_ex(c->ssl, c->out, c->out_len, &written) == 1) {
			c->out += written;
			c->out_len -= written;
			continue;
		}
		ssl_error = SSL_get_error(c->ssl, 0);
		c->want_write = ssl_error == SSL_ERROR_WANT_WRITE;
		if (c->want_write || ssl_error == SSL_ERROR_WANT_READ)
			return 0;
		return tls_lost(c, ssl_error, fault);
	}
}

/* Reads until the socket is empty. */
static int receive(struct connection *c, struct fault *fault)
{
	uint8_t buffer[READ_SIZE];

	for (;;) {
		size_t len;
		ssize_t n;
		int ssl_error;

		ERR_clear_error();
		errno = 0;
		if (SSL_read_ex(c->ssl, buffer, sizeof(buffer), &len) != 1) {
			ssl_error = SSL_get_error(c->ssl, 0);
			if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE)
				return 0;
			return tls_lost(c, ssl_error, fault);
		}
		n = nghttp2_session_mem_recv(c->session, buffer, len);
		if (n < 0)
			return fault_set(fault, BM_EPROTO, "the service broke HTTP/2: %s",
					 nghttp2_strerror((int)n));
	}
}

bool connection_usable(struct connection *c)
{
	struct fault ignored;

	return c->fd >= 0 && !receive(c, &ignored) && !flush(c, &ignored) &&
	       nghttp2_session_check_request_allowed(c->session);
}

int connection_run(struct connection *c, const bool *done, int64_t deadline_ns, struct fault *fault)
{
	for (;;) {
		struct fault sending;
		int unsent = flush(c, &sending), error = receive(c, fault);

		/* What the service said before it hung up tells more than a failed write. */
		if (*done)
			return 0;
		if (!error && unsent) {
			*fault = sending;
			error = unsent;
		}
		if (!error && !c->want_write && nghttp2_session_want_write(c->session))
			continue;
		/* nghttp2 has said goodbye by itself. */
		if (!error && !nghttp2_session_want_read(c->session))
			error = fault_set(fault, BM_EPROTO, "the service broke HTTP/2");
		if (!error)
			error = wait_ready(c, c->want_write ? POLLIN | POLLOUT : POLLIN,
					   deadline_ns, fault);
		if (error)
			return error;
	}
}
