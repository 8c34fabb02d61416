#include "attempts.h"
#include "biomatch/clock.h"
#include "biomatch/v1/matching_service.pb-c.h"
#include "live.h"
#include "match.h"
#include "probe.h"
#include "trail.h"

struct verify {
	struct probe probe;
	uint8_t attempts[KEYS_PSEUDONYM_LEN]; /* the name they are counted under */
	uint32_t wait_ms;                     /* until there is another attempt; 0 where there is */
};

static struct bytes bytes_of(const char *text)
{
	return (struct bytes){(const uint8_t *)text, strlen(text)};
}

/* Before any work is done, so that calls under way at once cannot take more than there are. */
static int take_attempt(struct service_call *call, struct verify *verify)
{
	const Biomatch__V1__VerifyRequest *request = (const void *)call->request;
	const struct policy_purpose *purpose = call->purpose;
	struct bytes parts[] = {bytes_of(call->uri), bytes_of(purpose->name),
				bytes_of(request->gallery), bytes_of(request->subject_id)};
	int error;

	if (!purpose->attempts.limit)
		return 0;
	error = keys_pseudonym(call->service->options.keys, KEYS_SUBJECT, parts, 4,
			       verify->attempts);
	if (error)
		return error;
	verify->wait_ms =
		attempts_take(call->service->attempts, verify->attempts, purpose->attempts.limit,
			      purpose->attempts.window_ms, clock_monotonic_ns());
	if (verify->wait_ms)
		call->has_picture = false; /* nobody looks at it */
	return 0;
}

/* A match ends the count; what compared nothing does not count, but an attack does. */
static void settle_attempt(struct service_call *call, const struct verify *verify,
			   Biomatch__V1__Decision decision, int finding)
{
	struct attempts *attempts = call->service->attempts;

	if (!call->purpose->attempts.limit || verify->wait_ms)
		return;
	if (decision == BIOMATCH__V1__DECISION__DECISION_MATCH)
		attempts_clear(attempts, verify->attempts);
	else if (finding && finding != BM_EATTACK && finding != BM_EUNCERTAIN)
		attempts_return(attempts, verify->attempts);
}

static int prepare(struct service_call *call)
{
	const Biomatch__V1__VerifyRequest *request = (const void *)call->request;
	struct verify *verify = call->state;
	int error = call_check_text(call, "gallery", request->gallery, 1, GALLERY_NAME_MAX);

	if (!error)
		error = call_check_text(call, "subject_id", request->subject_id, 1,
					GALLERY_SUBJECT_MAX);
	if (!error)
		error = call_allow(call, request->purpose, request->gallery);
	if (!error)
		error = probe_prepare(call, request->probe, "probe", PROBE_CAPTURE, &verify->probe);
	if (!error)
		error = take_attempt(call, verify);
	if (!error)
		trail_subject(call, request->gallery, request->subject_id, NULL);
	return error;
}

static int run_probe(struct service_call *call, struct faceworker *worker)
{
	struct verify *verify = call->state;

	if (!verify->wait_ms)
		return probe_run(call, worker, &verify->probe);
	verify->probe.finding = BM_EATTEMPTS;
	return 0;
}

_Static_assert(POLICY_MAX_REFERENCES <= GALLERY_MAX_REFERENCES, "what a policy may ask for");

static struct gallery_references references_of(const struct policy_purpose *purpose)
{
	return (struct gallery_references){
		.types = purpose->reference_types,
		.n_types = purpose->n_reference_types,
		.max = purpose->max_references,
		.fused = purpose->fuse_references,
	};
}

/* Scores the probe; *finding is set where there is no reference to score. */
static int compare_with_references(struct service_call *call, const struct verify *verify,
				   struct gallery_candidate *best, uint64_t *compared, int *finding)
{
	const Biomatch__V1__VerifyRequest *request = (const void *)call->request;
	const struct gallery_references references = references_of(call->purpose);
	struct gallery_snapshot *snapshot;
	struct gallery_info gallery;
	int error = gallery_snapshot_open(call->service->options.store, &snapshot);

	if (error)
		return error;
	error = find_gallery(call, snapshot, request->gallery, "gallery", &gallery);
	if (!error && verify->probe.finding) {
		*finding = verify->probe.finding;
	} else if (!error) {
		error = gallery_verify(snapshot, &gallery, request->subject_id, &references,
				       verify->probe.embedding, gallery.dim, clock_wall_ms(), best,
				       compared);
		if (error == BM_ENOREFERENCE || error == BM_EEXPIRED) {
			*finding = error;
			error = 0;
		}
	}
	gallery_snapshot_close(snapshot);
	return error;
}

static int decide(struct service_call *call, struct faceworker *worker)
{
	const Biomatch__V1__VerifyRequest *request = (const void *)call->request;
	struct verify *verify = call->state;
	Biomatch__V1__VerifyResponse *out =
		call_message(call, &biomatch__v1__verify_response__descriptor);
	struct gallery_candidate *best = call_alloc(call, sizeof(*best));
	int64_t began = clock_monotonic_ns();
	struct strictness how;
	uint64_t compared = 0;
	int error, finding = 0;

	(void)worker;
	if (!out || !best)
		return BM_ENOMEM;
	error = compare_with_references(call, verify, best, &compared, &finding);
	if (!error)
		error = strictness_of_comparison(call, compared ? compared : 1, &how);
	if (error)
		return error;
	call->times.match_ns += clock_monotonic_ns() - began;
	if (finding) {
		out->decision = BIOMATCH__V1__DECISION__DECISION_REFER;
	} else {
		out->decision = decide_score(&how, best->score, &finding);
		out->band = score_band(call, &how, best->score);
		out->encounter_id = best->encounter;
		error = raw_score(call, &how, best->score, &out->raw);
		trail_score(call, request->gallery, request->subject_id, best->score);
		live_compare(call, request->gallery, request->subject_id, verify->probe.embedding,
			     &how);
	}
	out->reason = reason_of(finding);
	out->retry_after_ms = verify->wait_ms;
	settle_attempt(call, verify, out->decision, finding);
	trail_outcome(call, decision_text(out->decision), finding);
	out->basis = match_basis(call, &how, compared);
	out->probe = probe_report(call, &verify->probe);
	out->times = stage_times(call);
	call->response = &out->base;
	return error || !out->basis || !out->probe || !out->times ? BM_ENOMEM : 0;
}

const struct rpc verify_rpc = {
	.path = "/biomatch.v1.MatchingService/Verify",
	.operation = POLICY_VERIFY,
	.request = &biomatch__v1__verify_request__descriptor,
	.response = &biomatch__v1__verify_response__descriptor,
	.receipt = offsetof(Biomatch__V1__VerifyResponse, receipt),
	.state_size = sizeof(struct verify),
	.prepare = prepare,
	.steps =
		{
			{CALL_FACE, run_probe},
			{CALL_HERE, decide},
		},
};
