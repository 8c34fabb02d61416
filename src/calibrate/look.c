#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"
#include "biomatch/faceworker.h"
#include "biomatch/file.h"
#include "calibrate.h"

#define START_MS     30000
#define PICTURE_MS   30000
#define MAX_MEMORY   ((uint64_t)4 << 30)
#define MAX_RESIDENT ((uint64_t)1 << 30)
#define MAX_JOBS     64

/* Pictures shared out among workers. */
struct crew {
	const struct pictures *pictures;
	struct faceworker_options options;
	unsigned wanted;
	struct looks *looks;
	atomic_size_t next;
	atomic_int error; /* the first that concerns more than one picture */
};

static void note(struct crew *crew, size_t at, int finding, const struct face_report *report)
{
	struct look *look = &crew->looks->list[at];
	const size_t dim = crew->looks->dim;

	look->made = !finding;
	look->liveness = report->measured & FACE_LIVENESS ? report->liveness : -1;
	snprintf(look->reason, sizeof(look->reason), "%s",
		 finding ? bm_error_reason(finding) : "OK");
	if (look->made)
		memcpy(crew->looks->templates + at * dim, report->embedding, dim * sizeof(float));
}

static int look(struct crew *crew, struct faceworker *worker, size_t at, struct face_report *report)
{
	const char *path = crew->pictures->list[at].path;
	uint8_t *data;
	size_t len;
	int error = file_read(path, FACE_MAX_IMAGE_BYTES, &data, &len);

	memset(report, 0, sizeof(*report));
	if (error && error != BM_EINVAL)
		return complain(error, "%s cannot be read", path);
	if (error) {
		note(crew, at, BM_EIMGSIZE, report);
		return 0;
	}
	error = faceworker_ready(worker);
	if (!error)
		note(crew, at,
		     faceworker_run(worker, data, len, crew->wanted, CLOCK_FOREVER, report)
			     ?: report->finding,
		     report);
	free(data);
	return error ? complain(error, "the face worker does not start") : 0;
}

static void *work(void *arg)
{
	struct crew *crew = arg;
	struct face_report *report = calloc(1, sizeof(*report));
	struct faceworker *worker = NULL;
	int error = report ? faceworker_open(&crew->options, &worker) : BM_ENOMEM;
	size_t at;

	if (error)
		(void)complain(error, "%s does not start: %s", crew->options.program,
			       bm_error_reason(error));
	while (!error && !crew->error &&
	       (at = atomic_fetch_add(&crew->next, 1)) < crew->pictures->n)
		error = look(crew, worker, at, report);
	if (error)
		crew->error = error;
	faceworker_close(worker);
	if (report)
		bytes_wipe(report, sizeof(*report));
	free(report);
	return NULL;
}

static int start_and_join(struct crew *crew, unsigned jobs)
{
	pthread_t threads[MAX_JOBS];
	unsigned n = 0;

	while (n < jobs && n < MAX_JOBS && !pthread_create(&threads[n], NULL, work, crew))
		n++;
	if (!n)
		crew->error = BM_ENOMEM;
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return crew->error;
}

int look_at(const struct pictures *pictures, const struct pack *pack, const struct look_how *how,
	    struct looks *out)
{
	struct crew crew = {.pictures = pictures,
			    .options = {.program = how->program,
					.pack_dir = how->pack_dir,
					.dim = pack->dim,
					.start_ms = START_MS,
					.run_ms = PICTURE_MS,
					.max_memory = MAX_MEMORY,
					.max_resident = MAX_RESIDENT},
			    .wanted = how->wanted,
			    .looks = out};
	int error;

	*out = (struct looks){.n = pictures->n, .dim = pack->dim};
	out->list = calloc(pictures->n, sizeof(*out->list));
	out->templates = calloc(pictures->n, pack->dim * sizeof(float));
	error = out->list && out->templates ? start_and_join(&crew, how->jobs) : BM_ENOMEM;
	if (error)
		looks_free(out);
	return error;
}

void looks_free(struct looks *looks)
{
	if (looks->templates)
		bytes_wipe(looks->templates, looks->n * looks->dim * sizeof(float));
	free(looks->templates);
	free(looks->list);
	*looks = (struct looks){0};
}
