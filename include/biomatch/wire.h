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
/* Fields in one message and packed elements, counted with those of its submessages. */
#define WIRE_MAX_FIELDS 16384

/*
 * Walks data by its type without allocating. BM_ETOOBIG for too many fields,
 * BM_EPROTO for everything else. data.data may be NULL when data.len is 0.
 */
int wire_scan(const ProtobufCMessageDescriptor *type, struct bytes data) BM_MUST_CHECK;
/* Scans, then unpacks into the arena; BM_ETOOBIG when its limit is reached. */
int wire_unpack(const ProtobufCMessageDescriptor *type, struct arena *arena, struct bytes data,
		ProtobufCMessage **out) BM_MUST_CHECK;
/* Packs into malloc'ed memory, which the caller frees or hands on. */
int wire_pack(const ProtobufCMessage *message, uint8_t **data, size_t *len) BM_MUST_CHECK;

/* An error as it is told: the code's texts, and what was wrong with which field. */
struct wire_error {
	int code;           /* BM_E* */
	const char *field;  /* field at fault for BadRequest; NULL for none */
	const char *detail; /* more than the code's text, plain ASCII; NULL for none */
	uint32_t retry_ms;  /* RetryInfo; 0 for none */
};
#define WIRE_MESSAGE_MAX 512
/*
 * The text of an error: what the code says, then the detail. Clients compare the
 * status of the call with the packed one, so both must carry this text.
 */
void wire_error_message(const struct wire_error *error, char out[WIRE_MESSAGE_MAX]);
/* google.rpc.Status in malloc'ed memory. */
int wire_pack_error(const struct wire_error *error, uint8_t **data, size_t *len) BM_MUST_CHECK;

/* Longer RetryInfo delays are ignored. */
#define WIRE_RETRY_MAX_S 3600
/* An error as a client hears it; "" and 0 where the status does not say. */
struct wire_told {
	const char *message, *reason, *field;
	uint32_t retry_ms;
};
/* Reads a google.rpc.Status; the strings live in the arena. */
int wire_unpack_error(struct bytes data, struct arena *arena, struct wire_told *out) BM_MUST_CHECK;

/* Every .proto of the service as a serialised FileDescriptorSet, for reflection. */
struct bytes wire_descriptor_set(void);

#endif
