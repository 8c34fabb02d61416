#include "probe.h"
#include "search.h"
#include "times.h"
#include "trail.h"

#define IDENTIFY_MAX_GALLERIES 16
/* Entries of one list of a filter. */
#define IDENTIFY_MAX_FILTER 256

struct identify {
	struct probe probe;
	struct search search;
	struct gallery_filter filter;
};

static int check_filter_list(struct service_call *call, const char *field, char **list, size_t n,
			     size_t max)
{
	int error = 0;

	if (n > IDENTIFY_MAX_FILTER)
		return call_failf(call, BM_EINVAL, field, "%s has more than %d entries", field,
				  IDENTIFY_MAX_FILTER);
	for (size_t i = 0; !error && i < n; i++)
		error = call_check_text(call, field, list[i], 1, max);
	return error;
}

static int prepare_filter(struct service_call *call, const Biomatch__V1__IdentifyFilter *from,
			  struct gallery_filter *filter)
{
	int error;

	*filter = (struct gallery_filter){
		.types = (const char *const *)from->encounter_types,
		.n_types = from->n_encounter_types,
		.sites = (const char *const *)from->sites,
		.n_sites = from->n_sites,
		.subjects = (const char *const *)from->subject_ids,
		.n_subjects = from->n_subject_ids,
	};
	error = check_filter_list(call, "filter.encounter_types", from->encounter_types,
				  from->n_encounter_types, GALLERY_TYPE_MAX);
	if (!error)
		error = check_filter_list(call, "filter.sites", from->sites, from->n_sites,
					  GALLERY_SITE_MAX);
	if (!error)
		error = check_filter_list(call, "filter.subject_ids", from->subject_ids,
					  from->n_subject_ids, GALLERY_SUBJECT_MAX);
	if (!error)
		error = time_from_wire(call, "filter.captured_from", from->captured_from, INT64_MIN,
				       &filter->captured_from_ms);
	if (!error)
		error = time_from_wire(call, "filter.captured_before", from->captured_before,
				       INT64_MAX, &filter->captured_before_ms);
	return error;
}

static int prepare_galleries(struct service_call *call,
			     const Biomatch__V1__IdentifyRequest *request, struct search *search)
{
	if (!request->n_galleries)
		return call_fail(call, BM_EMISSING, "galleries", NULL);
	if (request->n_galleries > IDENTIFY_MAX_GALLERIES)
		return call_failf(call, BM_EINVAL, "galleries", "at most %d galleries at once",
				  IDENTIFY_MAX_GALLERIES);
	for (size_t i = 0; i < request->n_galleries; i++) {
		int error = call_check_text(call, "galleries", request->galleries[i], 1,
					    GALLERY_NAME_MAX);

		for (size_t j = 0; !error && j < i; j++) {
			if (!strcmp(request->galleries[i], request->galleries[j]))
				error = call_fail(call, BM_EINVAL, "galleries",
						  "a gallery is named twice");
		}
		if (!error)
			error = call_allow(call, request->purpose, request->galleries[i]);
		if (error)
			return error;
	}
	search->names = request->galleries;
	search->n_names = request->n_galleries;
	search->field = "galleries";
	return 0;
}

static int prepare(struct service_call *call)
{
	const Biomatch__V1__IdentifyRequest *request = (const void *)call->request;
	struct identify *identify = call->state;
	int error = prepare_galleries(call, request, &identify->search);

	if (error)
		return error;
	call->search = &identify->search;
	if (request->max_candidates > call->purpose->max_candidates)
		return call_failf(call, BM_EINVAL, "max_candidates",
				  "the purpose allows at most %u candidates",
				  call->purpose->max_candidates);
	identify->search.max_candidates =
		request->max_candidates ? request->max_candidates : call->purpose->max_candidates;
	if (request->filter) {
		error = prepare_filter(call, request->filter, &identify->filter);
		identify->search.filter = &identify->filter;
	}
	if (!error)
		error = probe_prepare(call, request->probe, "probe", PROBE_CAPTURE,
				      &identify->probe);
	return error;
}

static int run_probe(struct service_call *call, struct faceworker *worker)
{
	struct identify *identify = call->state;
	int error = probe_run(call, worker, &identify->probe);

	identify->search.embedding = identify->probe.embedding;
	if (identify->probe.finding)
		call->search = NULL;
	return error;
}

static int answer(struct service_call *call, struct faceworker *worker)
{
	struct identify *identify = call->state;
	struct search *search = &identify->search;
	Biomatch__V1__IdentifyResponse *out =
		call_message(call, &biomatch__v1__identify_response__descriptor);
	int error;

	(void)worker;
	if (!out)
		return BM_ENOMEM;
	if (identify->probe.finding) {
		out->decision = BIOMATCH__V1__DECISION__DECISION_REFER;
		out->reason = reason_of(identify->probe.finding);
		search->how.rate = call->purpose->target_fpir;
	} else {
		error = search_candidates(call, search, &out->candidates);
		if (error)
			return error;
		out->n_candidates = search->n_found;
		out->decision = search->n_found ? BIOMATCH__V1__DECISION__DECISION_MATCH
						: BIOMATCH__V1__DECISION__DECISION_NO_MATCH;
	}
	trail_outcome(call, decision_text(out->decision), identify->probe.finding);
	out->basis = match_basis(call, &search->how, search->compared);
	out->probe = probe_report(call, &identify->probe);
	out->times = stage_times(call);
	call->response = &out->base;
	return !out->basis || !out->probe || !out->times ? BM_ENOMEM : 0;
}

const struct rpc identify_rpc = {
	.path = "/biomatch.v1.MatchingService/Identify",
	.operation = POLICY_IDENTIFY,
	.request = &biomatch__v1__identify_request__descriptor,
	.response = &biomatch__v1__identify_response__descriptor,
	.receipt = offsetof(Biomatch__V1__IdentifyResponse, receipt),
	.state_size = sizeof(struct identify),
	.prepare = prepare,
	.steps =
		{
			{CALL_FACE, run_probe},
			{CALL_SCAN, search_done},
			{CALL_HERE, answer},
		},
};
