/*
 * One call on a connection: the request as it is sent, the reply and the status
 * as they come in.
 *
 * Thread: one at a time.  Owns: the request and the reply, until call_deinit.
 */
#ifndef CLIENT_CALL_H
#define CLIENT_CALL_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "connection.h"

#define GRPC_PREFIX 5
/* Bytes of one reply message. */
#define CALL_MAX_REPLY (4 << 20)
/* Bytes of grpc-message and of grpc-status-details-bin as they are sent. */
#define CALL_MAX_MESSAGE 2048
#define CALL_MAX_DETAILS 8192

struct call {
	uint8_t prefix[GRPC_PREFIX];
	uint8_t *request; /* behind its prefix */
	size_t request_len, sent;

	int http_status, grpc_status; /* -1 until heard */
	char message[CALL_MAX_MESSAGE];
	char details[CALL_MAX_DETAILS];

	uint8_t reply_prefix[GRPC_PREFIX];
	uint8_t *reply; /* NULL until its prefix is whole */
	size_t prefix_got, reply_len, reply_got;

	/* Of a stream: takes each message when it is whole; 0 or BM_E*. */
	int (*take)(void *ctx, struct bytes message);
	void *take_ctx;
	bool stirred; /* a message came, or the end */

	int error;            /* BM_* of a reply that cannot be taken; 0 for none */
	uint32_t reset;       /* HTTP/2 error the stream was closed with */
	bool answered, ended; /* ended: nothing more will come */
	int32_t stream;
};

int call_init(struct call *call, const ProtobufCMessage *request) BM_MUST_CHECK;
void call_deinit(struct call *call);

/* Sends it and waits for the end. BM_E* of the connection; the rest is in call. */
int call_run(struct call *call, struct connection *c, const struct target *target, const char *path,
	     int64_t deadline_ns, struct fault *fault) BM_MUST_CHECK;
/* The same for a stream, until no message comes for idle_ms. */
int call_run_stream(struct call *call, struct connection *c, const struct target *target,
		    const char *path, uint32_t idle_ms, struct fault *fault) BM_MUST_CHECK;
/* The session callbacks that call_run relies on; NULL when out of memory. */
nghttp2_session_callbacks *call_callbacks_new(void);

/* Decodes percent signs in place. */
void call_decode_text(char *text);
/* Decodes base64, padded or not, in place; BM_EPROTO when it is none. */
int call_decode_base64(char *text, size_t *len) BM_MUST_CHECK;

#endif
