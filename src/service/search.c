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

bool search_alike(const struct search *a, const struct search *b)
{
	if (a->n_names != b->n_names)
		return false;
	for (size_t i = 0; i < a->n_names; i++) {
		if (strcmp(a->names[i], b->names[i]))
			return false;
	}
	return true;
}

/* The rate is over all galleries together, so they are all found before any is searched. */
static int find_galleries(struct service_call *call, struct gallery_snapshot *snapshot)
{
	struct search *search = call->search;
	uint64_t references = 0;

	search->galleries = call_alloc(call, search->n_names * sizeof(*search->galleries));
	if (!search->galleries)
		return BM_ENOMEM;
	for (size_t i = 0; i < search->n_names; i++) {
		struct gallery_info *gallery = &search->galleries[i];
		int error = find_gallery(call, snapshot, search->names[i], search->field, gallery);

		if (error)
			return error;
		references += gallery->encounters;
		search->next_row = gallery->next_row;
	}
	return strictness_of_search(call, references, &search->how);
}

static struct gallery_search search_of(struct service_call *call, size_t dim)
{
	const struct search *search = call->search;

	return (struct gallery_search){
		.probe = search->embedding,
		.dim = dim,
		.threshold = search->how.threshold,
		.max_candidates = search->max_candidates,
		.now_ms = clock_wall_ms(),
		.filter = search->filter,
		.other_than = search->other_than,
		.fast = call->purpose->fast_search,
		.stop = call_should_stop,
		.stop_ctx = call,
		.arena = &call->arena,
	};
}

static void share(void *ctx, void (*part)(void *arg), void *arg)
{
	batch_pool_share(ctx, part, arg);
}

/* One of the galleries, for the calls that have met no error yet. */
static void search_gallery(struct gallery_snapshot *snapshot, struct service_call *const *calls,
			   size_t n, size_t at)
{
	const struct gallery_crew crew = {share, calls[0]->service->scan};
	struct gallery_search how[GALLERY_MAX_SEARCHES], *list[GALLERY_MAX_SEARCHES];
	const struct gallery_info *gallery = NULL;
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		if (calls[i]->search->error)
			continue;
		gallery = &calls[i]->search->galleries[at];
		how[i] = search_of(calls[i], gallery->dim);
		list[m++] = &how[i];
	}
	if (!m)
		return;
	gallery_identify(snapshot, gallery, list, m, &crew);
	for (size_t i = 0; i < n; i++) {
		struct search *search = calls[i]->search;

		if (search->error)
			continue;
		search->error = how[i].error ? how[i].error
					     : search_merge(calls[i], search, search->names[at],
							    &how[i].result);
	}
}

void search_pass(struct service *service, struct service_call *const *calls, size_t n)
{
	int64_t began = clock_monotonic_ns();
	struct gallery_snapshot *snapshot;
	int error = gallery_snapshot_open(service->options.store, &snapshot);

	for (size_t i = 0; i < n; i++) {
		calls[i]->times.queue_ns += began - calls[i]->item.queued_ns;
		calls[i]->search->error = error ? error : find_galleries(calls[i], snapshot);
	}
	for (size_t i = 0; !error && i < calls[0]->search->n_names; i++)
		search_gallery(snapshot, calls, n, i);
	if (!error)
		gallery_snapshot_close(snapshot);
	for (size_t i = 0; i < n; i++)
		calls[i]->times.match_ns += clock_monotonic_ns() - began;
}

int search_done(struct service_call *call, struct faceworker *worker)
{
	int error = call->search->error;

	(void)worker;
	return error == BM_ECANCELLED && clock_monotonic_ns() >= call->deadline_ns ? BM_EDEADLINE
										   : error;
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
