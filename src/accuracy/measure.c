#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/accuracy.h"
#include "biomatch/score.h"

/* A histogram of scores, -1 to 1, in the steps of a manifest's four places. */
#define BINS 20000

/* Errors of a person at each point, and of how many comparisons; a pair counts for both. */
struct person {
	double compared, mated;
	double matched[ACCURACY_MAX_POINTS], missed[ACCURACY_MAX_POINTS];
};

/* What the two passes over the pairs fill. */
struct tally {
	const struct accuracy_set *set;
	struct accuracy *out;
	uint64_t *counts; /* of non-mates by score */
	float *mates;
	size_t n_mates;
	struct person *people;
};

typedef void visitor(struct tally *tally, size_t a, size_t b, float score);

static bool same_person(const struct accuracy_set *set, size_t a, size_t b)
{
	return set->people[a] == set->people[b];
}

static int for_each_pair(struct tally *tally, visitor *visit)
{
	const struct accuracy_set *set = tally->set;
	float *scores = malloc((set->n + 1) * sizeof(*scores));

	if (!scores)
		return BM_ENOMEM;
	for (size_t a = 0; a + 1 < set->n; a++) {
		const float *next = set->rows + (a + 1) * set->dim;

		score_kernel()->scan(next, set->n - a - 1, next - set->dim, 1, set->dim, scores);
		for (size_t b = a + 1; b < set->n; b++)
			visit(tally, a, b, scores[b - a - 1]);
	}
	free(scores);
	return 0;
}

static void note_score(struct tally *tally, size_t a, size_t b, float score)
{
	double bin = (fmin(fmax((double)score, -1), 1) + 1) * (BINS / 2);

	if (same_person(tally->set, a, b))
		tally->mates[tally->n_mates++] = score;
	else
		tally->counts[bin < BINS ? (size_t)bin : BINS - 1]++;
}

static void note_errors(struct tally *tally, size_t a, size_t b, float score)
{
	struct person *one = &tally->people[tally->set->people[a]];
	struct person *other = &tally->people[tally->set->people[b]];
	const struct accuracy *out = tally->out;
	size_t at = 0;

	/* Points come with rising scores. */
	while (at < out->n_points && score >= out->points[at].score)
		at++;
	if (one == other) {
		one->mated++;
		for (; at < out->n_points; at++)
			one->missed[at]++;
		return;
	}
	one->compared++;
	other->compared++;
	while (at--) {
		one->matched[at]++;
		other->matched[at]++;
	}
}

static int by_score(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static size_t count_mates(const struct accuracy_set *set)
{
	size_t *pictures = calloc(set->n_people + 1, sizeof(*pictures)), pairs = 0;

	if (!pictures)
		return SIZE_MAX;
	for (size_t i = 0; i < set->n; i++)
		pairs += pictures[set->people[i]]++;
	free(pictures);
	return pairs;
}

/* The lowest score that at most so many non-mates reach. */
static float reached_by(const uint64_t *counts, double most)
{
	uint64_t n = 0;
	size_t bin = BINS;

	while (bin && (double)(n + counts[bin - 1]) <= most)
		n += counts[--bin];
	return (float)((double)bin * 2 / BINS - 1);
}

static void choose_points(struct tally *tally)
{
	static const double steps[] = {1, 0.5, 0.2};
	struct accuracy *out = tally->out;

	for (size_t i = 0; i < ACCURACY_MAX_POINTS; i++) {
		double target = steps[i % 3] / pow(10, (double)(i / 3) + 1);

		if (target * (double)out->non_mates < ACCURACY_MIN_FALSE_MATCHES)
			break;
		out->targets[i] = target;
		out->points[i].score = reached_by(tally->counts, target * (double)out->non_mates);
		out->n_points = i + 1;
	}
	out->stranger = reached_by(tally->counts, 0.01 * (double)out->non_mates);
	out->mate = tally->mates[tally->n_mates / 2];
}

/* The interval of a rate whose variance is known. */
static struct accuracy_rate rate_of(double rate, double variance, double trials, double people)
{
	double n = trials;

	if (rate > 0 && rate < 1)
		n = variance > 0 ? fmin(rate * (1 - rate) / variance, trials) : trials;
	else
		n = fmin(people, trials); /* nothing tells how they scatter */
	return accuracy_share(rate * n, n);
}

static struct accuracy_rate fmr_at(const struct tally *tally, size_t point)
{
	const size_t n = tally->set->n_people;
	double trials = (double)tally->out->non_mates, matched = 0, rate, scatter = 0;

	for (size_t i = 0; i < n; i++)
		matched += tally->people[i].matched[point];
	rate = matched / (2 * trials);
	for (size_t i = 0; i < n; i++) {
		const struct person *p = &tally->people[i];

		scatter += pow(p->matched[point] - rate * p->compared, 2);
	}
	return rate_of(rate, scatter / (trials * trials), trials, (double)(n / 2));
}

static struct accuracy_rate fnmr_at(const struct tally *tally, size_t point)
{
	double trials = (double)tally->out->mates, missed = 0, rate, scatter = 0, mated = 0;

	for (size_t i = 0; i < tally->set->n_people; i++) {
		missed += tally->people[i].missed[point];
		mated += tally->people[i].mated > 0;
	}
	rate = missed / trials;
	for (size_t i = 0; i < tally->set->n_people; i++) {
		const struct person *p = &tally->people[i];

		scatter += pow(p->missed[point] - rate * p->mated, 2);
	}
	return rate_of(rate, scatter / (trials * trials), trials, mated);
}

static int measure(struct tally *tally)
{
	struct accuracy *out = tally->out;
	int error = for_each_pair(tally, note_score);

	if (error)
		return error;
	out->mates = tally->n_mates;
	out->non_mates = tally->set->n * (tally->set->n - 1) / 2 - tally->n_mates;
	if (!out->mates || !out->non_mates)
		return BM_EINVAL;
	qsort(tally->mates, tally->n_mates, sizeof(*tally->mates), by_score);
	choose_points(tally);
	error = for_each_pair(tally, note_errors);
	for (size_t i = 0; !error && i < out->n_points; i++) {
		out->points[i].fmr = fmr_at(tally, i);
		out->points[i].fnmr = fnmr_at(tally, i);
	}
	return error;
}

int accuracy_measure(const struct accuracy_set *set, struct accuracy *out)
{
	struct tally tally = {.set = set, .out = out};
	size_t pairs = count_mates(set);
	int error = BM_ENOMEM;

	memset(out, 0, sizeof(*out));
	if (pairs == SIZE_MAX)
		return BM_ENOMEM;
	tally.counts = calloc(BINS, sizeof(*tally.counts));
	tally.mates = calloc(pairs + 1, sizeof(*tally.mates));
	tally.people = calloc(set->n_people + 1, sizeof(*tally.people));
	if (tally.counts && tally.mates && tally.people)
		error = measure(&tally);
	free(tally.people);
	free(tally.mates);
	free(tally.counts);
	return error;
}
