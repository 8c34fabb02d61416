#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/face.h"
#include "calibrate.h"

#define MAX_SPECIES 64
#define STEPS       9 /* thresholds 0.1 to 0.9 */

/* The scores of one kind of presentation; those without a face have none. */
struct presentations {
	char name[256];
	size_t n, without;
	float *scores;
};

static int look_at_directory(const char *path, const struct pack *pack, const struct look_how *how,
			     struct presentations *out)
{
	struct pictures pictures;
	struct looks looks;
	int error = pictures_list(path, &pictures);

	if (error)
		return error;
	error = look_at(&pictures, pack, how, &looks);
	if (!error) {
		out->scores = calloc(looks.n, sizeof(*out->scores));
		for (size_t i = 0; out->scores && i < looks.n; i++) {
			if (looks.list[i].liveness >= 0)
				out->scores[out->n++] = looks.list[i].liveness;
			else
				out->without++;
		}
		error = out->scores ? 0 : BM_ENOMEM;
		looks_free(&looks);
	}
	pictures_free(&pictures);
	return error;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_species(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && (entry->d_type == DT_DIR || entry->d_type == DT_LNK);
}

static int look_at_species(const char *attacks, const struct pack *pack, const struct look_how *how,
			   struct presentations *out, size_t *n)
{
	struct dirent **list;
	int found = scandir(attacks, &list, is_species, by_name), error = 0;
	char path[4096];

	*n = 0;
	if (found <= 0) {
		if (!found)
			free(list);
		return complain(BM_EINVAL, "%s holds no directory for each kind of attack",
				attacks);
	}
	if (found > MAX_SPECIES)
		error = complain(BM_EINVAL, "more than %d kinds of attack", MAX_SPECIES);
	for (int i = 0; i < found; i++) {
		snprintf(path, sizeof(path), "%s/%s", attacks, list[i]->d_name);
		if (!error) {
			snprintf(out[i].name, sizeof(out[i].name), "%s", list[i]->d_name);
			error = look_at_directory(path, pack, how, &out[i]);
			*n = (size_t)i + 1;
		}
		free(list[i]);
	}
	free(list);
	return error;
}

/* Of those that were judged, the share that counts as live, or as an attack. */
static struct accuracy_rate share(const struct presentations *p, double threshold, bool live)
{
	size_t k = 0;

	for (size_t i = 0; i < p->n; i++)
		k += ((double)p->scores[i] >= threshold) == live;
	return accuracy_share((double)k, (double)p->n);
}

static void print_rate(struct accuracy_rate r)
{
	printf(" %6.2f %% (%.2f to %.2f) |", 100 * r.rate, 100 * r.low, 100 * r.high);
}

static void print_report(const struct presentations *live, const struct presentations *species,
			 size_t n)
{
	printf("| threshold | BPCER |");
	for (size_t i = 0; i < n; i++)
		printf(" APCER %s |", species[i].name);
	printf(" highest APCER |\n|--:|--:|");
	for (size_t i = 0; i <= n; i++)
		printf("--:|");
	putchar('\n');
	for (int step = 1; step <= STEPS; step++) {
		double threshold = step / 10.0;
		struct accuracy_rate worst = {0};

		printf("| %.1f |", threshold);
		print_rate(share(live, threshold, false));
		for (size_t i = 0; i < n; i++) {
			struct accuracy_rate r = share(&species[i], threshold, true);

			worst = i && worst.rate > r.rate ? worst : r;
			print_rate(r);
		}
		printf(" %.2f %% |\n", 100 * worst.rate);
	}
	printf("\nbona fide: %zu judged, %zu without a face\n", live->n, live->without);
	for (size_t i = 0; i < n; i++)
		printf("%s: %zu judged, %zu without a face\n", species[i].name, species[i].n,
		       species[i].without);
}

int pad_report(const struct pack *pack, const struct look_how *how, const char *bona_fide,
	       const char *attacks)
{
	struct presentations *species = calloc(MAX_SPECIES, sizeof(*species)), live = {.n = 0};
	size_t n = 0;
	int error = species ? 0 : BM_ENOMEM;

	if (!error && !pack->liveness.file)
		error = complain(BM_EINVAL, "%s has no model of liveness", pack->model);
	if (!error)
		error = look_at_directory(bona_fide, pack, how, &live);
	if (!error)
		error = look_at_species(attacks, pack, how, species, &n);
	if (!error)
		print_report(&live, species, n);
	for (size_t i = 0; species && i < MAX_SPECIES; i++)
		free(species[i].scores);
	free(live.scores);
	free(species);
	return error;
}
