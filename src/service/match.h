/*
 * What every comparison shares: the threshold of the purpose, the band, the raw
 * score where it is allowed, and the basis told with each decision.
 */
#ifndef SERVICE_MATCH_H
#define SERVICE_MATCH_H

#include "biomatch/v1/common.pb-c.h"
#include "call.h"

/* How strictly a call compares. */
struct strictness {
	double rate, refer_rate; /* the purpose's targets; the latter 0 where it has none */
	float threshold;
	float refer_threshold; /* from here to the threshold a score is referred */
	uint64_t attempts;     /* that the thresholds are corrected for */
	double each_rate;      /* what is left of the rate for one reference */
};

/*
 * For comparisons: the purpose's target FMR over all attempts of the call
 * together, each frame of the probe against each of so many references.
 */
int strictness_of_comparison(struct service_call *call, uint64_t references,
			     struct strictness *out);
/*
 * For a search of n references: the per-comparison FMR f that meets the
 * purpose's FPIR over all attempts, 1 - (1 - f)^(n attempts) = FPIR
 * (ISO/IEC 19795-1, independent comparisons). BM_ETARGET where the calibration's sample cannot
 * support it.
 */
int strictness_of_search(struct service_call *call, uint64_t n, struct strictness *out);

/* *finding is BM_EUNCERTAIN where the decision is to refer, else 0. */
Biomatch__V1__Decision decide_score(const struct strictness *how, float score, int *finding);
/* The coarse band of a score. */
Biomatch__V1__ScoreBand score_band(const struct service_call *call, const struct strictness *how,
				   float score);
/* The exact score, or *out NULL where the purpose may not see it. */
int raw_score(struct service_call *call, const struct strictness *how, float score,
	      Biomatch__V1__RawScore **out);
/* As the audit log calls it. */
const char *decision_text(Biomatch__V1__Decision decision);
/* What was compared, and how strictly; NULL when memory is out. Noted for the audit log. */
Biomatch__V1__MatchBasis *match_basis(struct service_call *call, const struct strictness *how,
				      uint64_t compared);
/* Finds a gallery of the service's model. */
int find_gallery(struct service_call *call, struct gallery_snapshot *snapshot, const char *name,
		 const char *field, struct gallery_info *out);

#endif
