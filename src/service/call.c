#include "call.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "telemetry.h"
#include "trail.h"

/* Two pictures of the largest size, unpacked, with room for the answer. */
#define CALL_MEMORY (2 * (size_t)FACE_MAX_IMAGE_BYTES + (4u << 20))
/* What a caller turned away by a full queue is told to wait. */
#define CALL_RETRY_MS 1000

int call_fail(struct service_call *call, int code, const char *field, const char *detail)
{
	call->error = (struct wire_error){.code = code, .field = field, .detail = detail};
	return code;
}

int call_failf(struct service_call *call, int code, const char *field, const char *format, ...)
{
	char text[256];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (len < 0)
		len = 0;
	if ((size_t)len >= sizeof(text))
		len = sizeof(text) - 1;
	return call_fail(call, code, field, arena_strndup(&call->arena, text, (size_t)len));
}

void *call_alloc(struct service_call *call, size_t size)
{
	return arena_alloc(&call->arena, size);
}

void *call_message(struct service_call *call, const ProtobufCMessageDescriptor *type)
{
	void *message = call_alloc(call, type->sizeof_message);

	if (message)
		protobuf_c_message_init(type, message);
	return message;
}

int call_check_text(struct service_call *call, const char *field, const char *text, size_t min,
		    size_t max)
{
	size_t len = strlen(text);

	if (min && !len)
		return call_fail(call, BM_EMISSING, field, NULL);
	if (len > max)
		return call_failf(call, BM_EINVAL, field, "%s is longer than %zu bytes", field,
				  max);
	return 0;
}

int call_check_request_id(struct service_call *call, const char *request_id)
{
	struct bytes parts[2] = {
		{(const uint8_t *)call->uri, strlen(call->uri)},
		{(const uint8_t *)request_id, strlen(request_id)},
	};
	int error = call_check_text(call, "request_id", request_id, 1, 64);

	if (error)
		return error;
	error = keys_pseudonym(call->service->options.keys, KEYS_REQUEST, parts, 2,
			       call->job.id.request);
	call->job.has_request = !error;
	return error;
}

static int fail_standby(struct service_call *call, int error)
{
	const char *leader = standby_leader(call->service->options.standby);

	if (!error || !leader)
		return error;
	return call_failf(call, error, NULL, "the leader is %s", leader);
}

static int may_change(struct service_call *call)
{
	return fail_standby(call, standby_may_change(call->service->options.standby));
}

int call_may_read(struct service_call *call)
{
	return fail_standby(call, standby_may_read(call->service->options.standby));
}

int call_allow(struct service_call *call, const char *purpose, const char *gallery)
{
	int error = call_check_text(call, "purpose", purpose, 1, 64);

	if (error)
		return error;
	trail_begin(call, purpose, gallery);
	if (!call->trail)
		return BM_ENOMEM;
	error = policy_decide(call->policy->policy, call->uri, purpose, call->rpc->operation,
			      gallery, &call->purpose);
	if (error) {
		call->denied = error;
		log_notice("call_denied", "method=%s reason=%s peer=%s purpose=%s", call->rpc->path,
			   bm_error_reason(error), call->uri, purpose);
		return call_fail(call, error, error == BM_EPURPOSE ? "purpose" : NULL, NULL);
	}
	call->item.priority = call->purpose->priority;
	call->item.owner = bytes_checksum(call->uri, strlen(call->uri));
	if (!gallery)
		return 0;
	return call->rpc->apply ? may_change(call) : call_may_read(call);
}

bool call_given_up(struct service_call *call)
{
	return call->sink.cancelled(call->sink.ctx);
}

bool call_should_stop(void *ctx)
{
	struct service_call *call = ctx;

	return call_given_up(call) || clock_monotonic_ns() >= call->deadline_ns;
}

static void policy_unref(struct policy_ref *ref)
{
	if (ref && atomic_fetch_sub(&ref->refs, 1) == 1) {
		policy_close(ref->policy);
		free(ref);
	}
}

