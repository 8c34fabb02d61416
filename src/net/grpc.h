/*
 * The pieces of gRPC over HTTP/2 that need no connection (grpc.io, "gRPC over
 * HTTP2").
 */
#ifndef NET_GRPC_H
#define NET_GRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"

/* The prefix of a message: compressed flag, length. */
#define GRPC_PREFIX 5

/* Reads a grpc-timeout value into nanoseconds. BM_EINVAL when malformed. */
int grpc_timeout_parse(const char *s, size_t len, int64_t *ns) BM_MUST_CHECK;
/* True for "application/grpc", alone or with "+proto" or parameters behind it. */
bool grpc_content_type(const char *s, size_t len);
/* Percent-encodes a grpc-message into malloc'ed memory; NULL when memory is out. */
char *grpc_message_encode(const char *s);
/* Base64 without padding, in malloc'ed memory with a NUL; NULL when memory is out. */
char *grpc_binary_encode(const uint8_t *data, size_t len);
/* True for a well-formed W3C traceparent of version 00. */
bool grpc_traceparent_valid(const char *s, size_t len);

#endif
