/*
 * A call inside the service: the request, how far it is, and who owns it now.
 *
 * A call is owned by one thread at a time. It goes through the steps of its RPC,
 * each on the pool the step names, and ends in the writer's commit, or in
 * call_finish where it leaves nothing in the audit log.
 */
#ifndef SERVICE_CALL_H
#define SERVICE_CALL_H

#include <pthread.h>
#include <stdatomic.h>

#include "biomatch/arena.h"
#include "biomatch/audit.h"
#include "biomatch/batch.h"
#include "biomatch/service.h"
#include "biomatch/wire.h"

/* What a step returns when the response is complete before the last step. */
#define CALL_DONE      1
#define CALL_MAX_STEPS 3

enum call_pool {
	CALL_HERE, /* wherever the step before ran */
	CALL_FACE, /* a face thread; a read thread when no probe holds a picture */
	CALL_READ,
	CALL_SCAN, /* a scan thread; the step is left out when the call searches nothing */
};

struct call_step {
	enum call_pool pool;
	/* worker is NULL outside the face pool. 0, CALL_DONE or BM_E*. */
	int (*run)(struct service_call *call, struct faceworker *worker);
};

/* One RPC. */
struct rpc {
	const char *path;
	enum policy_operation operation;
	const ProtobufCMessageDescriptor *request, *response;
	size_t state_size; /* of call->state */
	/* Checks the request's fields and asks policy, on the transport's thread. */
	int (*prepare)(struct service_call *call);
	struct call_step steps[CALL_MAX_STEPS];
	/* A write: runs in the writer's transaction after the steps. */
	int (*apply)(struct service_call *call, struct db_txn *txn);
	/*
	 * Where the response has its receipt; 0 for an RPC that leaves an entry in the
	 * audit log only when it is denied. Every write has one.
	 */
	size_t receipt;
	/* A streaming RPC has these instead, on the transport's thread. */
	int (*message)(struct service_call *call);
	bool stays_open; /* after half_close, until it is cancelled */
	bool is_reflection;
	void (*cancel)(struct service_call *call);
	void (*sent)(struct service_call *call); /* the caller has taken all of it so far */
};

/* Every RPC, defined beside its handlers; NULL after the last. */
extern const struct rpc *const service_rpcs[];

/* A policy with the calls that use it. */
struct policy_ref {
	struct policy *policy;
	atomic_uint refs;
};

struct attempts;
struct search;

struct call_times {
	int64_t queue_ns, match_ns;
	int64_t submitted_ns, commit_ns; /* into the writer's queue; from there to the disk */
	uint32_t decode_us, detect_us, align_us, embed_us, quality_us, liveness_us;
};

struct service_call {
	struct batch_item item;
	struct writer_job job;
	struct service *service;
	const struct rpc *rpc;
	struct service_sink sink;
	atomic_uint owners; /* the service and the transport */

	char *uri, *traceparent;
	int64_t opened_ns, deadline_ns;
	struct policy_ref *policy;
	const struct policy_purpose *purpose;

	struct arena arena;
	uint8_t *body; /* the request as it came */
	size_t body_len;
	ProtobufCMessage *request, *response;
	void *state; /* the RPC's own, rpc->state_size bytes */
	bool has_picture;
	unsigned attempts;     /* that the threshold is corrected for */
	struct search *search; /* of the scan step; NULL when the call searches nothing */
	bool handed_on;        /* the transport's thread only: no longer its to end */
	unsigned step;
	struct call_times times;

	struct wire_error error;
	Biomatch__V1__AuditEntry *trail; /* NULL until policy is asked */
	int trail_error;
	int denied;     /* what policy said, 0 where it allowed */
	int refused;    /* what the call ends with once its entry is on disk */
	uint8_t *reply; /* packed inside the transaction */
	size_t reply_len;
	struct service_call *next_watcher; /* health */
	int watched_status;
};

/* The erasure of what has expired: one batch at a time. */
struct retention {
	struct writer_job job;
	bool under_way;  /* under the service's lock */
	unsigned erased; /* by the batch; the writer's thread */
	_Atomic int64_t rest_until_ns;
};

struct service {
	struct service_options options;
	struct batch_pool *face, *read, *scan;

	pthread_mutex_t lock; /* policy, trust, open, watchers */
	pthread_cond_t idle;
	struct policy_ref *policy;
	struct passive_trust *trust;
	unsigned open;
	struct service_call *watchers;
	bool draining;

	int64_t checkpoint_due_ns; /* service_tick's thread only */
	struct reflection *reflection;
	struct feeder *feeder; /* of the streams of changes */
	struct attempts *attempts;
	struct retention retention;
};

/* The call whose job it is. */
struct service_call *call_of_job(struct writer_job *job);
/* Goes on with the steps on the thread of this pool. */
void call_advance(struct service_call *call, enum call_pool here, struct faceworker *worker);
/* Answers with the response (0 or CALL_DONE) or with the error; the call is gone. */
void call_finish(struct service_call *call, int result);
/* Appends the audit entry, with the change of a write; answers once both are on disk. */
void call_commit(struct service_call *call);
/* Ends the call with an error. One that tells the caller something leaves its audit entry first. */
void call_turn_down(struct service_call *call, int error);
/* Sends one message of a streaming RPC. */
void call_send(struct service_call *call, const ProtobufCMessage *message);

/* Notes what is wrong beyond the code's own text; returns the code. Static or arena strings. */
int call_fail(struct service_call *call, int code, const char *field, const char *detail);
/* The same with a printf format. */
int call_failf(struct service_call *call, int code, const char *field, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* A zeroed, initialised message in the call's arena; NULL when memory is out. */
void *call_message(struct service_call *call, const ProtobufCMessageDescriptor *type);
/* Zeroed memory of the call. */
void *call_alloc(struct service_call *call, size_t size);

/* Checks a text field: min to max bytes. */
int call_check_text(struct service_call *call, const char *field, const char *text, size_t min,
		    size_t max);
/* Checks the request id and marks the write as repeatable under it. */
int call_check_request_id(struct service_call *call, const char *request_id);
/* Asks policy and takes the purpose's priority. */
int call_allow(struct service_call *call, const char *purpose, const char *gallery);

/* Whether this daemon may tell what its galleries hold: a standby that is behind may not. */
int call_may_read(struct service_call *call);

bool call_given_up(struct service_call *call);
/* For loops that poll: true when the caller left or the deadline passed. */
bool call_should_stop(void *ctx);

#endif
