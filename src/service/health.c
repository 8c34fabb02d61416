#include "health.h"

#include "biomatch/pulse.h"
#include "grpc/health/v1/health.pb-c.h"

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving;

#define SERVING         GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING     GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

/* What each service cannot work without. */
static const struct {
	const char *name;
	bool faces, writes, reads, lead;
} services[] = {
	{"", true, true, true, false},
	{"biomatch.v1.MatchingService", true, false, true, false},
	{"biomatch.v1.AnalysisService", true, false, false, false},
	{"biomatch.v1.EnrolmentService", true, true, true, true},
	{"biomatch.v1.AdminService", false, true, false, false},
};

bool health_faces_work(struct service *service)
{
	struct batch_stat stat;

	batch_pool_stat(service->face, &stat);
	return stat.unready < stat.threads;
}

bool health_writes_work(struct service *service)
{
	struct writer_stat stat;

	writer_stat(service->options.writer, &stat);
	return !stat.failed && !db_is_read_only(service->options.db);
}

static bool pool_moves(struct batch_pool *pool)
{
	struct batch_stat stat;

	batch_pool_stat(pool, &stat);
	return stat.late_ms < PULSE_HANGS_MS;
}

static bool faces_served(struct service *service)
{
	return health_faces_work(service) && pool_moves(service->face);
}

static bool writes_served(struct service *service)
{
	struct writer_stat stat;

	writer_stat(service->options.writer, &stat);
	return health_writes_work(service) && stat.late_ms < PULSE_HANGS_MS;
}

static bool reads_served(struct service *service)
{
	return pool_moves(service->read) && pool_moves(service->scan) &&
	       !standby_may_read(service->options.standby);
}

/* Under the service's lock, for draining. */
static serving status_of(struct service *service, const char *name)
{
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		if (strcmp(name, services[i].name))
			continue;
		if (service->draining || (services[i].faces && !faces_served(service)) ||
		    (services[i].writes && !writes_served(service)) ||
		    (services[i].reads && !reads_served(service)) ||
		    (services[i].lead && standby_may_change(service->options.standby)))
			return NOT_SERVING;
		return SERVING;
	}
	return SERVICE_UNKNOWN;
}

static const char *asked_name(const struct service_call *call)
{
	return ((const Grpc__Health__V1__HealthCheckRequest *)(const void *)call->request)->service;
}

static int check(struct service_call *call)
{
	struct service *service = call->service;
	Grpc__Health__V1__HealthCheckResponse *out =
		call_message(call, &grpc__health__v1__health_check_response__descriptor);

	if (!out)
		return BM_ENOMEM;
	pthread_mutex_lock(&service->lock);
	out->status = status_of(service, asked_name(call));
	pthread_mutex_unlock(&service->lock);
	if (out->status == SERVICE_UNKNOWN)
		return call_fail(call, BM_ENOSERVICE, "service", NULL);
	call->response = &out->base;
	return 0;
}

const struct rpc health_check_rpc = {
	.path = "/grpc.health.v1.Health/Check",
	.request = &grpc__health__v1__health_check_request__descriptor,
	.response = &grpc__health__v1__health_check_response__descriptor,
	.prepare = check,
};

/* Under the service's lock. */
static void tell(struct service_call *call)
{
	Grpc__Health__V1__HealthCheckResponse out = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	serving status = status_of(call->service, asked_name(call));

	if (call->watched_status == (int)status)
		return;
	call->watched_status = (int)status;
	out.status = status;
	call_send(call, &out.base);
}

static int watch(struct service_call *call)
{
	struct service *service = call->service;
	bool draining;

	pthread_mutex_lock(&service->lock);
	call->watched_status = -1;
	tell(call);
	draining = service->draining;
	if (!draining) {
		call->next_watcher = service->watchers;
		service->watchers = call;
	}
	pthread_mutex_unlock(&service->lock);
	return draining ? BM_EDRAIN : 0;
}

static void stop_watching(struct service_call *call)
{
	struct service *service = call->service;
	bool found = false;

	pthread_mutex_lock(&service->lock);
	for (struct service_call **at = &service->watchers; *at; at = &(*at)->next_watcher) {
		if (*at == call) {
			*at = call->next_watcher;
			found = true;
			break;
		}
	}
	pthread_mutex_unlock(&service->lock);
	/* One that is not in the list any more was ended by health_notify. */
	if (found)
		call_finish(call, BM_ECANCELLED);
}

void health_notify(struct service *service, bool end)
{
	struct service_call *ended = NULL;

	pthread_mutex_lock(&service->lock);
	for (struct service_call *call = service->watchers; call; call = call->next_watcher)
		tell(call);
	if (end) {
		ended = service->watchers;
		service->watchers = NULL;
	}
	pthread_mutex_unlock(&service->lock);
	while (ended) {
		struct service_call *call = ended;

		ended = call->next_watcher;
		call_finish(call, BM_EDRAIN);
	}
}

const struct rpc health_watch_rpc = {
	.path = "/grpc.health.v1.Health/Watch",
	.request = &grpc__health__v1__health_check_request__descriptor,
	.response = &grpc__health__v1__health_check_response__descriptor,
	.message = watch,
	.stays_open = true,
	.cancel = stop_watching,
};
