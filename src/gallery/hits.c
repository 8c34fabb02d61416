#include "hits.h"

#include <string.h>

static bool better(const struct hit *a, const struct hit *b)
{
	return a->score > b->score || (a->score == b->score && a->row < b->row);
}

float hits_bar(const struct hits *hits)
{
	return hits->n == hits->max ? hits->list[hits->n - 1].score : hits->threshold;
}

bool hits_want(const struct hits *hits, float score, uint64_t row)
{
	struct hit hit = {.score = score, .row = row};

	if (hits->n == hits->max)
		return better(&hit, &hits->list[hits->n - 1]);
	return score >= hits->threshold;
}

void hits_offer(struct hits *hits, const struct hit *hit)
{
	size_t from, to = 0;

	if (!hits_want(hits, hit->score, hit->row))
		return;
	for (from = 0; from < hits->n; from++) {
		if (!memcmp(hits->list[from].subject, hit->subject, KEYS_PSEUDONYM_LEN))
			break;
	}
	if (from < hits->n && better(&hits->list[from], hit))
		return;
	if (from == hits->n && hits->n < hits->max)
		hits->n++;
	else if (from == hits->n)
		from--;
	while (to < from && better(&hits->list[to], hit))
		to++;
	memmove(&hits->list[to + 1], &hits->list[to], (from - to) * sizeof(*hits->list));
	hits->list[to] = *hit;
}
