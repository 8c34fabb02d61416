/*
 * A server's loops, connections and calls. A connection, its TLS and HTTP/2
 * sessions and its calls are touched by its loop's thread alone; other threads
 * reach them through the loop's inbox. Of a call they may read what is fixed at
 * its opening, and the cancelled flag.
 */
#ifndef NET_CONN_H
#define NET_CONN_H

#include <event2/event.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "biomatch/clock.h"
#include "biomatch/net.h"
#include "biomatch/pulse.h"
#include "grpc.h"
#include "meter.h"

/* What a loop is asked by other threads. */
enum post_kind {
	POST_CONNECTION,
	POST_SEND,
	POST_FINISH,
	POST_RECHECK,
	POST_DRAIN,
	POST_CLOSE_ALL,
	POST_STOP
};

struct post {
	struct post *next;
	enum post_kind kind;
	bool is_heap; /* else part of who posts it: what must not fail for want of memory */
	struct conn *conn;
	struct net_call *call;
	uint8_t *data; /* a message; or details in base64 */
	size_t len;
	enum grpc_status code;
	char *message; /* percent-encoded */
};

/* Room for several frames of the largest size a peer may ask for by default. */
#define LOOP_SCRATCH       (64 * 1024)
#define LOOP_LARGEST_FRAME (16 * 1024 + 9)

/* The first loop accepts and shakes hands, behind the others; the rest serve. */
#define LOBBY 0

struct loop {
	struct net_server *server;
	struct event_base *base;
	struct event *wake, *sweep;
	int wake_fd;
	pthread_t thread;
	bool started, draining, closing;
	struct pulse pulse; /* each sweep */
	struct conn *conns;
	struct conn *touched; /* with something to send when the inbox is done */
	/* What peers make the loop log, so that a flood of them does not flood the log. */
	int64_t log_second;
	unsigned logged;
	unsigned long unlogged;
	pthread_mutex_t lock; /* inbox */
	struct post *inbox, **inbox_tail;
	struct post recheck, drain, close_all, stop;
	atomic_bool recheck_posted;
	/* Bytes between socket and HTTP/2, for one connection at a time. */
	uint8_t scratch[LOOP_SCRATCH];
};

struct net_server {
	struct net_options options;
	struct net_handler handler;
	struct loop *loops; /* n_loops, options.threads and the lobby */
	unsigned n_loops;
	unsigned next_loop; /* the lobby's own */
	int listen_fd, reserve_fd;
	bool owns_listen_fd;
	uint16_t port;
	struct event *accept, *accept_again;
	pthread_mutex_t tls_lock;
	SSL_CTX *tls;

	pthread_mutex_t lock; /* for the wait of drain */
	pthread_cond_t emptied;
	atomic_uint connections, handshaking, calls_open;
	atomic_ullong accepted, handshakes, handshake_failures, revoked, calls;
	atomic_ullong bytes_held, rests;
};

/* A message on its way out, framed. */
struct chunk {
	struct chunk *next;
	size_t len, sent;
	uint8_t data[];
};

struct net_call {
	struct loop *loop;
	struct conn *conn; /* NULL once the stream or the connection is gone */
	struct net_call *prev, *next;
	int32_t stream;
	void *state;   /* the handler's; NULL when it has not opened the call */
	bool finished; /* the handler finished it */
	bool answered; /* its end is on its way, or cannot be sent any more */
	atomic_bool cancelled;
	atomic_bool lost;     /* a message of the answer, for want of memory */
	atomic_size_t unsent; /* bytes of messages that the handler gave and HTTP/2 has not taken */
	struct post end;

	struct net_peer peer;
	char traceparent[NET_TRACEPARENT_LEN + 1];
	int64_t deadline_ns;
	int64_t upload_until_ns; /* for the message that is on its way, or the first */
	struct event *deadline;

	/* The request. */
	char *path;
	size_t header_bytes, headers;
	bool is_grpc, is_post, encoded, bad_timeout, too_large, begun, half_closed;
	struct grpc_reader reader;
	bool got_message;
	size_t held;     /* of the reader's room, counted */
	size_t reserved; /* of the connection's bytes, for the message on its way */
	size_t owed;     /* bytes taken that the stream's window has not got back */

	/* The response. */
	bool headers_sent, trailers_sent;
	struct chunk *out, **out_tail;
	int64_t moved_ns; /* when the client last took some, or there first was some */
	enum grpc_status code;
	char *status_message, *details;
};

struct conn {
	struct loop *loop;
	struct conn *prev, *next, *next_touched;
	int fd;
	SSL *ssl;
	nghttp2_session *session; /* NULL during the handshake */
	struct event *readable, *writable;
	struct event *again; /* comes back to it without its socket */
	struct post enter;
	struct net_call *calls;
	unsigned n_calls;
	struct net_peer peer;
	int64_t accepted_ns, idle_since_ns, stalled_since_ns, drained_ns;
	int64_t over_ns; /* when the last was sent */
	struct net_meter meter;
	bool closing, goaway_sent, write_blocked, touched;
	bool read_paused; /* as the peer does not read */
	bool resting;     /* having had more than its share of the loop */
	bool watched;     /* readable is added */
	uint64_t bytes_held;
	size_t reserved;  /* for messages being received */
	uint8_t *pending; /* what the socket did not take */
	size_t pending_len, pending_sent;
};

