#include "match.h"

#include "trail.h"

static int threshold_for(struct service_call *call, double fmr, float *threshold)
{
	double smallest;

	if (!pack_threshold(call->service->options.pack, fmr, threshold, &smallest))
		return 0;
	return call_failf(call, BM_ETARGET, NULL,
			  "the target needs a false match rate of %.3g for each comparison, the "
			  "calibration supports %.3g; ask for a larger target or a larger "
			  "calibration",
			  fmr, smallest);
}

int strictness_of_comparison(struct service_call *call, uint64_t references, struct strictness *out)
{
	int error;

	out->rate = call->purpose->target_fmr;
	out->refer_rate = call->purpose->refer_fmr;
	out->attempts = call->attempts * references;
	out->each_rate = policy_search_fmr(out->rate, references);
	error = threshold_for(call, policy_search_fmr(out->rate, out->attempts), &out->threshold);
	out->refer_threshold = out->threshold;
	if (error || !out->refer_rate)
		return error;
	return threshold_for(call, policy_search_fmr(out->refer_rate, out->attempts),
			     &out->refer_threshold);
}

int strictness_of_search(struct service_call *call, uint64_t n, struct strictness *out)
{
	int error;

	out->rate = call->purpose->target_fpir;
	out->refer_rate = 0;
	out->attempts = call->attempts;
	out->each_rate = policy_search_fmr(out->rate, n);
	error = threshold_for(call, policy_search_fmr(out->rate, n * call->attempts),
			      &out->threshold);
	out->refer_threshold = out->threshold;
	return error;
}

Biomatch__V1__Decision decide_score(const struct strictness *how, float score, int *finding)
{
	*finding = 0;
	if (score >= how->threshold)
		return BIOMATCH__V1__DECISION__DECISION_MATCH;
	if (score < how->refer_threshold)
		return BIOMATCH__V1__DECISION__DECISION_NO_MATCH;
	*finding = BM_EUNCERTAIN;
	return BIOMATCH__V1__DECISION__DECISION_REFER;
}

Biomatch__V1__ScoreBand score_band(const struct service_call *call, const struct strictness *how,
				   float score)
{
	const struct pack *pack = call->service->options.pack;

	if (score >= how->threshold)
		return score >= pack->band_mate ? BIOMATCH__V1__SCORE_BAND__SCORE_BAND_MATE
						: BIOMATCH__V1__SCORE_BAND__SCORE_BAND_ABOVE;
	return score < pack->band_stranger ? BIOMATCH__V1__SCORE_BAND__SCORE_BAND_STRANGER
					   : BIOMATCH__V1__SCORE_BAND__SCORE_BAND_BELOW;
}

int raw_score(struct service_call *call, const struct strictness *how, float score,
	      Biomatch__V1__RawScore **out)
{
	*out = NULL;
	if (!call->purpose->raw_scores)
		return 0;
	*out = call_message(call, &biomatch__v1__raw_score__descriptor);
	if (!*out)
		return BM_ENOMEM;
	(*out)->score = score;
	(*out)->threshold = how->threshold;
	(*out)->fmr = pack_fmr(call->service->options.pack, score);
	return 0;
}

const char *decision_text(Biomatch__V1__Decision decision)
{
	switch (decision) {
	case BIOMATCH__V1__DECISION__DECISION_MATCH:
		return "MATCH";
	case BIOMATCH__V1__DECISION__DECISION_NO_MATCH:
		return "NO_MATCH";
	default:
		return "REFER";
	}
}

Biomatch__V1__MatchBasis *match_basis(struct service_call *call, const struct strictness *how,
				      uint64_t compared)
{
	const struct pack *pack = call->service->options.pack;
	Biomatch__V1__MatchBasis *out = call_message(call, &biomatch__v1__match_basis__descriptor);

	if (!out)
		return NULL;
	out->model = (char *)(uintptr_t)pack->model;
	out->calibration_id = (char *)(uintptr_t)pack->calibration_id;
	out->target_rate = how->rate;
	out->refer_rate = how->refer_rate;
	out->compared = compared;
	out->attempts = (uint32_t)how->attempts;
	call->trail->calibration_id = out->calibration_id;
	call->trail->target_rate = how->rate;
	call->trail->threshold = how->threshold;
	call->trail->compared = compared;
	return out;
}

int find_gallery(struct service_call *call, struct gallery_snapshot *snapshot, const char *name,
		 const char *field, struct gallery_info *out)
{
	const char *model = call->service->options.pack->model;
	int error = gallery_find(snapshot, name, out);

	if (error)
		return call_fail(call, error, error == BM_ENOGALLERY ? field : NULL, NULL);
	if (strcmp(out->model, model))
		return call_failf(call, BM_EMODEL, field,
				  "the gallery holds templates of model %.64s, the service runs %s",
				  out->model, model);
	return 0;
}
