#include "biomatch/pack.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pack.h"

#define MAX_MEMORY ((size_t)1 << 20)

static int open_manifest(struct pack_open *open, const char *dir)
{
	char path[4096];
	int len, error;

	/* A worker opens the pack from wherever it is started. */
	open->dir = realpath(dir, NULL);
	if (!open->dir) {
		snprintf(open->message, PACK_MESSAGE_LEN, "%s: %s", dir, strerror(errno));
		return BM_EPACK;
	}
	len = snprintf(path, sizeof(path), "%s/manifest.yaml", open->dir);
	if (len < 0 || (size_t)len >= sizeof(path)) {
		snprintf(open->message, PACK_MESSAGE_LEN, "%s: the path is too long", dir);
		return BM_EPACK;
	}
	error = yaml_tree_open(path, &open->tree, open->message);
	return error ? error : pack_load_manifest(open);
}

int pack_open(const char *dir, bool verify, struct pack **out, char message[PACK_MESSAGE_LEN])
{
	struct pack_open *open = calloc(1, sizeof(*open));
	int error = BM_ENOMEM;

	message[0] = '\0';
	if (open) {
		open->message = message;
		arena_init(&open->arena, MAX_MEMORY);
		error = open_manifest(open, dir);
		if (!error)
			error = pack_check_models(open, verify);
	}
	if (!error) {
		open->message = NULL;
		*out = &open->pack;
		return 0;
	}
	if (error == BM_ENOMEM)
		snprintf(message, PACK_MESSAGE_LEN, "%s: %s", dir, bm_error_text(error));
	if (open)
		pack_close(&open->pack);
	return error == BM_ECONF ? BM_EPACK : error;
}

void pack_close(struct pack *pack)
{
	struct pack_open *open = (struct pack_open *)(void *)pack;

	if (!pack)
		return;
	if (open->tree)
		yaml_tree_close(open->tree);
	arena_deinit(&open->arena);
	free(open->dir);
	free(open);
}

int pack_threshold(const struct pack *pack, double fmr, float *score, double *smallest)
{
	const struct pack_operating_point *at = pack->calibration;
	size_t i = 1, last = pack->calibration_len - 1;
	double part;

	assert(pack->calibration_len >= 2);
	*smallest = at[last].fmr;
	/* Written so that not a number is refused too. */
	if (!(fmr >= at[last].fmr))
		return BM_EINVAL;
	/* A laxer rate than was measured is met by the laxest score that was. */
	if (fmr >= at[0].fmr) {
		*score = at[0].score;
		return 0;
	}
	while (fmr < at[i].fmr)
		i++;
	part = log(fmr / at[i - 1].fmr) / log(at[i].fmr / at[i - 1].fmr);
	*score = (float)(at[i - 1].score + part * (at[i].score - at[i - 1].score));
	return 0;
}

double pack_fmr(const struct pack *pack, float score)
{
	const struct pack_operating_point *at = pack->calibration;
	size_t i = 1, last = pack->calibration_len - 1;
	double part;

	assert(pack->calibration_len >= 2);
	if (score <= at[0].score)
		return at[0].fmr;
	if (!(score < at[last].score))
		return at[last].fmr;
	while (score > at[i].score)
		i++;
	part = (double)(score - at[i - 1].score) / (double)(at[i].score - at[i - 1].score);
	return at[i - 1].fmr * pow(at[i].fmr / at[i - 1].fmr, part);
}

_Static_assert(PACK_MESSAGE_LEN == YAML_MESSAGE_LEN, "the message is handed through");
