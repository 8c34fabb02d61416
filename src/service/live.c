#include "live.h"

#include "biomatch/clock.h"
#include "biomatch/metrics.h"

/* References that one probe meets. */
#define LIVE_SAMPLE 8

static void count(struct service_call *call, const float *scores, size_t n,
		  const struct strictness *how)
{
	struct policy_endpoint endpoint;
	uint64_t matches = 0;

	for (size_t i = 0; i < n; i++)
		matches += scores[i] >= how->threshold;
	if (n && !policy_endpoint_parse(call->uri, &endpoint))
		metrics_add_trials(call->service->options.metrics, METRICS_LIVE_FMR,
				   (const char *[]){endpoint.class, endpoint.site}, n, matches,
				   how->each_rate);
}

void live_compare(struct service_call *call, const char *gallery, const char *subject,
		  const float *embedding, const struct strictness *how)
{
	size_t dim = call->service->options.pack->dim, n = 0;
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	float scores[LIVE_SAMPLE];
	int error;

	if (gallery_snapshot_open(call->service->options.store, &snapshot))
		return;
	error = gallery_find(snapshot, gallery, &info);
	if (!error)
		error = gallery_sample(snapshot, &info, subject, embedding, dim,
				       (uint64_t)clock_monotonic_ns(), scores, LIVE_SAMPLE, &n);
	gallery_snapshot_close(snapshot);
	if (!error)
		count(call, scores, n, how);
	bytes_wipe(scores, sizeof(scores));
}
