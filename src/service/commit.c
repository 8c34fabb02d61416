/*
 * The writer's side of a call. A change and the entry it leaves in the audit log,
 * or the entry of a decision alone, are one transaction; the reply is packed
 * inside it, so that it can be remembered under the request id, and sent once
 * the commit is on disk.
 */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "biomatch/clock.h"
#include "telemetry.h"
#include "trail.h"

/* The longest path of an RPC. */
#define PATH_MAX_LEN 128

struct service_call *call_of_job(struct writer_job *job)
{
	return (void *)((char *)job - offsetof(struct service_call, job));
}

static int apply(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	struct service_call *call = call_of_job(job);
	int error = 0;

	(void)store;
	if (call_given_up(call))
		return BM_ECANCELLED;
	if (call->rpc->apply)
		error = call->rpc->apply(call, txn);
	if (!error)
		error = trail_append(call, txn);
	if (error)
		return error;
	free(call->reply);
	error = wire_pack(call->response, &call->reply, &call->reply_len);
	if (error) {
		call->reply = NULL;
		return error;
	}
	job->reply = (struct bytes){call->reply, call->reply_len};
	return 0;
}

static void done(struct writer_job *job, int error)
{
	struct service_call *call = call_of_job(job);
	uint8_t *copy;

	call->times.commit_ns = clock_monotonic_ns() - call->times.submitted_ns;
	if (!error) {
		if (call->response)
			telemetry_response(call, call->response);
		copy = malloc(job->reply.len ? job->reply.len : 1);
		if (copy) {
			if (job->reply.len)
				memcpy(copy, job->reply.data, job->reply.len);
			call->sink.send(call->sink.ctx, copy, job->reply.len);
		} else {
			/* Stored; the caller learns it by repeating the request id. */
			error = BM_ENOMEM;
		}
	}
	call->response = NULL;
	if (error)
		call_turn_down(call, error);
	else
		call_finish(call, 0);
}

/*
 * A repetition must be of the same method, too: two methods may have requests
 * that look alike.
 */
static int digest_request(struct service_call *call)
{
	const char *path = call->rpc->path;
	uint8_t text[REQUESTS_DIGEST_LEN + PATH_MAX_LEN];
	size_t len = strlen(path);
	int error;

	assert(len <= PATH_MAX_LEN);
	error = audit_hash((struct bytes){call->body, call->body_len}, text);
	if (error)
		return error;
	memcpy(text + REQUESTS_DIGEST_LEN, path, len);
	return audit_hash((struct bytes){text, REQUESTS_DIGEST_LEN + len}, call->job.id.digest);
}

static void submit(struct service_call *call)
{
	int error;

	call->times.submitted_ns = clock_monotonic_ns();
	error = writer_submit(call->service->options.writer, &call->job);
	if (error)
		call_finish(call, error);
}

void call_commit(struct service_call *call)
{
	int error = call->job.has_request ? digest_request(call) : 0;

	if (error) {
		call_finish(call, error);
		return;
	}
	call->job.apply = apply;
	call->job.done = done;
	call->job.deadline_ns = call->deadline_ns;
	submit(call);
}

static int apply_refusal(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	(void)store;
	return trail_append(call_of_job(job), txn);
}

static void done_refusal(struct writer_job *job, int error)
{
	struct service_call *call = call_of_job(job);

	call_finish(call, error ? error : call->refused);
}

/*
 * Denials, and what says that something is held or is not. An overload or a fault
 * tells nothing, and must not make work for the writer.
 */
static bool leaves_entry(const struct service_call *call, int error)
{
	if (!call->trail)
		return false;
	switch (bm_error_grpc(error)) {
	case GRPC_PERMISSION_DENIED:
	case GRPC_UNAUTHENTICATED:
		return true;
	case GRPC_NOT_FOUND:
	case GRPC_ALREADY_EXISTS:
	case GRPC_FAILED_PRECONDITION:
		return call->rpc->receipt;
	default:
		return false;
	}
}

void call_turn_down(struct service_call *call, int error)
{
	if (!leaves_entry(call, error)) {
		call_finish(call, error);
		return;
	}
	trail_outcome(call, error == call->denied ? "DENIED" : "REFUSED", error);
	call->refused = error;
	call->response = NULL;
	call->job.has_request = false;
	call->job.apply = apply_refusal;
	call->job.done = done_refusal;
	/* Who was refused and left at once was refused all the same. */
	call->job.deadline_ns = CLOCK_FOREVER;
	submit(call);
}
