/*
 * The C client: gRPC calls to a biomatchd over TLS 1.3 with a client
 * certificate. A client holds one connection, opens it at the first call and
 * again when it is lost.
 *
 * Thread: one at a time. The process must ignore SIGPIPE.
 * Errors: BM_EINVAL (options), BM_ETLS, BM_ENET, BM_EDEADLINE, BM_EPROTO,
 * BM_ETOOBIG (the reply), BM_ENOMEM; an answer with a gRPC error status is a
 * success of the call with status->code set.
 * Owns: the reply and the status belong to the arena given.
 */
#ifndef BIOMATCH_CLIENT_H
#define BIOMATCH_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "biomatch/arena.h"
#include "biomatch/error.h"

#define BIOMATCH_MESSAGE_MAX 256

struct biomatch_client;

struct biomatch_options {
	const char *target;                         /* "host:port" or "[address]:port" */
	const char *certificate, *private_key, *ca; /* PEM files */
	const char *server_name; /* name in the server's certificate; NULL for target's host */
	uint32_t connect_ms;     /* time allowed to connect and shake hands */
};

/* How a call ended. */
struct biomatch_status {
	enum grpc_status code;
	const char *message; /* text for people; "" for OK */
	const char *reason;  /* ErrorInfo reason; "" where there is none */
	const char *field;   /* field at fault; "" where none is named */
	uint32_t retry_ms;   /* the wait asked for before a retry; 0 where none is */
};

/*
 * Reads the PEM files; the options need not outlive the call. On failure message
 * says what is wrong. Nothing is sent yet.
 */
int biomatch_client_open(const struct biomatch_options *options, struct biomatch_client **out,
			 char message[BIOMATCH_MESSAGE_MAX]) BM_MUST_CHECK;
void biomatch_client_close(struct biomatch_client *client);
/* What went wrong at the last call that failed, for people. */
const char *biomatch_client_error(const struct biomatch_client *client);

/*
 * One unary call: packs the request, waits at most timeout_ms (above 0), unpacks
 * the reply. *reply is set where status->code is GRPC_OK, else NULL. A call that
 * the service says it never began is sent once more. After BM_ENET and
 * BM_EDEADLINE the service may have done the work: repeat writes under the same
 * request_id.
 */
int biomatch_client_call(struct biomatch_client *client, const char *path,
			 const ProtobufCMessage *request,
			 const ProtobufCMessageDescriptor *reply_type, uint32_t timeout_ms,
			 struct arena *arena, ProtobufCMessage **reply,
			 struct biomatch_status *status) BM_MUST_CHECK;

/* How a stream is taken. */
struct biomatch_stream {
	/* Every message of the answer; it lives until the next. Anything but 0 ends the call. */
	int (*take)(void *ctx, const ProtobufCMessage *message);
	void *ctx;
	uint32_t idle_ms; /* without a message for so long the service is taken for lost */
	int wake_fd;      /* ends the call once it can be read; -1 for none */
};

/*
 * One call that is answered with any number of messages, without a deadline. BM_ECANCELLED
 * when it was woken; else as biomatch_client_call, or what take returned.
 */
int biomatch_client_stream(struct biomatch_client *client, const char *path,
			   const ProtobufCMessage *request,
			   const ProtobufCMessageDescriptor *message_type,
			   const struct biomatch_stream *stream, struct arena *arena,
			   struct biomatch_status *status) BM_MUST_CHECK;

#endif
