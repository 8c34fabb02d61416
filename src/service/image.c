/* Pictures that were kept with their encounters. */
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "match.h"
#include "subject.h"
#include "trail.h"

static int prepare(struct service_call *call)
{
	const Biomatch__V1__GetImageRequest *request = (const void *)call->request;
	int error = subject_check(call, request->purpose, request->gallery, request->subject_id);

	if (!error)
		error = call_check_text(call, "encounter_id", request->encounter_id, 1,
					GALLERY_ENCOUNTER_MAX);
	if (!error)
		trail_subject(call, request->gallery, request->subject_id, request->encounter_id);
	return error;
}

static int get(struct service_call *call, struct faceworker *worker)
{
	const Biomatch__V1__GetImageRequest *request = (const void *)call->request;
	Biomatch__V1__GetImageResponse *out =
		call_message(call, &biomatch__v1__get_image_response__descriptor);
	struct gallery_snapshot *snapshot;
	struct gallery_info gallery;
	struct bytes picture = {0};
	int error;

	(void)worker;
	if (!out)
		return BM_ENOMEM;
	error = gallery_snapshot_open(call->service->options.store, &snapshot);
	if (error)
		return error;
	error = find_gallery(call, snapshot, request->gallery, "gallery", &gallery);
	if (!error)
		error = gallery_image(snapshot, &gallery, request->subject_id,
				      request->encounter_id, &call->arena, &picture);
	gallery_snapshot_close(snapshot);
	if (error)
		return error;
	out->data = (ProtobufCBinaryData){picture.len, (uint8_t *)(uintptr_t)picture.data};
	call->response = &out->base;
	return 0;
}

const struct rpc get_image_rpc = {
	.path = "/biomatch.v1.EnrolmentService/GetImage",
	.operation = POLICY_IMAGE,
	.request = &biomatch__v1__get_image_request__descriptor,
	.response = &biomatch__v1__get_image_response__descriptor,
	.receipt = offsetof(Biomatch__V1__GetImageResponse, receipt),
	.prepare = prepare,
	.steps = {{CALL_READ, get}},
};
