#include "biomatch/clock.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "probe.h"
#include "search.h"
#include "times.h"
#include "trail.h"

_Static_assert(POLICY_MAX_CANDIDATES <= REQUESTS_MAX_OWNERS, "each may own an answer");

struct enrol {
	struct probe reference;
	struct search search; /* the duplicate check */
	struct gallery_encounter encounter;
};

/* What the purpose may keep expires in time, whatever was asked for. */
static void limit_retention(const struct policy_purpose *purpose, int64_t now,
			    struct gallery_encounter *encounter)
{
	int64_t from = encounter->captured_ms < now ? encounter->captured_ms : now;
	int64_t latest = from + (int64_t)purpose->retention_ms;

	if (purpose->retention_ms && encounter->expires_ms > latest)
		encounter->expires_ms = latest;
}

static int read_encounter(struct service_call *call, const Biomatch__V1__Encounter *from,
			  int64_t now, struct gallery_encounter *to)
{
	int error = call_check_text(call, "encounter.encounter_id", from->encounter_id, 0,
				    GALLERY_ENCOUNTER_MAX);

	if (!error)
		error = call_check_text(call, "encounter.encounter_type", from->encounter_type, 0,
					GALLERY_TYPE_MAX);
	if (!error)
		error = call_check_text(call, "encounter.site", from->site, 0, GALLERY_SITE_MAX);
	if (!error)
		error = time_from_wire(call, "encounter.captured_at", from->captured_at, now,
				       &to->captured_ms);
	if (!error)
		error = time_from_wire(call, "encounter.expires_at", from->expires_at,
				       GALLERY_NEVER, &to->expires_ms);
	if (error)
		return error;
	strcpy(to->id, from->encounter_id);
	strcpy(to->type, from->encounter_type);
	strcpy(to->site, from->site);
	return 0;
}

static int prepare_encounter(struct service_call *call, const Biomatch__V1__Encounter *from,
			     struct gallery_encounter *to)
{
	int64_t now = clock_wall_ms();
	int error = 0;

	to->captured_ms = now;
	to->expires_ms = GALLERY_NEVER;
	if (from)
		error = read_encounter(call, from, now, to);
	if (!error)
		limit_retention(call->purpose, now, to);
	if (!error && to->expires_ms <= now)
		error = call_fail(call, BM_EINVAL, "encounter.expires_at",
				  "the encounter would already be expired");
	return error;
}

static int prepare(struct service_call *call)
{
	Biomatch__V1__EnrolRequest *request = (void *)call->request;
	struct enrol *enrol = call->state;
	int error = call_check_text(call, "gallery", request->gallery, 1, GALLERY_NAME_MAX);

	if (!error)
		error = call_check_text(call, "subject_id", request->subject_id, 1,
					GALLERY_SUBJECT_MAX);
	if (!error)
		error = call_allow(call, request->purpose, request->gallery);
	if (!error && request->refuse_duplicates && !call->purpose->max_candidates)
		error = call_fail(call, BM_EDENIED, "refuse_duplicates",
				  "the purpose allows no duplicate check");
	if (!error)
		error = call_check_request_id(call, request->request_id);
	if (!error)
		error = prepare_encounter(call, request->encounter, &enrol->encounter);
	if (!error)
		error = probe_prepare(call, request->reference, "reference", PROBE_CAPTURE,
				      &enrol->reference);
	if (error)
		return error;
	trail_subject(call, request->gallery, request->subject_id, NULL);
	enrol->search = (struct search){
		.names = &request->gallery,
		.n_names = 1,
		.field = "gallery",
		.max_candidates = call->purpose->max_candidates,
		.other_than = request->subject_id,
	};
	call->search = request->refuse_duplicates ? &enrol->search : NULL;
	return 0;
}

static int run_reference(struct service_call *call, struct faceworker *worker)
{
	struct enrol *enrol = call->state;
	int error = probe_run(call, worker, &enrol->reference);

	enrol->search.embedding = enrol->reference.embedding;
	if (enrol->reference.finding)
		call->search = NULL;
	return error;
}

/*
 * What was enrolled between the search and this transaction is searched now:
 * every such row is at or above next_row, and no other write can come between.
 */
static int search_newcomers(struct service_call *call, struct db_txn *txn, struct search *search)
{
	struct gallery_search how = {
		.probe = search->embedding,
		.dim = call->service->options.pack->dim,
		.threshold = search->how.threshold,
		.max_candidates = search->max_candidates,
		.now_ms = clock_wall_ms(),
		.other_than = search->other_than,
		.from_row = search->next_row,
		.arena = &call->arena,
	};

	gallery_identify_in(call->service->options.store, txn, search->names[0], &how);
	return how.error ? how.error : search_merge(call, search, search->names[0], &how.result);
}

