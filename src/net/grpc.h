/*
 * The pieces of gRPC over HTTP/2 that need no connection (grpc.io, "gRPC over
 * HTTP2").
 */
#ifndef NET_GRPC_H
#define NET_GRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

/* The prefix of a message: compressed flag, length. */
#define GRPC_PREFIX 5

/* Reads a grpc-timeout value into nanoseconds. BM_EINVAL when malformed. */
int grpc_timeout_parse(const char *s, size_t len, int64_t *ns) BM_MUST_CHECK;
/* True for "application/grpc", alone or with "+proto" or parameters behind it. */
bool grpc_content_type(const char *s, size_t len);
/* Percent-encodes at most max bytes of a grpc-message into malloc'ed memory; NULL when memory is
 * out. */
char *grpc_message_encode(const char *s, size_t max);
/* Base64 without padding, in malloc'ed memory with a NUL; NULL when memory is out. */
char *grpc_binary_encode(const uint8_t *data, size_t len);
/* True for a well-formed W3C traceparent of version 00. */
bool grpc_traceparent_valid(const char *s, size_t len);

/* Cuts bytes into messages. Ready when zeroed and max_message is set. */
struct grpc_reader {
	size_t max_message;
	uint8_t prefix[GRPC_PREFIX];
	size_t prefix_len;
	uint8_t *data;
	size_t len;    /* of the message, once the prefix is there */
	size_t filled; /* of it, arrived */
	size_t room;   /* allocated: follows what arrives, not what is announced */
};

/*
 * Takes bytes from the front of *in. 1 and a malloc'ed message, the caller's,
 * when one is whole; 0 when *in is used up. BM_ETOOBIG, BM_EUNIMPL for a
 * compressed message, BM_EPROTO, BM_ENOMEM.
 */
int grpc_reader_take(struct grpc_reader *reader, struct bytes *in, uint8_t **data,
		     size_t *len) BM_MUST_CHECK;
/* True when some of a message is there and the rest is not. */
bool grpc_reader_inside(const struct grpc_reader *reader);
/* Wipes and frees what there is of a message. */
void grpc_reader_deinit(struct grpc_reader *reader);

#endif
