#include "compare.h"

#include "biomatch/clock.h"
#include "biomatch/score.h"
#include "match.h"
#include "trail.h"

static int prepare(struct service_call *call)
{
	const Biomatch__V1__CompareRequest *request = (const void *)call->request;
	struct compare *compare = call->state;
	int error = call_allow(call, request->purpose, NULL);

	if (!error)
		error = probe_prepare(call, request->probe, "probe", PROBE_CAPTURE,
				      &compare->probe);
	if (!error)
		error = probe_prepare(call, request->reference, "reference", PROBE_GIVEN,
				      &compare->reference);
	return error;
}

int compare_run(struct service_call *call, struct faceworker *worker, struct compare *compare)
{
	int error = probe_run(call, worker, &compare->probe);

	return error ? error : probe_run(call, worker, &compare->reference);
}

static int run_probes(struct service_call *call, struct faceworker *worker)
{
	return compare_run(call, worker, call->state);
}

static int compare_embeddings(struct service_call *call, const struct compare *compare,
			      const struct strictness *how, Biomatch__V1__CompareResponse *out)
{
	int finding = compare->probe.finding ? compare->probe.finding : compare->reference.finding;
	float score;

	if (finding) {
		out->decision = BIOMATCH__V1__DECISION__DECISION_REFER;
		out->reason = reason_of(finding);
		out->reason_is_reference = !compare->probe.finding;
		trail_outcome(call, decision_text(out->decision), finding);
		return 0;
	}
	score = score_dot(compare->probe.embedding, compare->reference.embedding,
			  call->service->options.pack->dim);
	out->decision = decide_score(how, score, &finding);
	out->reason = reason_of(finding);
	out->band = score_band(call, how, score);
	trail_score(call, NULL, NULL, score);
	trail_outcome(call, decision_text(out->decision), finding);
	return raw_score(call, how, score, &out->raw);
}

int compare_decide(struct service_call *call, struct compare *compare,
		   Biomatch__V1__CompareResponse **response)
{
	Biomatch__V1__CompareResponse *out =
		call_message(call, &biomatch__v1__compare_response__descriptor);
	int64_t began = clock_monotonic_ns();
	struct strictness how;
	int error;

	if (!out)
		return BM_ENOMEM;
	error = strictness_of_comparison(call, 1, &how);
	if (!error)
		error = compare_embeddings(call, compare, &how, out);
	if (error)
		return error;
	call->times.match_ns += clock_monotonic_ns() - began;
	out->basis = match_basis(call, &how, out->band ? 1 : 0);
	out->probe = probe_report(call, &compare->probe);
	out->reference = probe_report(call, &compare->reference);
	out->times = stage_times(call);
	*response = out;
	return !out->basis || !out->probe || !out->reference || !out->times ? BM_ENOMEM : 0;
}

static int decide(struct service_call *call, struct faceworker *worker)
{
	Biomatch__V1__CompareResponse *out;
	int error = compare_decide(call, call->state, &out);

	(void)worker;
	if (!error)
		call->response = &out->base;
	return error;
}

const struct rpc compare_rpc = {
	.path = "/biomatch.v1.MatchingService/Compare",
	.operation = POLICY_COMPARE,
	.request = &biomatch__v1__compare_request__descriptor,
	.response = &biomatch__v1__compare_response__descriptor,
	.receipt = offsetof(Biomatch__V1__CompareResponse, receipt),
	.state_size = sizeof(struct compare),
	.prepare = prepare,
	.steps =
		{
			{CALL_FACE, run_probes},
			{CALL_HERE, decide},
		},
};
