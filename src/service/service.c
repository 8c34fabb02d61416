#include <stddef.h>
#include <stdlib.h>

#include "attempts.h"
#include "audit.h"
#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "call.h"
#include "changes.h"
#include "health.h"
#include "reflection.h"
#include "retention.h"
#include "search.h"

static struct service_call *call_of_item(const struct batch_item *item)
{
	return (void *)((uintptr_t)item - offsetof(struct service_call, item));
}

static void run(struct batch_item *item, enum call_pool here, struct faceworker *worker)
{
	struct service_call *call = call_of_item(item);

	call->times.queue_ns += clock_monotonic_ns() - item->queued_ns;
	call_advance(call, here, worker);
}

static void run_face(void *ctx, void *state, struct batch_item *item)
{
	(void)ctx;
	run(item, CALL_FACE, state);
}

static void run_read(void *ctx, void *state, struct batch_item *item)
{
	(void)ctx;
	(void)state;
	run(item, CALL_READ, NULL);
}

static bool alike(const struct batch_item *a, const struct batch_item *b)
{
	return search_alike(call_of_item(a)->search, call_of_item(b)->search);
}

/* Whoever waits for the same galleries by now shares the pass over them. */
static void run_scan(void *ctx, void *state, struct batch_item *item)
{
	struct service *service = ctx;
	struct batch_item *items[GALLERY_MAX_SEARCHES] = {item};
	struct service_call *calls[GALLERY_MAX_SEARCHES];
	size_t n = 1 +
		   batch_pool_take(service->scan, item, alike, items + 1, GALLERY_MAX_SEARCHES - 1);

	(void)state;
	for (size_t i = 0; i < n; i++)
		calls[i] = call_of_item(items[i]);
	search_pass(service, calls, n);
	for (size_t i = 0; i < n; i++)
		call_advance(calls[i], CALL_SCAN, NULL);
}

static void drop(void *ctx, struct batch_item *item, int error)
{
	(void)ctx;
	call_finish(call_of_item(item), error);
}

static bool cancelled(void *ctx, const struct batch_item *item)
{
	(void)ctx;
	return call_given_up(call_of_item(item));
}

static int start_face(void *ctx, unsigned index, void **state)
{
	struct service *service = ctx;

	(void)index;
	return faceworker_open(&service->options.worker, (struct faceworker **)state);
}

static void stop_face(void *ctx, void *state)
{
	(void)ctx;
	faceworker_close(state);
}

static int ready_face(void *ctx, void *state)
{
	(void)ctx;
	return faceworker_ready(state);
}

/* What no call without a deadline should take; one that has one is held to that. */
#define ITEM_MS 60000

static int open_pools(struct service *service)
{
	const struct service_options *options = &service->options;
	struct batch_pool_options pool = {
		.capacity = options->queue,
		.wait_ms = options->wait_ms,
		.item_ms = ITEM_MS,
		.ctx = service,
		.drop = drop,
		.cancelled = cancelled,
	};
	int error;

	pool.name = "read";
	pool.prompt = true;
	pool.threads = options->read_threads;
	pool.run = run_read;
	error = batch_pool_open(&pool, &service->read);
	if (error)
		return error;
	pool.name = "scan";
	pool.prompt = false;
	pool.threads = options->scan_threads;
	pool.run = run_scan;
	error = batch_pool_open(&pool, &service->scan);
	if (error)
		return error;
	pool.name = "face";
	pool.prompt = true; /* its workers compute, elsewhere */
	pool.threads = options->face_threads;
	pool.run = run_face;
	pool.start = start_face;
	pool.stop = stop_face;
	pool.ready = ready_face;
	/* An answer may still be owed before a worker is replaced. */
	pool.ready_ms = options->worker.run_ms + options->worker.start_ms;
	return batch_pool_open(&pool, &service->face);
}

static void close_pools(struct service *service)
{
	if (service->face)
		batch_pool_close(service->face);
	if (service->scan)
		batch_pool_close(service->scan);
	if (service->read)
		batch_pool_close(service->read);
}

int service_open(const struct service_options *options, struct service **out)
{
	struct service *service = calloc(1, sizeof(*service));
	struct policy_ref *policy = malloc(sizeof(*policy));
	int error = BM_ENOMEM;

	if (!service || !policy)
		goto out;
	service->options = *options;
	service->options.worker.dim = options->pack->dim;
	policy->policy = options->policy;
	atomic_init(&policy->refs, 1);
	service->policy = policy;
	service->trust = options->trust;
	service->checkpoint_due_ns =
		clock_monotonic_ns() + options->checkpoint_ms * CLOCK_NS_PER_MS;
	pthread_mutex_init(&service->lock, NULL);
	pthread_cond_init(&service->idle, NULL);
	error = reflection_open(&service->reflection);
	if (!error)
		error = attempts_open(&service->attempts);
	if (!error)
		error = feeder_open(service, &service->feeder);
	if (!error)
		error = open_pools(service);
	if (!error) {
		*out = service;
		return 0;
	}
	close_pools(service);
	if (service->feeder)
		feeder_close(service->feeder);
	attempts_close(service->attempts);
	reflection_close(service->reflection);
	pthread_cond_destroy(&service->idle);
	pthread_mutex_destroy(&service->lock);
out:
	free(policy);
	free(service);
	return error;
}

void service_tick(struct service *service)
{
	health_notify(service, false);
	audit_tick(service);
	retention_tick(service);
}

void service_stat(struct service *service, struct service_stat *out)
{
	batch_pool_stat(service->face, &out->face);
	batch_pool_stat(service->read, &out->read);
	batch_pool_stat(service->scan, &out->scan);
	out->faces_work = health_faces_work(service);
	out->writes_work = health_writes_work(service);
	out->followers = feeder_streams(service->feeder);
	out->changes_late_ms = feeder_late_ms(service->feeder);
	pthread_mutex_lock(&service->lock);
	out->calls_open = service->open;
	out->draining = service->draining;
	pthread_mutex_unlock(&service->lock);
}

void service_set_trust(struct service *service, struct passive_trust *trust)
{
	struct passive_trust *old;

	pthread_mutex_lock(&service->lock);
	old = service->trust;
	service->trust = trust;
	pthread_mutex_unlock(&service->lock);
	passive_close(old);
}

void service_drain(struct service *service)
{
	pthread_mutex_lock(&service->lock);
	service->draining = true;
	pthread_mutex_unlock(&service->lock);
	health_notify(service, true);
	feeder_drain(service->feeder);
}

void service_close(struct service *service)
{
	service_drain(service);
	pthread_mutex_lock(&service->lock);
	while (service->open)
		pthread_cond_wait(&service->idle, &service->lock);
	pthread_mutex_unlock(&service->lock);
	retention_wait(service);
	close_pools(service);
	feeder_close(service->feeder);
	attempts_close(service->attempts);
	reflection_close(service->reflection);
	passive_close(service->trust);
	policy_close(service->policy->policy);
	free(service->policy);
	pthread_cond_destroy(&service->idle);
	pthread_mutex_destroy(&service->lock);
	free(service);
}
