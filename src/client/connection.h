/*
 * One connection: TCP, TLS 1.3, an HTTP/2 session, and the loop that moves bytes
 * between them until a condition holds.
 *
 * Thread: one at a time.
 * Errors: BM_ENET, BM_ETLS, BM_EDEADLINE, BM_EPROTO, each with a text in fault.
 */
#ifndef CLIENT_CONNECTION_H
#define CLIENT_CONNECTION_H

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "biomatch/client.h"

/* A text for people about the last failure. */
struct fault {
	char text[BIOMATCH_MESSAGE_MAX];
};

/* Sets the text and gives the code back. */
int fault_set(struct fault *fault, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* As fault_set, followed by what OpenSSL queued. */
int fault_set_tls(struct fault *fault, const char *what);

struct target {
	char host[256], port[8];
	char authority[272];   /* as given, for :authority */
	char server_name[256]; /* what the server's certificate must say */
};

/* BM_EINVAL unless text is "host:port" or "[address]:port". */
int target_parse(const char *text, const char *server_name, struct target *out) BM_MUST_CHECK;
/* A connected, non-blocking socket. */
int target_dial(const struct target *target, int64_t deadline_ns, struct fault *fault,
		int *fd) BM_MUST_CHECK;

/* TLS 1.3 only, the client's certificate, the service's CA and no other. */
int tls_context_new(const struct biomatch_options *options, struct fault *fault,
		    SSL_CTX **out) BM_MUST_CHECK;

struct connection {
	int fd; /* -1 while closed */
	SSL *ssl;
	nghttp2_session *session;
	const uint8_t *out; /* the session's, until its next mem_send */
	size_t out_len;
	bool want_write; /* TLS waits for the socket to take more */
	bool has_wake;
	int wake_fd; /* with has_wake, ends what waits once it can be read: BM_ECANCELLED */
};

/* callbacks get no user data but that of their stream. */
int connection_open(struct connection *c, SSL_CTX *tls, const struct target *target,
		    const nghttp2_session_callbacks *callbacks, int64_t deadline_ns,
		    struct fault *fault) BM_MUST_CHECK;
void connection_close(struct connection *c);
/* Takes in what arrived meanwhile; true where a new call may still be sent. */
bool connection_usable(struct connection *c);
/* Sends and receives until *done. */
int connection_run(struct connection *c, const bool *done, int64_t deadline_ns,
		   struct fault *fault) BM_MUST_CHECK;

#endif
