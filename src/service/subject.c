#include "subject.h"
#include "biomatch/clock.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "match.h"
#include "times.h"
#include "trail.h"

int subject_check(struct service_call *call, const char *purpose, const char *gallery,
		  const char *subject)
{
	int error = call_check_text(call, "gallery", gallery, 1, GALLERY_NAME_MAX);

	if (!error)
		error = call_check_text(call, "subject_id", subject, 1, GALLERY_SUBJECT_MAX);
	if (!error)
		error = call_allow(call, purpose, gallery);
	if (!error)
		trail_subject(call, gallery, subject, NULL);
	return error;
}

static int get_prepare(struct service_call *call)
{
	const Biomatch__V1__GetSubjectRequest *request = (const void *)call->request;

	return subject_check(call, request->purpose, request->gallery, request->subject_id);
}

static Biomatch__V1__Encounter *encounter_to_wire(struct service_call *call,
						  struct gallery_encounter *from)
{
	Biomatch__V1__Encounter *to = call_message(call, &biomatch__v1__encounter__descriptor);

	if (!to)
		return NULL;
	to->encounter_id = from->id;
	to->encounter_type = from->type;
	to->site = from->site;
	to->has_image = from->has_image;
	to->captured_at = time_to_wire(call, from->captured_ms);
	to->enrolled_at = time_to_wire(call, from->enrolled_ms);
	if (from->expires_ms != GALLERY_NEVER) {
		to->expires_at = time_to_wire(call, from->expires_ms);
		if (!to->expires_at)
			return NULL;
	}
	to->model = (char *)(uintptr_t)call->service->options.pack->model;
	return to->captured_at && to->enrolled_at ? to : NULL;
}

int encounters_to_wire(struct service_call *call, const struct gallery_subject *subject,
		       Biomatch__V1__Encounter ***out, size_t *n)
{
	*out = call_alloc(call, (subject->n + 1) * sizeof(**out));
	if (!*out)
		return BM_ENOMEM;
	for (*n = 0; *n < subject->n; ++*n) {
		(*out)[*n] = encounter_to_wire(call, &subject->encounters[*n]);
		if (!(*out)[*n])
			return BM_ENOMEM;
	}
	return 0;
}

int subject_find(struct service_call *call, const char *gallery, const char *subject,
		 struct gallery_info *info, struct gallery_subject *out)
{
	struct gallery_snapshot *snapshot;
	int error = gallery_snapshot_open(call->service->options.store, &snapshot);

	if (error)
		return error;
	error = find_gallery(call, snapshot, gallery, "gallery", info);
	if (!error)
		error = gallery_subject(snapshot, info, subject, &call->arena, out);
	gallery_snapshot_close(snapshot);
	return error;
}

static int get(struct service_call *call, struct faceworker *worker)
{
	const Biomatch__V1__GetSubjectRequest *request = (const void *)call->request;
	Biomatch__V1__GetSubjectResponse *out =
		call_message(call, &biomatch__v1__get_subject_response__descriptor);
	struct gallery_subject subject = {0};
	struct gallery_info gallery;
	int error;

	(void)worker;
	if (!out)
		return BM_ENOMEM;
	error = subject_find(call, request->gallery, request->subject_id, &gallery, &subject);
	if (error)
		return error;
	out->subject_id = request->subject_id;
	out->legal_hold = subject.is_held;
	call->response = &out->base;
	return encounters_to_wire(call, &subject, &out->encounters, &out->n_encounters);
}

const struct rpc get_subject_rpc = {
	.path = "/biomatch.v1.EnrolmentService/GetSubject",
	.operation = POLICY_READ,
	.request = &biomatch__v1__get_subject_request__descriptor,
	.response = &biomatch__v1__get_subject_response__descriptor,
	.receipt = offsetof(Biomatch__V1__GetSubjectResponse, receipt),
	.prepare = get_prepare,
	.steps = {{CALL_READ, get}},
};

static int delete_encounter_prepare(struct service_call *call)
{
	const Biomatch__V1__DeleteEncounterRequest *request = (const void *)call->request;
	int error = subject_check(call, request->purpose, request->gallery, request->subject_id);

	if (!error)
		error = call_check_text(call, "encounter_id", request->encounter_id, 1,
					GALLERY_ENCOUNTER_MAX);
	return error ? error : call_check_request_id(call, request->request_id);
}

static int delete_encounter(struct service_call *call, struct db_txn *txn)
{
	const Biomatch__V1__DeleteEncounterRequest *request = (const void *)call->request;
	Biomatch__V1__DeleteEncounterResponse *out =
		call_message(call, &biomatch__v1__delete_encounter_response__descriptor);
	struct gallery_change change = {
		.kind = GALLERY_DELETE_ENCOUNTER,
		.gallery = request->gallery,
		.subject = request->subject_id,
		.now_ms = clock_wall_ms(),
	};
	struct gallery_outcome outcome = {0};
	int error;

	if (!out)
		return BM_ENOMEM;
	strcpy(change.encounter.id, request->encounter_id);
	error = gallery_apply(call->service->options.store, txn, &change, &outcome);
	out->encounters_left = outcome.encounters;
	trail_subject(call, request->gallery, request->subject_id, request->encounter_id);
	call->trail->erased = 1;
	call->response = &out->base;
	return error;
}

const struct rpc delete_encounter_rpc = {
	.path = "/biomatch.v1.EnrolmentService/DeleteEncounter",
	.operation = POLICY_DELETE,
	.request = &biomatch__v1__delete_encounter_request__descriptor,
	.response = &biomatch__v1__delete_encounter_response__descriptor,
	.receipt = offsetof(Biomatch__V1__DeleteEncounterResponse, receipt),
	.prepare = delete_encounter_prepare,
	.apply = delete_encounter,
};

static int delete_subject_prepare(struct service_call *call)
{
	const Biomatch__V1__DeleteSubjectRequest *request = (const void *)call->request;
	int error = subject_check(call, request->purpose, request->gallery, request->subject_id);

	return error ? error : call_check_request_id(call, request->request_id);
}

static int delete_subject(struct service_call *call, struct db_txn *txn)
{
	const Biomatch__V1__DeleteSubjectRequest *request = (const void *)call->request;
	Biomatch__V1__DeleteSubjectResponse *out =
		call_message(call, &biomatch__v1__delete_subject_response__descriptor);
	struct gallery_change change = {
		.kind = GALLERY_DELETE_SUBJECT,
		.gallery = request->gallery,
		.subject = request->subject_id,
		.now_ms = clock_wall_ms(),
	};
	struct gallery_outcome outcome = {0};
	int error;

	if (!out)
		return BM_ENOMEM;
	error = gallery_apply(call->service->options.store, txn, &change, &outcome);
	out->encounters_deleted = outcome.encounters;
	call->trail->erased = outcome.encounters;
	call->response = &out->base;
	return error;
}

const struct rpc delete_subject_rpc = {
	.path = "/biomatch.v1.EnrolmentService/DeleteSubject",
	.operation = POLICY_DELETE,
	.request = &biomatch__v1__delete_subject_request__descriptor,
	.response = &biomatch__v1__delete_subject_response__descriptor,
	.receipt = offsetof(Biomatch__V1__DeleteSubjectResponse, receipt),
	.prepare = delete_subject_prepare,
	.apply = delete_subject,
};