/* The answer goes with whom it tells of. */
static int add_owner(struct service_call *call, struct db_txn *txn, struct requests_owner *owners,
		     const char *subject, const char *encounter)
{
	const Biomatch__V1__EnrolRequest *request = (const void *)call->request;
	struct requests_owner *owner = &owners[call->job.n_owners];
	int error = gallery_owner(call->service->options.store, txn, request->gallery, subject,
				  owner->key);

	if (error)
		return error;
	strcpy(owner->tag, encounter);
	call->job.owners = owners;
	call->job.n_owners++;
	return 0;
}

static int add_candidates(struct service_call *call, struct db_txn *txn,
			  const struct search *search)
{
	struct requests_owner *owners = call_alloc(call, search->n_found * sizeof(*owners));
	int error = owners ? 0 : BM_ENOMEM;

	for (size_t i = 0; !error && i < search->n_found; i++)
		error = add_owner(call, txn, owners, search->found[i].candidate->subject,
				  search->found[i].candidate->encounter);
	return error;
}

/* With the encounter, in the same transaction. */
static int keep_image(struct service_call *call, struct db_txn *txn,
		      const struct gallery_change *put, const struct gallery_outcome *outcome)
{
	const struct enrol *enrol = call->state;
	struct gallery_change change = {
		.kind = GALLERY_KEEP_IMAGE,
		.gallery = put->gallery,
		.subject = put->subject,
		.image = enrol->reference.picture,
		.now_ms = put->now_ms,
	};
	struct gallery_outcome kept;

	strcpy(change.encounter.id, outcome->encounter);
	return gallery_apply(call->service->options.store, txn, &change, &kept);
}

static int put(struct service_call *call, struct db_txn *txn, Biomatch__V1__EnrolResponse *out)
{
	const Biomatch__V1__EnrolRequest *request = (const void *)call->request;
	struct enrol *enrol = call->state;
	struct gallery_outcome *outcome = call_alloc(call, sizeof(*outcome));
	struct requests_owner *owner = call_alloc(call, sizeof(*owner));
	struct gallery_change change = {
		.kind = GALLERY_PUT,
		.gallery = request->gallery,
		.subject = request->subject_id,
		.encounter = enrol->encounter,
		.embedding = enrol->reference.embedding,
		.dim = call->service->options.pack->dim,
		.now_ms = clock_wall_ms(),
		.supersede = call->purpose->supersede,
	};
	int error;

	if (!outcome || !owner)
		return BM_ENOMEM;
	change.encounter.enrolled_ms = change.now_ms;
	error = gallery_apply(call->service->options.store, txn, &change, outcome);
	if (!error && call->purpose->keep_image)
		error = keep_image(call, txn, &change, outcome);
	if (!error)
		error = add_owner(call, txn, owner, request->subject_id, outcome->encounter);
	if (error)
		return call_fail(call, error, NULL, NULL);
	out->outcome = BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_CREATED;
	out->encounter_id = outcome->encounter;
	out->image_kept = call->purpose->keep_image;
	if (change.supersede)
		out->superseded = call->trail->erased = outcome->encounters;
	trail_subject(call, request->gallery, request->subject_id, outcome->encounter);
	trail_outcome(call, "CREATED", 0);
	return 0;
}

static int apply(struct service_call *call, struct db_txn *txn)
{
	struct enrol *enrol = call->state;
	struct search *search = &enrol->search;
	Biomatch__V1__EnrolResponse *out =
		call_message(call, &biomatch__v1__enrol_response__descriptor);
	int error = 0;

	if (!out)
		return BM_ENOMEM;
	call->response = &out->base;
	if (enrol->reference.finding) {
		out->outcome = BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_REFER;
		out->reason = reason_of(enrol->reference.finding);
		trail_outcome(call, "REFER", enrol->reference.finding);
	} else {
		if (call->search)
			error = search_newcomers(call, txn, search);
		if (!error && !search->n_found)
			error = put(call, txn, out);
		if (!error && search->n_found) {
			out->outcome = BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_DUPLICATE;
			error = search_candidates(call, search, &out->candidates);
			if (!error)
				error = add_candidates(call, txn, search);
			out->n_candidates = search->n_found;
			trail_outcome(call, "DUPLICATE", 0);
		}
	}
	if (error)
		return error;
	if (search->compared)
		out->basis = match_basis(call, &search->how, search->compared);
	out->probe = probe_report(call, &enrol->reference);
	out->times = stage_times(call);
	return !out->probe || !out->times || (search->compared && !out->basis) ? BM_ENOMEM : 0;
}

const struct rpc enrol_rpc = {
	.path = "/biomatch.v1.EnrolmentService/Enrol",
	.operation = POLICY_ENROL,
	.request = &biomatch__v1__enrol_request__descriptor,
	.response = &biomatch__v1__enrol_response__descriptor,
	.receipt = offsetof(Biomatch__V1__EnrolResponse, receipt),
	.state_size = sizeof(struct enrol),
	.prepare = prepare,
	.steps = {{CALL_FACE, run_reference}, {CALL_SCAN, search_done}},
	.apply = apply,
};
