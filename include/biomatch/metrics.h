/*
 * What the daemon counts about itself, told as Prometheus text (exposition
 * format 0.0.4).
 *
 * The families are one list. Each has a bound on its series: labels beyond it
 * are counted under "other", so that no caller can make the daemon hold, or the
 * monitoring store, without end. Labels never carry subject ids, request ids or
 * endpoint numbers.
 *
 * Every thread counts in cells of its own, so that counting takes no lock and
 * no locked instruction; reading adds the threads' cells up.
 *
 * Thread: any.
 * Errors: counting never fails; what finds no memory is not counted.
 * Owns: the threads' cells, until metrics_close, when no thread may count any more.
 */
#ifndef BIOMATCH_METRICS_H
#define BIOMATCH_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "biomatch/error.h"

/* Labels of one family at most, and bytes of one label's value; longer ones are cut. */
#define METRICS_MAX_LABELS 4
#define METRICS_LABEL_MAX  64

/* The families and their labels, in order. */
enum metrics_id {
	METRICS_RPCS,               /* method, status, class */
	METRICS_RPC_TIME,           /* method */
	METRICS_STAGE_TIME,         /* stage */
	METRICS_ERRORS,             /* reason */
	METRICS_DECISIONS,          /* method, decision, reason, class */
	METRICS_SCORE_BANDS,        /* method, band */
	METRICS_LIVE_FMR,           /* class, site */
	METRICS_ESTATE_CALLS,       /* site, class, status */
	METRICS_ESTATE_CONNECTIONS, /* site, class */
	METRICS_ESTATE_LAST_CALL,   /* site, class */
	METRICS_FAMILIES
};

struct metrics;

int metrics_open(struct metrics **out) BM_MUST_CHECK;
void metrics_close(struct metrics *metrics);

/* Counts; labels holds the family's values in its order. */
void metrics_add(struct metrics *metrics, enum metrics_id id, const char *const *labels,
		 uint64_t n);
/* Moves a level up or down, in a family of levels. */
void metrics_move(struct metrics *metrics, enum metrics_id id, const char *const *labels,
		  int64_t by);
/* Notes that it happens now, in a family of times. */
void metrics_note_time(struct metrics *metrics, enum metrics_id id, const char *const *labels);
/* Notes a duration in a family of histograms. */
void metrics_observe(struct metrics *metrics, enum metrics_id id, const char *const *labels,
		     int64_t ns);
/*
 * Counts trials, those of them that hit, and the hits to be expected where each
 * has this probability, in a family of proportions.
 */
void metrics_add_trials(struct metrics *metrics, enum metrics_id id, const char *const *labels,
			uint64_t trials, uint64_t hits, double probability);

/* Writes every family that has been counted; the caller checks the stream. */
void metrics_write(struct metrics *metrics, FILE *out);

/*
 * Facts that are looked up instead of counted: a family's head, then its samples.
 * type is "gauge" or "counter"; labels are name, value pairs that end with NULL.
 */
void metrics_write_head(FILE *out, const char *name, const char *type, const char *help);
void metrics_write_sample(FILE *out, const char *name, const char *const *labels, double value);

#endif
