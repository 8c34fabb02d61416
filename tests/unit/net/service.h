/* A handler with methods that do one thing each, and a server that has it. */
#ifndef TEST_NET_SERVICE_H
#define TEST_NET_SERVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/net.h"

enum method {
	ECHO,  /* the last message comes back when the client has sent all */
	SIZE,  /* the last message's length comes back */
	EACH,  /* every message comes back at once */
	COUNT, /* a message N is answered with N messages, by a thread */
	BIG,   /* a message N is answered with N messages of 256 KiB */
	FAIL,  /* a status with all its parts */
	FACTS, /* what net knows of the call */
	HANG,  /* ends when it is cancelled */
	LIMIT, /* takes messages of 100 bytes */
	METHODS,
};

static const char *const method_paths[METHODS] = {
	"/test/Echo", "/test/Size",  "/test/Each", "/test/Count", "/test/Big",
	"/test/Fail", "/test/Facts", "/test/Hang", "/test/Limit",
};

#define BIG_LEN (256u << 10)

/* What the handler saw, of all calls. */
struct record {
	atomic_uint opens, messages, half_closes, cancels, closes;
	atomic_bool wrong; /* a callback came when it must not */
};

struct test_call {
	struct net_call *net;
	enum method method;
	struct record *record;
	uint8_t *last;
	size_t last_len;
	bool has_thread, finished;
	pthread_t thread;
};

static inline void finish_with(struct test_call *call, enum grpc_status code, const char *message)
{
	const struct net_status status = {.code = code, .message = message};

	if (call->finished)
		atomic_store(&call->record->wrong, true);
	call->finished = true;
	net_call_finish(call->net, &status);
}

static inline void *copy_of(const void *data, size_t len)
{
	void *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	if (len)
		memcpy(copy, data, len);
	return copy;
}

static inline int service_open_call(void *ctx, struct net_call *net, const char *path,
				    size_t *max_message, void **state)
{
	struct record *record = ctx;
	struct test_call *call;

	for (int i = 0; i < METHODS; i++) {
		if (strcmp(path, method_paths[i]))
			continue;
		call = calloc(1, sizeof(*call));
		if (!call)
			abort();
		call->net = net;
		call->method = i;
		call->record = record;
		if (i == LIMIT)
			*max_message = 100;
		atomic_fetch_add(&record->opens, 1);
		*state = call;
		return 0;
	}
	return BM_EUNIMPL;
}

static inline unsigned asked_count(const struct test_call *call)
{
	char text[16] = "";

	memcpy(text, call->last, call->last_len < 15 ? call->last_len : 15);
	return (unsigned)strtoul(text, NULL, 10);
}

static inline void *count_thread(void *ctx)
{
	struct test_call *call = ctx;

	for (unsigned i = 0, n = asked_count(call); i < n && !net_call_cancelled(call->net); i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%u", i);

		net_call_send(call->net, copy_of(text, (size_t)len), (size_t)len);
	}
	finish_with(call, GRPC_OK, NULL);
	return NULL;
}

static inline void send_facts(struct test_call *call)
{
	const struct net_peer *peer = net_call_peer(call->net);
	int64_t deadline = net_call_deadline(call->net);
	char text[512];
	int len = snprintf(
		text, sizeof(text), "uri=%s serial=%s valid=%d trace=%s left=%lld", peer->uri,
		peer->serial,
		peer->not_after_ms > clock_wall_ms() &&
			peer->not_after_ms < clock_wall_ms() + 25 * 3600 * 1000,
		net_call_traceparent(call->net),
		deadline == CLOCK_FOREVER
			? -1LL
			: (long long)((deadline - clock_monotonic_ns()) / CLOCK_NS_PER_SEC));

	net_call_send(call->net, copy_of(text, (size_t)len), (size_t)len);
	finish_with(call, GRPC_OK, NULL);
}

static inline void send_size(struct test_call *call)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%zu", call->last_len);

	net_call_send(call->net, copy_of(text, (size_t)len), (size_t)len);
	finish_with(call, GRPC_OK, NULL);
}

static inline void send_big(struct test_call *call)
{
	for (unsigned i = 0, n = asked_count(call); i < n; i++) {
		uint8_t *data = calloc(1, BIG_LEN);

		if (!data)
			abort();
		net_call_send(call->net, data, BIG_LEN);
	}
	finish_with(call, GRPC_OK, NULL);
}

static inline void send_failure(struct test_call *call)
{
	const struct net_status status = {
		.code = GRPC_FAILED_PRECONDITION,
		.message = "50% of \xe5\xbc\xb5 is wrong",
		.details = {(const uint8_t *)"\x08\x09", 2},
	};

	call->finished = true;
	net_call_finish(call->net, &status);
}

static inline void service_take_message(void *ctx, void *state, uint8_t *data, size_t len)
{
	struct record *record = ctx;
	struct test_call *call = state;

	atomic_fetch_add(&record->messages, 1);
	if (call->method == EACH && !call->finished) {
		net_call_send(call->net, data, len);
		return;
	}
	free(call->last);
	call->last = data;
	call->last_len = len;
}

static inline void service_half_close(void *ctx, void *state)
{
	struct record *record = ctx;
	struct test_call *call = state;

	atomic_fetch_add(&record->half_closes, 1);
	if (call->finished)
		return;
	switch (call->method) {
	case ECHO:
	case LIMIT:
		net_call_send(call->net, copy_of(call->last, call->last_len), call->last_len);
		finish_with(call, GRPC_OK, NULL);
		break;
	case SIZE:
		send_size(call);
		break;
	case EACH:
		finish_with(call, GRPC_OK, NULL);
		break;
	case COUNT:
		call->has_thread = !pthread_create(&call->thread, NULL, count_thread, call);
		break;
	case BIG:
		send_big(call);
		break;
	case FAIL:
		send_failure(call);
		break;
	case FACTS:
		send_facts(call);
		break;
	default:
		break;
	}
}

static inline void service_cancel(void *ctx, void *state)
{
	struct record *record = ctx;
	struct test_call *call = state;

	atomic_fetch_add(&record->cancels, 1);
	if (!net_call_cancelled(call->net))
		atomic_store(&record->wrong, true);
	if (!call->has_thread && !call->finished)
		finish_with(call, GRPC_CANCELLED, "cancelled");
}

static inline void service_close_call(void *ctx, void *state)
{
	struct record *record = ctx;
	struct test_call *call = state;

	if (call->has_thread)
		pthread_join(call->thread, NULL);
	if (!call->finished)
		atomic_store(&record->wrong, true);
	free(call->last);
	free(call);
	atomic_fetch_add(&record->closes, 1);
}

static inline struct net_handler service_handler(struct record *record)
{
	return (struct net_handler){
		.ctx = record,
		.open = service_open_call,
		.message = service_take_message,
		.half_close = service_half_close,
		.cancel = service_cancel,
		.close = service_close_call,
	};
}

#endif
