#include "search.h"

#include <stdlib.h>

#include "biomatch/clock.h"
#include "trail.h"

static int by_score(const void *a, const void *b)
{
	float x = ((const struct found *)a)->candidate->score;
	float y = ((const struct found *)b)->candidate->score;

	return (x < y) - (x > y);
}

int search_merge(struct service_call *call, struct search *search, const char *gallery,
		 const struct gallery_result *result)
{
	size_t n = search->n_found;
	struct found *all = call_alloc(call, (n + result->n) * sizeof(*all));

	if (!all)
		return BM_ENOMEM;
	if (n)
		memcpy(all, search->found, n * sizeof(*all));
	for (size_t i = 0; i < result->n; i++)
		all[n++] = (struct found){gallery, &result->candidates[i]};
	qsort(all, n, sizeof(*all), by_score);
	search->found = all;
	search->n_found = n < search->max_candidates ? n : search->max_candidates;
	search->compared += result->compared;
	return 0;
}

/* The rate is over all galleries together, so they are all found before any is searched. */
static int find_galleries(struct service_call *call, struct gallery_snapshot *snapshot,
			  struct search *search, struct gallery_info *galleries)
{
	uint64_t references = 0;

	for (size_t i = 0; i < search->n_names; i++) {
		int error = find_gallery(call, snapshot, search->names[i], search->field,
					 &galleries[i]);

		if (error)
			return error;
		references += galleries[i].encounters;
		search->next_row = galleries[i].next_row;
	}
	return strictness_of_search(call, references, &search->how);
}

static int search_all(struct service_call *call, struct gallery_snapshot *snapshot,
		      struct search *search)
{
	struct gallery_info *galleries = call_alloc(call, search->n_names * sizeof(*galleries));
	struct gallery_search how = {
		.probe = search->embedding,
		.max_candidates = search->max_candidates,
		.now_ms = clock_wall_ms(),
		.filter = search->filter,
		.other_than = search->other_than,
		.fast = call->purpose->fast_search,
		.stop = call_should_stop,
		.stop_ctx = call,
	};
	int error;

	if (!galleries)
		return BM_ENOMEM;
	error = find_galleries(call, snapshot, search, galleries);
	how.threshold = search->how.threshold;
	for (size_t i = 0; !error && i < search->n_names; i++) {
		struct gallery_result result = {0};

		how.dim = galleries[i].dim;
		error = gallery_identify(snapshot, &galleries[i], &how, &call->arena, &result);
		if (!error)
			error = search_merge(call, search, search->names[i], &result);
	}
	return error;
}

int search_run(struct service_call *call, struct search *search)
{
	int64_t began = clock_monotonic_ns();
	struct gallery_snapshot *snapshot;
	int error = gallery_snapshot_open(call->service->options.store, &snapshot);

	if (error)
		return error;
	error = search_all(call, snapshot, search);
	gallery_snapshot_close(snapshot);
	call->times.match_ns += clock_monotonic_ns() - began;
	if (error == BM_ECANCELLED && clock_monotonic_ns() >= call->deadline_ns)
		error = BM_EDEADLINE;
	return error;
}

int search_candidates(struct service_call *call, const struct search *search,
		      Biomatch__V1__Candidate ***out)
{
	*out = call_alloc(call, (search->n_found + 1) * sizeof(**out));
	if (!*out)
		return BM_ENOMEM;
	for (size_t i = 0; i < search->n_found; i++) {
		struct gallery_candidate *from = search->found[i].candidate;
		Biomatch__V1__Candidate *to =
			call_message(call, &biomatch__v1__candidate__descriptor);

		if (!to)
			return BM_ENOMEM;
		to->gallery = (char *)(uintptr_t)search->found[i].gallery;
		to->subject_id = from->subject;
		to->encounter_id = from->encounter;
		to->band = score_band(call, &search->how, from->score);
		if (raw_score(call, &search->how, from->score, &to->raw))
			return BM_ENOMEM;
		trail_score(call, to->gallery, from->subject, from->score);
		(*out)[i] = to;
	}
	return 0;
}
