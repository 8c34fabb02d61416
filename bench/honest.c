/*
 * An honest endpoint beside others that are not: verifies templates at a steady pace and
 * tells how long that took. The script `attack` starts it and the others.
 *
 *   honest TARGET PKI KEY PACK PURPOSE GALLERY
 *
 * Enrols its subjects, then, for each line "SECONDS" that it reads, verifies for so long and
 * writes "N P50 P99 WORST", the times in milliseconds. Any call that fails ends it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "biomatch/clock.h"
#include "biomatch/score.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "remote.h"
#include "set.h"

#define SUBJECTS 64
#define CLIENTS  4
#define PACE_NS  (CLIENTS * CLOCK_NS_PER_SEC / 200) /* 200 a second in all */
#define MAX_N    100000

struct honest {
	struct remote remote;
	struct set set;
	struct arena arena;
	char *purpose, *gallery;
	Biomatch__V1__Template templates[SUBJECTS];
	int64_t until_ns;
};

struct endpoint {
	struct honest *honest;
	struct biomatch_client *client;
	size_t index, n;
	double *ms;
};

static void subject_name(size_t i, char out[16])
{
	snprintf(out, 16, "honest%zu", i);
}

static Biomatch__V1__Probe probe_of(struct honest *h, size_t i)
{
	Biomatch__V1__Probe probe = BIOMATCH__V1__PROBE__INIT;

	probe.kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	probe.template_ = &h->templates[i];
	return probe;
}

static void enrol(struct honest *h, struct biomatch_client *client, size_t i)
{
	Biomatch__V1__Encounter encounter = BIOMATCH__V1__ENCOUNTER__INIT;
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	Biomatch__V1__Probe reference;
	float row[CODE_MAX_DIM];
	struct arena arena;
	char name[16];

	arena_init(&arena, 1 << 20);
	set_draw(&h->set, i, row);
	remote_template(&h->remote, row, &h->arena, &h->templates[i]);
	reference = probe_of(h, i);
	subject_name(i, name);
	encounter.encounter_id = (char *)(uintptr_t) "e";
	request.purpose = h->purpose;
	request.gallery = h->gallery;
	request.subject_id = request.request_id = name;
	request.encounter = &encounter;
	request.reference = &reference;
	remote_ask(client, "/biomatch.v1.EnrolmentService/Enrol", &request.base,
		   &biomatch__v1__enrol_response__descriptor, &arena);
	arena_deinit(&arena);
}

static void verify(struct endpoint *e, size_t i)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	Biomatch__V1__Probe probe = probe_of(e->honest, i);
	const Biomatch__V1__VerifyResponse *reply;
	struct arena arena;
	int64_t began;
	char name[16];

	subject_name(i, name);
	request.purpose = e->honest->purpose;
	request.gallery = e->honest->gallery;
	request.subject_id = name;
	request.probe = &probe;
	arena_init(&arena, 1 << 20);
	began = clock_monotonic_ns();
	reply = (const void *)remote_ask(e->client, "/biomatch.v1.MatchingService/Verify",
					 &request.base, &biomatch__v1__verify_response__descriptor,
					 &arena);
	must(reply->decision == BIOMATCH__V1__DECISION__DECISION_MATCH ? 0 : BM_EINTERNAL,
	     "the decision on a template of the subject");
	if (e->n < MAX_N)
		e->ms[e->n++] = (double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_MS;
	arena_deinit(&arena);
}

static void *call(void *arg)
{
	struct endpoint *e = arg;
	int64_t next = clock_monotonic_ns() + (int64_t)e->index * PACE_NS / CLIENTS;

	for (size_t i = e->index; next < e->honest->until_ns; i++, next += PACE_NS) {
		struct timespec until = {next / CLOCK_NS_PER_SEC, next % CLOCK_NS_PER_SEC};

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		verify(e, i % SUBJECTS);
	}
	return NULL;
}

static void run(struct honest *h, struct endpoint endpoints[CLIENTS], double seconds)
{
	static double all[CLIENTS * MAX_N];
	pthread_t threads[CLIENTS];
	size_t n = 0;

	h->until_ns = clock_monotonic_ns() + (int64_t)(seconds * CLOCK_NS_PER_SEC);
	for (size_t i = 0; i < CLIENTS; i++) {
		endpoints[i].n = 0;
		must(pthread_create(&threads[i], NULL, call, &endpoints[i]) ? BM_ENOMEM : 0,
		     "thread");
	}
	for (size_t i = 0; i < CLIENTS; i++) {
		must(pthread_join(threads[i], NULL) ? BM_EINTERNAL : 0, "thread");
		for (size_t j = 0; j < endpoints[i].n; j++)
			all[n++] = endpoints[i].ms[j];
	}
	printf("%zu %.3f %.3f %.3f\n", n, quantile(all, n, 0.5), quantile(all, n, 0.99),
	       quantile(all, n, 1));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static struct honest h;
	struct endpoint endpoints[CLIENTS];
	double seconds;

	if (argc != 7) {
		fprintf(stderr, "usage: honest TARGET PKI KEY PACK PURPOSE GALLERY\n");
		return 64;
	}
	must(score_init(NULL), "score");
	remote_init(&h.remote, argv[1], argv[2], argv[3], argv[4]);
	h.purpose = argv[5];
	h.gallery = argv[6];
	h.set = (struct set){.dim = h.remote.pack->dim, .spread = SET_SPREAD};
	arena_init(&h.arena, 1 << 20);
	for (size_t i = 0; i < CLIENTS; i++)
		endpoints[i] = (struct endpoint){.honest = &h,
						 .client = remote_dial(&h.remote),
						 .index = i,
						 .ms = calloc(MAX_N, sizeof(double))};
	for (size_t i = 0; i < SUBJECTS; i++)
		enrol(&h, endpoints[0].client, i);
	while (scanf("%lf", &seconds) == 1)
		run(&h, endpoints, seconds);
	for (size_t i = 0; i < CLIENTS; i++) {
		biomatch_client_close(endpoints[i].client);
		free(endpoints[i].ms);
	}
	arena_deinit(&h.arena);
	remote_deinit(&h.remote);
	return 0;
}