/* tls.c */
int tls_context(const struct net_options *options, SSL_CTX **out, char message[256]) BM_MUST_CHECK;
/* When the first of the client CAs ends. */
int64_t tls_client_ca_ends_ms(SSL_CTX *tls);
/* Milliseconds since 1970; 0 for a time that is none. */
int64_t tls_time_ms(const ASN1_TIME *time);
/* Reads who is at the other end. */
int tls_peer(SSL *ssl, struct net_peer *out) BM_MUST_CHECK;

/* revocation.c */
/*
 * Adds the lists of the CRL file, where there is one, to the client CAs and has
 * every one in the store honoured. BM_ETLS for a file without, or a list that none
 * of the CAs has signed.
 */
int revocation_load(X509_STORE *store, const struct net_options *options,
		    char message[256]) BM_MUST_CHECK;
/* When the first of the lists ought to have been replaced; 0 without a list. */
int64_t revocation_ends_ms(X509_STORE *store);
/* True when the peer's certificate is good under these CAs and lists, now. */
bool revocation_trusts(X509_STORE *store, SSL *ssl);

/* listener.c */
int listener_open(struct net_server *server, char message[256]) BM_MUST_CHECK;
int listener_start(struct net_server *server) BM_MUST_CHECK;
void listener_stop(struct net_server *server);

/* loop.c */
int loop_open(struct net_server *server, struct loop *loop) BM_MUST_CHECK;
int loop_start(struct loop *loop) BM_MUST_CHECK;
void loop_post(struct loop *loop, struct post *post);
/* Waits for the thread and does what is still in the inbox. */
void loop_join(struct loop *loop);
void loop_close(struct loop *loop);

/* handshake.c */
/*
 * Makes a connection of a socket that was counted as one, handshaking, when it was accepted;
 * it goes to a loop that serves when the peer is known. On the lobby's thread.
 */
void handshake_begin(struct net_server *server, int fd);

/* conn.c */
/* Closes a socket that was counted as a connection, handshaking, when it was accepted. */
void conn_refuse(struct net_server *server, int fd);
/* Begins to serve a connection, its TLS handshake being done; on the loop's thread. */
void conn_enter(struct loop *loop, struct conn *conn);
/* Makes it the loop's; takes it away from its loop, with its events. */
void conn_link(struct conn *conn, struct loop *loop);
void conn_leave(struct conn *conn);
/* What a TLS call that returned rc needs next; false when the connection is broken or at its end.
 */
bool conn_wait_tls(struct conn *conn, int rc);
void conn_close(struct conn *conn);
/*
 * Sends what can be sent, and closes the connection when it is over: the caller
 * must not touch it afterwards.
 */
void conn_flush(struct conn *conn);
/* Flushes it after the inbox: what several posts give to send goes out as one. */
void conn_touch(struct conn *conn);
void conn_flush_touched(struct loop *loop);
void conn_drain(struct conn *conn);
/* Closes it when its certificate is no longer good under the server's present CAs and lists. */
void conn_recheck(struct conn *conn);
/* Several times a second: limits of time. May close the connection. */
void conn_sweep(struct conn *conn, int64_t now_ns);
/* Counts bytes held for a connection; false when a cap is reached. */
bool conn_hold(struct conn *conn, size_t bytes);
void conn_release(struct conn *conn, size_t bytes);

/*
 * True while this second's lines about misbehaving peers are not used up;
 * *unlogged tells how many were not written since the last one.
 */
bool conn_may_log(struct conn *conn, unsigned long *unlogged);

/* h2.c */
int h2_open(struct conn *conn) BM_MUST_CHECK;
/* Says why and ends the connection. */
void h2_abuse(struct conn *conn, const char *what);

/* call.c */
struct net_call *call_new(struct conn *conn, int32_t stream);
/* The connection or the stream is gone. */
void call_detach(struct net_call *call);
/* Gives the call to the handler once its headers are there. */
void call_begin(struct net_call *call);
/* Request bytes, which the stream's window gets back when there is room for more. */
void call_data(struct net_call *call, const uint8_t *data, size_t len);
void call_half_close(struct net_call *call);
/* Ends a call for the client; the handler hears of it as a cancellation. */
void call_refuse(struct net_call *call, enum grpc_status code, const char *message);
/* Several times a second: limits of time. */
void call_sweep(struct net_call *call, int64_t now_ns);
/* From the inbox. */
void call_take_message(struct net_call *call, uint8_t *data, size_t len);
void call_take_finish(struct net_call *call, struct post *post);

#endif