void service_set_policy(struct service *service, struct policy *policy)
{
	struct policy_ref *old, *ref = malloc(sizeof(*ref));

	if (!ref) {
		log_error("policy_not_taken", "reason=%s", bm_error_reason(BM_ENOMEM));
		policy_close(policy);
		return;
	}
	ref->policy = policy;
	atomic_init(&ref->refs, 1);
	pthread_mutex_lock(&service->lock);
	old = service->policy;
	service->policy = ref;
	pthread_mutex_unlock(&service->lock);
	policy_unref(old);
}

/* Gives back what a call holds; what is secret is wiped here, at its end. */
static void call_empty(struct service_call *call)
{
	if (call->body)
		bytes_wipe(call->body, call->body_len);
	free(call->body);
	call->body = NULL;
	arena_deinit(&call->arena);
	if (call->reply)
		bytes_wipe(call->reply, call->reply_len);
	free(call->reply);
	call->reply = NULL;
	policy_unref(call->policy);
	call->policy = NULL;
}

static void call_unref(struct service_call *call)
{
	if (atomic_fetch_sub(&call->owners, 1) == 1) {
		free(call->uri);
		free(call->traceparent);
		free(call);
	}
}

void service_call_release(struct service_call *call)
{
	call_unref(call);
}

static const struct rpc *find_rpc(const struct service *service, const char *path)
{
	for (const struct rpc *const *rpc = service_rpcs; *rpc; rpc++) {
		if (!strcmp((*rpc)->path, path))
			return (*rpc)->is_reflection && !service->options.reflection ? NULL : *rpc;
	}
	return NULL;
}

int service_call_open(struct service *service, const char *path, const struct service_peer *peer,
		      const struct service_sink *sink, struct service_call **out)
{
	const struct rpc *rpc = find_rpc(service, path);
	struct service_call *call;

	if (!rpc)
		return BM_EUNIMPL;
	call = calloc(1, sizeof(*call));
	if (!call)
		return BM_ENOMEM;
	call->uri = strdup(peer->uri);
	call->traceparent = strdup(peer->traceparent ? peer->traceparent : "");
	if (!call->uri || !call->traceparent) {
		free(call->uri);
		free(call->traceparent);
		free(call);
		return BM_ENOMEM;
	}
	call->service = service;
	call->rpc = rpc;
	call->sink = *sink;
	call->attempts = 1;
	call->opened_ns = clock_monotonic_ns();
	call->deadline_ns = peer->deadline_ns;
	atomic_init(&call->owners, 2);
	arena_init(&call->arena, CALL_MEMORY);
	pthread_mutex_lock(&service->lock);
	call->policy = service->policy;
	atomic_fetch_add(&call->policy->refs, 1);
	service->open++;
	pthread_mutex_unlock(&service->lock);
	*out = call;
	return 0;
}

static void call_end(struct service_call *call, enum grpc_status status, const char *message,
		     struct bytes details)
{
	struct service *service = call->service;

	call->sink.finish(call->sink.ctx, status, message, details);
	call_empty(call);
	call_unref(call);
	pthread_mutex_lock(&service->lock);
	if (--service->open == 0)
		pthread_cond_broadcast(&service->idle);
	pthread_mutex_unlock(&service->lock);
}

static void finish_error(struct service_call *call, int code)
{
	char message[WIRE_MESSAGE_MAX];
	uint8_t *details = NULL;
	size_t len = 0;

	if (call->error.code != code)
		call->error = (struct wire_error){.code = code};
	if (code == BM_EBUSY)
		call->error.retry_ms = CALL_RETRY_MS;
	wire_error_message(&call->error, message);
	if (wire_pack_error(&call->error, &details, &len))
		details = NULL; /* the status and its text still go out */
	log_info("call_failed", "method=%s reason=%s peer=%s traceparent=%s", call->rpc->path,
		 bm_error_reason(code), call->uri, call->traceparent);
	telemetry_end(call, bm_error_grpc(code), code);
	call_end(call, bm_error_grpc(code), message, (struct bytes){details, details ? len : 0});
	free(details);
}

void call_finish(struct service_call *call, int result)
{
	uint8_t *data;
	size_t len;

	if (result >= 0 && call->response) {
		result = wire_pack(call->response, &data, &len);
		if (!result) {
			telemetry_response(call, call->response);
			call->sink.send(call->sink.ctx, data, len);
		}
	}
	if (result < 0) {
		finish_error(call, result);
		return;
	}
	telemetry_end(call, GRPC_OK, 0);
	call_end(call, GRPC_OK, NULL, (struct bytes){0});
}

