#include <stdlib.h>

#include "biomatch/v1/analysis_service.pb-c.h"
#include "demand.h"

struct analysis {
	struct probe picture;
};

static int run_picture(struct service_call *call, struct faceworker *worker)
{
	return probe_run(call, worker, &((struct analysis *)call->state)->picture);
}

static int analyse_prepare(struct service_call *call)
{
	const Biomatch__V1__AnalyseRequest *request = (const void *)call->request;
	struct analysis *analysis = call->state;
	int error = call_allow(call, request->purpose, NULL);

	analysis->picture.wanted = FACE_QUALITY;
	return error ? error
		     : probe_prepare_image(call, request->image, "image", &analysis->picture);
}

static int by_value(const void *a, const void *b)
{
	const Biomatch__V1__Quality *x = *(Biomatch__V1__Quality *const *)a;
	const Biomatch__V1__Quality *y = *(Biomatch__V1__Quality *const *)b;

	return x->value != y->value ? (x->value > y->value) - (x->value < y->value)
				    : (x->component > y->component) - (x->component < y->component);
}

/* The enumerators stand in the order of the components, after one for none. */
_Static_assert((int)BIOMATCH__V1__QUALITY_COMPONENT__QUALITY_COMPONENT_MOUTH_VISIBLE ==
		       QUALITY_MOUTH_VISIBLE + 1,
	       "components and their names differ");
_Static_assert(QUALITY_MOUTH_VISIBLE + 1 == QUALITY_COMPONENTS, "a component has no name");

static int fill_quality(struct service_call *call, const struct quality *from,
			Biomatch__V1__AnalyseResponse *out)
{
	out->quality = call_alloc(call, QUALITY_COMPONENTS * sizeof(*out->quality));
	if (!out->quality)
		return BM_ENOMEM;
	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		Biomatch__V1__Quality *to;

		if (from->value[i] == QUALITY_UNKNOWN)
			continue;
		to = call_message(call, &biomatch__v1__quality__descriptor);
		if (!to)
			return BM_ENOMEM;
		to->component = (Biomatch__V1__QualityComponent)(i + 1);
		to->value = from->value[i];
		out->quality[out->n_quality++] = to;
	}
	qsort(out->quality, out->n_quality, sizeof(*out->quality), by_value);
	return 0;
}

static int fill_measures(struct service_call *call, const struct face_report *report,
			 Biomatch__V1__AnalyseResponse *out)
{
	Biomatch__V1__HeadPose *pose;

	if (!(report->measured & FACE_QUALITY))
		return 0;
	pose = call_message(call, &biomatch__v1__head_pose__descriptor);
	if (!pose)
		return BM_ENOMEM;
	pose->yaw = report->pose.yaw;
	pose->roll = report->pose.roll;
	out->pose = pose;
	return fill_quality(call, &report->quality, out);
}

static int analyse(struct service_call *call, struct faceworker *worker)
{
	const struct probe *picture = &((struct analysis *)call->state)->picture;
	Biomatch__V1__AnalyseResponse *out =
		call_message(call, &biomatch__v1__analyse_response__descriptor);

	(void)worker;
	if (!out)
		return BM_ENOMEM;
	out->usable = !picture->finding;
	out->reason = reason_of(picture->finding);
	out->report = probe_report(call, picture);
	out->times = stage_times(call);
	call->response = &out->base;
	if (!out->report || !out->times)
		return BM_ENOMEM;
	return fill_measures(call, picture->report, out);
}

const struct rpc analyse_rpc = {
	.path = "/biomatch.v1.AnalysisService/Analyse",
	.operation = POLICY_ANALYSE,
	.request = &biomatch__v1__analyse_request__descriptor,
	.response = &biomatch__v1__analyse_response__descriptor,
	.state_size = sizeof(struct analysis),
	.prepare = analyse_prepare,
	.steps = {{CALL_FACE, run_picture}, {CALL_HERE, analyse}},
};

static int extract_prepare(struct service_call *call)
{
	const Biomatch__V1__ExtractRequest *request = (const void *)call->request;
	struct analysis *analysis = call->state;
	int error = call_allow(call, request->purpose, NULL);

	return error ? error
		     : probe_prepare_image(call, request->image, "image", &analysis->picture);
}

static int extract(struct service_call *call, struct faceworker *worker)
{
	const struct probe *picture = &((struct analysis *)call->state)->picture;
	Biomatch__V1__ExtractResponse *out =
		call_message(call, &biomatch__v1__extract_response__descriptor);
	int error;

	(void)worker;
	if (!out)
		return BM_ENOMEM;
	if (picture->finding)
		return demand_fail(call, picture);
	error = probe_seal(call, picture->embedding, &out->template_);
	out->report = probe_report(call, picture);
	out->times = stage_times(call);
	call->response = &out->base;
	if (error)
		return error;
	return !out->report || !out->times ? BM_ENOMEM : 0;
}

const struct rpc extract_rpc = {
	.path = "/biomatch.v1.AnalysisService/Extract",
	.operation = POLICY_EXTRACT,
	.request = &biomatch__v1__extract_request__descriptor,
	.response = &biomatch__v1__extract_response__descriptor,
	.receipt = offsetof(Biomatch__V1__ExtractResponse, receipt),
	.state_size = sizeof(struct analysis),
	.prepare = extract_prepare,
	.steps = {{CALL_FACE, run_picture}, {CALL_HERE, extract}},
};
