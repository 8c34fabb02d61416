/*
 * The gRPC server transport: TCP, TLS 1.3 with required client certificates,
 * HTTP/2, gRPC framing, deadlines, cancellation, flow control and drain. It
 * moves messages as bytes and knows nothing of what they say.
 *
 * Each loop thread owns an event_base and its connections from the handshake, which one
 * thread does for all of them, to the end.
 *
 * Thread: handler callbacks run on the loop thread of the call's connection and
 * must not block. net_call_send and net_call_finish may be called from any
 * thread.
 * Errors: those of a call become gRPC statuses; those of a connection close it.
 * Owns: a net_call lives until net_call_finish, which every opened call gets
 * exactly once, cancelled or not; after it the handler must not touch the call.
 */
#ifndef BIOMATCH_NET_H
#define BIOMATCH_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

#define NET_PEER_MAX        256
#define NET_TRACEPARENT_LEN 55

struct net_server;
struct net_call;

/* Who is at the other end, fixed by the TLS handshake. */
struct net_peer {
	char uri[NET_PEER_MAX]; /* the certificate's SAN URI "biomatch://..."; "" if none */
	char serial[64];        /* certificate serial number, hexadecimal */
	int64_t not_after_ms;   /* end of the certificate's validity */
};

#define NET_STATUS_MESSAGE_MAX 1024
#define NET_STATUS_DETAILS_MAX 4096

/*
 * A status to end a call with. Clients refuse headers that are large, and with them
 * the whole answer: a longer message is cut, larger details are left out.
 */
struct net_status {
	enum grpc_status code;
	const char *message;  /* plain text, percent-encoded on the wire; NULL for none */
	struct bytes details; /* google.rpc.Status for grpc-status-details-bin, or empty */
};

struct net_handler {
	void *ctx;
	/*
	 * A peer has shown its certificate, and later its connection ends, after its
	 * calls were cancelled; NULL where that does not matter.
	 */
	void (*connection)(void *ctx, const struct net_peer *peer, bool began);
	/*
	 * A call's headers arrived. *state is to be the handler's own for it. A call that
	 * is not taken ends with BM_EUNIMPL, or BM_ENOMEM. max_message may be lowered
	 * from the server's limit.
	 */
	int (*open)(void *ctx, struct net_call *call, const char *path, size_t *max_message,
		    void **state);
	/* One whole message. data is malloc'ed and becomes the handler's. */
	void (*message)(void *ctx, void *state, uint8_t *data, size_t len);
	/* The client will send no more. */
	void (*half_close)(void *ctx, void *state);
	/* The client has taken all that was sent so far; NULL where that does not matter. */
	void (*sent)(void *ctx, void *state);
	/* The client is gone or gave up; net_call_finish is still owed. */
	void (*cancel)(void *ctx, void *state);
	/*
	 * The last callback of a call, exactly once, after net_call_finish took
	 * effect: no other follows, and state may be freed. Until then any callback
	 * may come, even while another thread finishes the call.
	 */
	void (*close)(void *ctx, void *state);
};

struct net_options {
	const char *listen; /* "host:port", port 0 for any; or "fd:N" for a listening socket */
	const char *certificate, *private_key; /* PEM files */
	const char *client_ca;                 /* PEM; revocation lists in it are honoured */
	const char *crl; /* PEM, revocation lists of those CAs; NULL for none */
	unsigned threads;
	unsigned max_connections;    /* further ones wait; half may be without a certificate yet */
	unsigned max_streams;        /* per connection */
	size_t max_message;          /* bytes of one request message */
	size_t max_connection_bytes; /* queued and partial, per connection; >= max_message */
	size_t max_total_bytes;      /* the same, over all connections */
	unsigned connection_share;   /* per cent of a loop's time for one connection, 1 to 100 */
	uint32_t handshake_ms;       /* absolute limit from accept to TLS done */
	uint32_t idle_ms;            /* a connection without calls is closed after it */
	uint32_t request_ms;         /* absolute limit for a message, the first from the headers */
	uint32_t stall_ms;           /* a client that takes nothing for so long is gone */
};

int net_server_open(const struct net_options *options, const struct net_handler *handler,
		    struct net_server **out, char message[256]) BM_MUST_CHECK;
/* The port bound, for a listen port of 0. */
uint16_t net_server_port(const struct net_server *server);
/*
 * Reads the certificates and the revocation lists again. Open connections go on
 * under the server's certificate that they have seen, but one whose own is no
 * longer good is closed, its calls being cancelled.
 */
int net_server_reload(struct net_server *server, const struct net_options *options,
		      char message[256]) BM_MUST_CHECK;
/*
 * Stops accepting, sends GOAWAY, lets calls finish for up to wait_ms, then closes
 * what is left (calls still open are cancelled).
 */
void net_server_drain(struct net_server *server, uint32_t wait_ms);
/* Ends the threads. Every call must have been finished. */
void net_server_close(struct net_server *server);

/* Facts of a call, valid from open to finish. */
const struct net_peer *net_call_peer(const struct net_call *call);
/* Monotonic deadline from grpc-timeout; CLOCK_FOREVER for none. */
int64_t net_call_deadline(const struct net_call *call);
/* The W3C traceparent header, "" where there is none or it is malformed. */
const char *net_call_traceparent(const struct net_call *call);
/* True once nobody waits for the answer. Any thread. */
bool net_call_cancelled(const struct net_call *call);

/*
 * Sends one message; data is malloc'ed and becomes net's. Any thread. Where there
 * is no memory, or the client leaves more than max_connection_bytes unread, or
 * streams further messages while it leaves much of its answers unread, the call ends
 * with RESOURCE_EXHAUSTED instead.
 */
void net_call_send(struct net_call *call, uint8_t *data, size_t len);
/* Ends the call; strings and bytes are copied. Any thread. The call is gone. */
void net_call_finish(struct net_call *call, const struct net_status *status);

struct net_stat {
	unsigned connections, handshaking;
	uint64_t accepted, handshakes, handshake_failures, calls, bytes_held;
	uint64_t revoked; /* connections closed because their certificate was no longer good */
	uint64_t rests;   /* times that a connection had had more than its share and had to wait */
	unsigned calls_open;
	/* Ends of validity, wall clock: the certificate's and, of the client CAs, the first. */
	int64_t certificate_ends_ms, client_ca_ends_ms;
	int64_t crl_ends_ms; /* when the first revocation list ought to be replaced; 0 without */
	uint32_t late_ms;    /* of the slowest loop, behind its next sweep */
};
void net_server_stat(struct net_server *server, struct net_stat *out);

#endif
