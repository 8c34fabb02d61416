/*
 * Searching galleries with one probe: Identify, and the duplicate check of
 * Enrol.
 */
#ifndef SERVICE_SEARCH_H
#define SERVICE_SEARCH_H

#include "biomatch/v1/matching_service.pb-c.h"
#include "match.h"

/* One candidate and the gallery it came from. */
struct found {
	const char *gallery;
	struct gallery_candidate *candidate;
};

/* The galleries to search and what came of it. */
struct search {
	char **names;
	size_t n_names;
	const char *field; /* of the names in the request */
	const float *embedding;
	size_t max_candidates;
	const struct gallery_filter *filter;
	const char *other_than;

	int error;
	struct strictness how;
	struct gallery_info *galleries; /* of the names */
	struct found *found;            /* best first */
	size_t n_found;
	uint64_t compared;
	uint64_t next_row; /* of the last gallery: rows at or above it were not seen */
};

/* Whether two searches are of the same galleries, and may go through them together. */
bool search_alike(const struct search *a, const struct search *b);
/*
 * Makes the searches of calls that are alike, in one pass over a snapshot, on this
 * thread and those of the scan pool that are free. Each call->search has its outcome.
 */
void search_pass(struct service *service, struct service_call *const *calls, size_t n);
/* The step after the pass: 0, or why there is no outcome. */
int search_done(struct service_call *call, struct faceworker *worker);
/* Adds one gallery's result to what was found, keeping the best. */
int search_merge(struct service_call *call, struct search *search, const char *gallery,
		 const struct gallery_result *result);
/* The candidates as they are answered; *out has search->n_found of them. */
int search_candidates(struct service_call *call, const struct search *search,
		      Biomatch__V1__Candidate ***out);

#endif
