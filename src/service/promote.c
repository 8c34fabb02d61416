#include "biomatch/clock.h"
#include "changes.h"

static int prepare(struct service_call *call)
{
	const Biomatch__V1__PromoteStandbyRequest *request = (const void *)call->request;
	int error = call_allow(call, request->purpose, NULL);

	return error ? error : call_check_request_id(call, request->request_id);
}

static int promote(struct service_call *call, struct db_txn *txn)
{
	Biomatch__V1__PromoteStandbyResponse *out =
		call_message(call, &biomatch__v1__promote_standby_response__descriptor);
	struct changes_place head;
	int error;

	if (!out)
		return BM_ENOMEM;
	error = standby_promote(call->service->options.standby, txn, clock_wall_ms(), &head);
	if (error == BM_EEXISTS)
		return call_fail(call, error, NULL, "this daemon leads already");
	if (error)
		return error;
	call->response = &out->base;
	return place_to_wire(&call->arena, &head, &out->head) ? 0 : BM_ENOMEM;
}

const struct rpc promote_standby_rpc = {
	.path = "/biomatch.v1.AdminService/PromoteStandby",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__promote_standby_request__descriptor,
	.response = &biomatch__v1__promote_standby_response__descriptor,
	.receipt = offsetof(Biomatch__V1__PromoteStandbyResponse, receipt),
	.prepare = prepare,
	.apply = promote,
};