void call_send(struct service_call *call, const ProtobufCMessage *message)
{
	uint8_t *data;
	size_t len;

	if (!wire_pack(message, &data, &len))
		call->sink.send(call->sink.ctx, data, len);
}

static struct batch_pool *pool_of(struct service_call *call, enum call_pool pool)
{
	switch (pool) {
	case CALL_FACE:
		return call->service->face;
	case CALL_SCAN:
		return call->service->scan;
	default:
		return call->service->read;
	}
}

void call_advance(struct service_call *call, enum call_pool here, struct faceworker *worker)
{
	for (; call->step < CALL_MAX_STEPS && call->rpc->steps[call->step].run; call->step++) {
		const struct call_step *step = &call->rpc->steps[call->step];
		enum call_pool pool = step->pool;
		int result;

		if (pool == CALL_SCAN && !call->search)
			continue;
		if (pool == CALL_FACE && !call->has_picture)
			pool = CALL_READ;
		if (pool != CALL_HERE && pool != here) {
			call->item.deadline_ns = call->deadline_ns;
			result = batch_pool_submit(pool_of(call, pool), &call->item);
			if (result)
				call_finish(call, result);
			return;
		}
		result = step->run(call, worker);
		if (result < 0)
			call_turn_down(call, result);
		else if (result)
			call_finish(call, result);
		if (result)
			return;
	}
	if (call->rpc->receipt)
		call_commit(call);
	else
		call_finish(call, 0);
}

static int call_unpack(struct service_call *call)
{
	int error;

	if (!call->body)
		return call_fail(call, BM_EPROTO, NULL, "the call carried no message");
	error = wire_unpack(call->rpc->request, &call->arena,
			    (struct bytes){call->body, call->body_len}, &call->request);
	if (!error && call->rpc->state_size && !call->state) {
		call->state = call_alloc(call, call->rpc->state_size);
		error = call->state ? 0 : BM_ENOMEM;
	}
	if (error || !call->rpc->apply) {
		bytes_wipe(call->body, call->body_len);
		free(call->body);
		call->body = NULL;
	}
	return error;
}

/*
 * The transport's thread hands the call on, or ends it, once; whatever the
 * transport tells of it later is too late.
 */
static void hand_on(struct service_call *call, int result)
{
	call->handed_on = true;
	if (result < 0)
		call_turn_down(call, result);
	else if (result)
		call_finish(call, result);
	else
		call_advance(call, CALL_HERE, NULL);
}

void service_call_message(struct service_call *call, uint8_t *data, size_t len)
{
	int error;

	/* A stream that is open is ended, and is not opened twice. */
	if (!call->handed_on && call->rpc->stays_open && call->request) {
		bytes_wipe(data, len);
		free(data);
		call->rpc->cancel(call);
		return;
	}
	if (call->handed_on || call->body) {
		bytes_wipe(data, len);
		free(data);
		if (!call->handed_on)
			hand_on(call,
				call_fail(call, BM_EPROTO, NULL, "the method takes one message"));
		return;
	}
	call->body = data;
	call->body_len = len;
	if (!call->rpc->message)
		return;
	error = call_unpack(call);
	if (!error)
		error = call->rpc->message(call);
	if (error)
		hand_on(call, error);
}

void service_call_half_close(struct service_call *call)
{
	int error;

	if (call->handed_on)
		return;
	if (call->rpc->message) {
		if (!call->rpc->stays_open)
			hand_on(call, CALL_DONE);
		return;
	}
	error = call_unpack(call);
	if (!error)
		error = call->rpc->prepare(call);
	hand_on(call, error);
}

void service_call_sent(struct service_call *call)
{
	if (call->rpc->sent)
		call->rpc->sent(call);
}

void service_call_cancel(struct service_call *call)
{
	/* A call handed on finds out by itself, through the sink. */
	if (call->handed_on)
		return;
	if (call->rpc->cancel)
		call->rpc->cancel(call);
	else
		hand_on(call, BM_ECANCELLED);
}
