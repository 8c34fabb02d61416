#include "biomatch/v1/analysis_service.pb-c.h"
#include "probe.h"

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

	return error ? error
		     : probe_prepare_image(call, request->image, "image", &analysis->picture);
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
	return !out->report || !out->times ? BM_ENOMEM : 0;
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
		return call_fail(call, picture->finding, "image", NULL);
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
