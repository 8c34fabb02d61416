#include "biomatch/v1/admin_service.pb-c.h"
#include "call.h"

static int prepare(struct service_call *call)
{
	const Biomatch__V1__ReloadRequest *request = (const void *)call->request;

	return call_allow(call, request->purpose, NULL);
}

static int tell(struct service_call *call, struct service_reloaded *from, size_t n,
		Biomatch__V1__ReloadResponse *out)
{
	out->parts = call_alloc(call, (n + 1) * sizeof(*out->parts));
	if (!out->parts)
		return BM_ENOMEM;
	for (; out->n_parts < n; out->n_parts++) {
		Biomatch__V1__ReloadedPart *part =
			call_message(call, &biomatch__v1__reloaded_part__descriptor);

		if (!part)
			return BM_ENOMEM;
		part->part = (char *)(uintptr_t)from[out->n_parts].part;
		part->taken = from[out->n_parts].taken;
		part->message = from[out->n_parts].message;
		out->parts[out->n_parts] = part;
	}
	call->response = &out->base;
	return 0;
}

static int reload(struct service_call *call, struct faceworker *worker)
{
	const struct service_options *options = &call->service->options;
	Biomatch__V1__ReloadResponse *out =
		call_message(call, &biomatch__v1__reload_response__descriptor);
	struct service_reloaded *parts = call_alloc(call, SERVICE_RELOADED_MAX * sizeof(*parts));
	size_t n = 0;
	int error;

	(void)worker;
	if (!out || !parts)
		return BM_ENOMEM;
	if (!options->reload)
		return BM_EUNIMPL;
	error = options->reload(options->reload_ctx, call_should_stop, call, parts, &n);
	return error ? error : tell(call, parts, n, out);
}

const struct rpc reload_rpc = {
	.path = "/biomatch.v1.AdminService/Reload",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__reload_request__descriptor,
	.response = &biomatch__v1__reload_response__descriptor,
	.receipt = offsetof(Biomatch__V1__ReloadResponse, receipt),
	.prepare = prepare,
	.steps = {{CALL_READ, reload}},
};
