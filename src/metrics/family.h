/*
 * The list of families.
 */
#ifndef METRICS_FAMILY_H
#define METRICS_FAMILY_H

#include "biomatch/metrics.h"

enum metrics_kind {
	METRICS_COUNTER,
	METRICS_LEVEL,
	METRICS_TIME, /* when it last happened, Unix time */
	METRICS_HISTOGRAM,
	/* NAME_trials_total, NAME_hits_total, NAME_expected_total, and NAME with its bounds */
	METRICS_PROPORTION,
};

struct metrics_family {
	const char *name, *help; /* without a full stop */
	enum metrics_kind kind;
	unsigned max_series; /* those beyond are counted together */
	const char *labels[METRICS_MAX_LABELS];
};

extern const struct metrics_family metrics_families[METRICS_FAMILIES];

/* Upper bounds of every histogram's buckets, in nanoseconds; one more is without bound. */
#define METRICS_BOUNDS 17
extern const int64_t metrics_bounds[METRICS_BOUNDS];

#endif
