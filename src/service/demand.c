#include "demand.h"

#include <stdlib.h>

#include "trail.h"

static const struct quality *quality_asked(const struct service_call *call,
					   const struct probe *probe)
{
	static const struct quality nothing;

	if (probe->role == PROBE_CAPTURE)
		return &call->purpose->min_quality;
	return call->purpose->portrait ? &quality_portrait : &nothing;
}

static bool asks_liveness(const struct service_call *call, const struct probe *probe)
{
	return probe->role == PROBE_CAPTURE && call->purpose->pad != POLICY_PAD_OFF;
}

unsigned demand_wanted(const struct service_call *call, const struct probe *probe)
{
	return (quality_is_asked(quality_asked(call, probe)) ? FACE_QUALITY : 0) |
	       (asks_liveness(call, probe) ? FACE_LIVENESS : 0);
}

static bool looks_live(const struct service_call *call, const struct probe *probe)
{
	return (double)probe->report->liveness >= call->purpose->pad_threshold;
}

static int check_liveness(struct service_call *call, struct probe *probe)
{
	trail_liveness(call, probe->report->liveness, (float)call->purpose->pad_threshold);
	if (probe->finding || looks_live(call, probe))
		return 0;
	probe->finding = BM_EATTACK;
	/* Analyse decides nothing: it says what it saw. */
	if (call->purpose->pad == POLICY_PAD_REFER || call->rpc->operation == POLICY_ANALYSE)
		return 0;
	return call_fail(call, BM_EATTACK, probe->field, NULL);
}

int demand_check(struct service_call *call, struct probe *probe)
{
	const struct face_report *report = probe->report;
	int error = 0;

	if (!report->n_faces)
		return 0;
	if (asks_liveness(call, probe))
		error = check_liveness(call, probe);
	if (!error && !probe->finding && report->measured & FACE_QUALITY &&
	    quality_falls_short(&report->quality, quality_asked(call, probe)))
		probe->finding = probe->role == PROBE_CAPTURE ? BM_ELOWQUALITY : BM_ENOPORTRAIT;
	return error;
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

static int by_shortfall(const void *a, const void *b)
{
	const Biomatch__V1__QualityCheck *x = *(Biomatch__V1__QualityCheck *const *)a;
	const Biomatch__V1__QualityCheck *y = *(Biomatch__V1__QualityCheck *const *)b;
	int more = (int)y->minimum - (int)y->value - ((int)x->minimum - (int)x->value);

	return more ? more : (int)x->component - (int)y->component;
}

/* What nothing could be judged of is told as 0, so that the reason has its cause. */
static bool is_told(const struct quality *has, int component)
{
	return has->value[component] != QUALITY_UNKNOWN ||
	       has->value[QUALITY_OVERALL] == QUALITY_UNKNOWN;
}

static int tell_checks(struct service_call *call, const struct quality *has,
		       const struct quality *asked, Biomatch__V1__ProbeReport *out)
{
	out->checks = call_alloc(call, QUALITY_COMPONENTS * sizeof(*out->checks));
	if (!out->checks)
		return BM_ENOMEM;
	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		Biomatch__V1__QualityCheck *check;

		if (!asked->value[i] || !is_told(has, i))
			continue;
		check = call_message(call, &biomatch__v1__quality_check__descriptor);
		if (!check)
			return BM_ENOMEM;
		check->component = (Biomatch__V1__QualityComponent)(i + 1);
		check->value = has->value[i] == QUALITY_UNKNOWN ? 0 : has->value[i];
		check->minimum = asked->value[i];
		out->checks[out->n_checks++] = check;
	}
	if (out->n_checks)
		qsort(out->checks, out->n_checks, sizeof(*out->checks), by_shortfall);
	return 0;
}

int demand_report(struct service_call *call, const struct probe *probe,
		  Biomatch__V1__ProbeReport *out)
{
	const struct quality *asked = quality_asked(call, probe);
	int error = 0;

	if (asks_liveness(call, probe))
		error = tell_liveness(call, probe, &out->liveness);
	if (!error && quality_is_asked(asked))
		error = tell_checks(call, &probe->report->quality, asked, out);
	return error;
}

static enum quality_component worst(const struct quality *has, const struct quality *asked)
{
	int at = 0;

	for (int i = 1; i < QUALITY_COMPONENTS; i++) {
		if (quality_shortfall(has, asked, (enum quality_component)i) >
		    quality_shortfall(has, asked, (enum quality_component)at))
			at = i;
	}
	return (enum quality_component)at;
}

int demand_fail(struct service_call *call, const struct probe *probe)
{
	const struct quality *asked = quality_asked(call, probe);
	enum quality_component least;

	if (probe->finding != BM_ELOWQUALITY)
		return call_fail(call, probe->finding, probe->field, NULL);
	least = worst(&probe->report->quality, asked);
	return call_failf(call, BM_ELOWQUALITY, probe->field, "%s falls short of %u",
			  quality_component_name(least), (unsigned)asked->value[least]);
}
