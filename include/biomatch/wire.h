/*
 * Messages: untrusted bytes are walked before protobuf-c unpacks them, replies
 * are packed, and errors become google.rpc.Status with ErrorInfo.
 *
 * The pre-scan refuses what protobuf-c would accept at a price: nesting, counts
 * of elements that cost memory, text that is not UTF-8 or holds a NUL.
 *
 * Thread: any.
 * Errors: BM_EPROTO, BM_ENOMEM, BM_ETOOBIG.
 * Owns: unpacked messages live in the arena and are never freed one by one.
 */
#ifndef BIOMATCH_WIRE_H
#define BIOMATCH_WIRE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/arena.h"
#include "biomatch/bytes.h"
#include "biomatch/error.h"

#define WIRE_MAX_DEPTH 16
/* Fields in one message, counted with those of its submessages. */
#define WIRE_MAX_FIELDS 4096

/* Walks data by its type without allocating. */
int wire_scan(const ProtobufCMessageDescriptor *type, struct bytes data) BM_MUST_CHECK;
/* Scans, then unpacks into the arena. */
int wire_unpack(const ProtobufCMessageDescriptor *type, struct arena *arena, struct bytes data,
		ProtobufCMessage **out) BM_MUST_CHECK;
/* Packs into malloc'ed memory, which the caller frees or hands on. */
int wire_pack(const ProtobufCMessage *message, uint8_t **data, size_t *len) BM_MUST_CHECK;

/* An error as it is told: the code's texts, and what was wrong with which field. */
struct wire_error {
	int code;           /* BM_E* */
	const char *field;  /* field at fault for BadRequest; NULL for none */
	const char *detail; /* more than the code's text, for people; NULL for none */
	uint32_t retry_ms;  /* RetryInfo; 0 for none */
};
/* google.rpc.Status in malloc'ed memory. */
int wire_pack_error(const struct wire_error *error, uint8_t **data, size_t *len) BM_MUST_CHECK;
/* The reverse, for clients: the ErrorInfo reason and message, copied to the arena. */
int wire_unpack_error(struct bytes data, struct arena *arena, const char **reason,
		      const char **message, const char **field) BM_MUST_CHECK;

/* Every .proto of the service as a serialised FileDescriptorSet, for reflection. */
struct bytes wire_descriptor_set(void);

#endif
