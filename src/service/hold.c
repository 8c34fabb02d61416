/* Legal holds: placed, released, listed. */
#include "biomatch/clock.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "match.h"
#include "subject.h"
#include "times.h"
#include "trail.h"

/* The audit log keeps a hash of the matter. */
static int check_matter(struct service_call *call, const char *matter, const char *request_id)
{
	int error = call_check_text(call, "matter", matter, 1, GALLERY_MATTER_MAX);

	if (!error)
		trail_input(call, (struct bytes){(const uint8_t *)matter, strlen(matter)});
	return error ? error : call_check_request_id(call, request_id);
}

static int apply_hold(struct service_call *call, struct db_txn *txn, struct gallery_change *change,
		      uint32_t *holds)
{
	struct gallery_outcome outcome = {0};
	int error;

	change->now_ms = clock_wall_ms();
	error = gallery_apply(call->service->options.store, txn, change, &outcome);
	*holds = outcome.holds;
	return error == BM_EEXISTS ? call_fail(call, error, "matter", "the hold stands already")
				   : error;
}

static int place_prepare(struct service_call *call)
{
	const Biomatch__V1__PlaceLegalHoldRequest *request = (const void *)call->request;
	int error = subject_check(call, request->purpose, request->gallery, request->subject_id);

	return error ? error : check_matter(call, request->matter, request->request_id);
}

static int place(struct service_call *call, struct db_txn *txn)
{
	const Biomatch__V1__PlaceLegalHoldRequest *request = (const void *)call->request;
	Biomatch__V1__PlaceLegalHoldResponse *out =
		call_message(call, &biomatch__v1__place_legal_hold_response__descriptor);
	struct gallery_change change = {
		.kind = GALLERY_HOLD,
		.gallery = request->gallery,
		.subject = request->subject_id,
		.matter = request->matter,
	};

	if (!out)
		return BM_ENOMEM;
	call->response = &out->base;
	return apply_hold(call, txn, &change, &out->holds);
}

const struct rpc place_legal_hold_rpc = {
	.path = "/biomatch.v1.AdminService/PlaceLegalHold",
	.operation = POLICY_HOLD,
	.request = &biomatch__v1__place_legal_hold_request__descriptor,
	.response = &biomatch__v1__place_legal_hold_response__descriptor,
	.receipt = offsetof(Biomatch__V1__PlaceLegalHoldResponse, receipt),
	.prepare = place_prepare,
	.apply = place,
};

static int release_prepare(struct service_call *call)
{
	const Biomatch__V1__ReleaseLegalHoldRequest *request = (const void *)call->request;
	int error = subject_check(call, request->purpose, request->gallery, request->subject_id);

	return error ? error : check_matter(call, request->matter, request->request_id);
}

static int release(struct service_call *call, struct db_txn *txn)
{
	const Biomatch__V1__ReleaseLegalHoldRequest *request = (const void *)call->request;
	Biomatch__V1__ReleaseLegalHoldResponse *out =
		call_message(call, &biomatch__v1__release_legal_hold_response__descriptor);
	struct gallery_change change = {
		.kind = GALLERY_RELEASE,
		.gallery = request->gallery,
		.subject = request->subject_id,
		.matter = request->matter,
	};

	if (!out)
		return BM_ENOMEM;
	call->response = &out->base;
	return apply_hold(call, txn, &change, &out->holds);
}

const struct rpc release_legal_hold_rpc = {
	.path = "/biomatch.v1.AdminService/ReleaseLegalHold",
	.operation = POLICY_HOLD,
	.request = &biomatch__v1__release_legal_hold_request__descriptor,
	.response = &biomatch__v1__release_legal_hold_response__descriptor,
	.receipt = offsetof(Biomatch__V1__ReleaseLegalHoldResponse, receipt),
	.prepare = release_prepare,
	.apply = release,
};

static int list_prepare(struct service_call *call)
{
	const Biomatch__V1__ListLegalHoldsRequest *request = (const void *)call->request;

	return subject_check(call, request->purpose, request->gallery, request->subject_id);
}

static int find_holds(struct service_call *call, struct gallery_hold *holds, size_t *n)
{
	const Biomatch__V1__ListLegalHoldsRequest *request = (const void *)call->request;
	struct gallery_snapshot *snapshot;
	struct gallery_info gallery;
	int error = gallery_snapshot_open(call->service->options.store, &snapshot);

	if (error)
		return error;
	error = find_gallery(call, snapshot, request->gallery, "gallery", &gallery);
	if (!error)
		error = gallery_holds(snapshot, &gallery, request->subject_id, holds, n);
	gallery_snapshot_close(snapshot);
	return error;
}

static int list(struct service_call *call, struct faceworker *worker)
{
	Biomatch__V1__ListLegalHoldsResponse *out =
		call_message(call, &biomatch__v1__list_legal_holds_response__descriptor);
	/* In the arena, which is wiped. */
	struct gallery_hold *holds = call_alloc(call, GALLERY_MAX_HOLDS * sizeof(*holds));
	size_t n;
	int error = out && holds ? find_holds(call, holds, &n) : BM_ENOMEM;

	(void)worker;
	if (error)
		return error;
	out->holds = call_alloc(call, (n + 1) * sizeof(*out->holds));
	if (!out->holds)
		return BM_ENOMEM;
	for (; out->n_holds < n; out->n_holds++) {
		Biomatch__V1__LegalHold *hold =
			call_message(call, &biomatch__v1__legal_hold__descriptor);

		if (!hold)
			return BM_ENOMEM;
		hold->matter = holds[out->n_holds].matter;
		hold->placed_at = time_to_wire(call, holds[out->n_holds].placed_ms);
		if (!hold->placed_at)
			return BM_ENOMEM;
		out->holds[out->n_holds] = hold;
	}
	call->response = &out->base;
	return 0;
}

const struct rpc list_legal_holds_rpc = {
	.path = "/biomatch.v1.AdminService/ListLegalHolds",
	.operation = POLICY_HOLD,
	.request = &biomatch__v1__list_legal_holds_request__descriptor,
	.response = &biomatch__v1__list_legal_holds_response__descriptor,
	.receipt = offsetof(Biomatch__V1__ListLegalHoldsResponse, receipt),
	.prepare = list_prepare,
	.steps = {{CALL_READ, list}},
};
