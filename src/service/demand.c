#include "demand.h"

#include "trail.h"

unsigned demand_wanted(const struct service_call *call, const struct probe *probe)
{
	if (probe->role != PROBE_CAPTURE)
		return 0;
	return call->purpose->pad ? FACE_LIVENESS : 0;
}

static bool asks_liveness(const struct service_call *call, const struct probe *probe)
{
	return demand_wanted(call, probe) & FACE_LIVENESS;
}

static bool looks_live(const struct service_call *call, const struct probe *probe)
{
	return (double)probe->report->liveness >= call->purpose->pad_threshold;
}

int demand_check(struct service_call *call, struct probe *probe)
{
	if (!asks_liveness(call, probe) || !probe->report->n_faces)
		return 0;
	trail_liveness(call, probe->report->liveness, (float)call->purpose->pad_threshold);
	if (probe->finding || looks_live(call, probe))
		return 0;
	probe->finding = BM_EATTACK;
	/* Analyse decides nothing: it says what it saw. */
	if (call->purpose->pad == POLICY_PAD_REFER || call->rpc->operation == POLICY_ANALYSE)
		return 0;
	return call_fail(call, BM_EATTACK, probe->field, NULL);
}

static int tell_liveness(struct service_call *call, const struct probe *probe,
			 Biomatch__V1__Liveness **out)
{
	Biomatch__V1__Liveness *told = call_message(call, &biomatch__v1__liveness__descriptor);

	*out = told;
	if (!told)
		return BM_ENOMEM;
	told->live = looks_live(call, probe);
	if (!call->purpose->raw_scores)
		return 0;
	told->raw = call_message(call, &biomatch__v1__raw_liveness__descriptor);
	if (!told->raw)
		return BM_ENOMEM;
	told->raw->score = probe->report->liveness;
	told->raw->threshold = (float)call->purpose->pad_threshold;
	return 0;
}

int demand_report(struct service_call *call, const struct probe *probe,
		  Biomatch__V1__ProbeReport *out)
{
	return asks_liveness(call, probe) ? tell_liveness(call, probe, &out->liveness) : 0;
}
