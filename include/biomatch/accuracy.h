/*
 * How well templates tell people apart: the scores of every pair of a labelled
 * set, and the error rates that follow from them (ISO/IEC 19795-1).
 *
 * Intervals are Wilson's (1927), 95 %, on the number of independent comparisons
 * that would vary as much as these do: pairs that share a person are not
 * independent. That number follows from how the rates of single persons scatter,
 * for FNMR as of a ratio over clusters, for FMR as of a U-statistic (Hoeffding
 * 1948). The latter counts a pair's own chance for both of its persons, so that an
 * interval errs on the wide side.
 *
 * Thread: any, each set its own; score_init comes first.
 * Errors: BM_ENOMEM; BM_EINVAL where there is no pair of one kind.
 */
#ifndef BIOMATCH_ACCURACY_H
#define BIOMATCH_ACCURACY_H

#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"

#define ACCURACY_MAX_POINTS 32
/* Fewer false matches than this are chance, not a measurement. */
#define ACCURACY_MIN_FALSE_MATCHES 30

/* Unit templates, dim floats apart, and whose each is: 0 to n_people - 1, in any order. */
struct accuracy_set {
	const float *rows;
	const uint32_t *people;
	size_t n, dim, n_people;
};

/* A share, and the interval that holds the true one. */
struct accuracy_rate {
	double rate, low, high; /* 0..1 */
};

/* At this score and above two templates are taken for one person's. */
struct accuracy_point {
	float score;
	struct accuracy_rate fmr, fnmr;
};

struct accuracy {
	uint64_t mates, non_mates; /* pairs */
	/*
	 * At target rates of 1, 0.5 and 0.2 times each power of ten from 1e-1 down to the last
	 * with ACCURACY_MIN_FALSE_MATCHES, the score being the lowest that no more reach.
	 */
	double targets[ACCURACY_MAX_POINTS];
	struct accuracy_point points[ACCURACY_MAX_POINTS];
	size_t n_points;
	float stranger; /* 99 % of non-mates stay below it */
	float mate;     /* half of the mates reach it */
};

/* Scores all n (n - 1) / 2 pairs, twice. */
int accuracy_measure(const struct accuracy_set *set, struct accuracy *out) BM_MUST_CHECK;

/* Wilson's interval of k of n independent trials; n need not be whole. */
struct accuracy_rate accuracy_share(double k, double n);

#endif
