/*
 * Searches through the daemon: fills a store with a set of templates, and asks a
 * running daemon for them beside the same searches by the kernels alone. The
 * script `serve` starts the daemon between the two.
 *
 *   serve fill STORE KEY PACK GALLERIES         templates into each of "name:n,name:n"
 *   serve ask TARGET PKI KEY PACK N SCANNERS SECONDS
 *   serve cold TARGET PKI KEY PACK N PID
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/clock.h"
#include "biomatch/score.h"
#include "fill.h"
#include "remote.h"
#include "set.h"

#define PROBES      16
#define MAX_CALLS   20000
#define RUNS        200
#define FIRST_PROBE (UINT64_C(1) << 40)
#define VERIFIERS   4
#define PACE_NS     (20 * CLOCK_NS_PER_MS) /* of one verifier: 200 verifications a second in all */

struct bench {
	struct remote remote;
	struct set set;
	struct set paged;   /* its planes again, in pages of 4 KB as the daemon's map has */
	struct arena arena; /* of the templates */
	Biomatch__V1__Template templates[PROBES];
	float probes[PROBES * CODE_MAX_DIM];
	float threshold; /* that the daemon holds scores against */
	atomic_bool over;
};

/* One client on a thread of its own: what it asks, and how long each answer took. */
struct caller {
	struct bench *bench;
	const char *purpose;
	size_t first, calls;
	int64_t pace_ns; /* 0 for one call after the other */
	bool verifies;
	double ms[MAX_CALLS], match_ms[MAX_CALLS];
	size_t n;
};

static void verify(struct biomatch_client *client, struct bench *b, size_t probe,
		   struct arena *arena)
{
	Biomatch__V1__Probe of = BIOMATCH__V1__PROBE__INIT;
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	char subject[32];

	snprintf(subject, sizeof(subject), "s%zu", probe * 7919 % b->set.n);
	of.kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	of.template_ = &b->templates[probe % PROBES];
	request.purpose = (char *)(uintptr_t) "verify";
	request.gallery = (char *)(uintptr_t) "bench";
	request.subject_id = subject;
	request.probe = &of;
	remote_ask(client, "/biomatch.v1.MatchingService/Verify", &request.base,
		   &biomatch__v1__verify_response__descriptor, arena);
}

static void *call_on(void *arg)
{
	struct caller *c = arg;
	struct biomatch_client *client = remote_dial(&c->bench->remote);
	struct arena arena;
	int64_t next = clock_monotonic_ns();

	while (c->n < c->calls && !atomic_load(&c->bench->over)) {
		int64_t began;

		if (c->pace_ns) {
			struct timespec until = {next / CLOCK_NS_PER_SEC, next % CLOCK_NS_PER_SEC};

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
			next += c->pace_ns;
		}
		arena_init(&arena, 1 << 20);
		began = clock_monotonic_ns();
		if (c->verifies) {
			verify(client, c->bench, c->first + c->n, &arena);
		} else {
			const Biomatch__V1__IdentifyResponse *r = remote_identify(
				client, c->purpose, 10,
				&c->bench->templates[(c->first + c->n) % PROBES], &arena);

			c->match_ms[c->n] = r->times->match_us / 1e3;
		}
		c->ms[c->n++] = (double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_MS;
		arena_deinit(&arena);
	}
	biomatch_client_close(client);
	return NULL;
}

/* The daemon's candidates are those of an exhaustive scan of the same templates. */
static void check(struct bench *b, const char *purpose)
{
	struct biomatch_client *client = remote_dial(&b->remote);
	struct team *team = team_new(2);
	size_t wrong = 0;

	for (size_t p = 0; p < PROBES; p++) {
		struct found truth;
		struct search search = {.method = METHOD_FLOAT,
					.probes = b->probes + p * b->set.dim,
					.m = 1,
					.threshold = b->threshold,
					.k = 10,
					.found = &truth};
		const Biomatch__V1__IdentifyResponse *r;
		struct arena arena;

		arena_init(&arena, 1 << 20);
		r = remote_identify(client, purpose, 10, &b->templates[p], &arena);
		team_search(team, &b->set, &search);
		wrong += r->n_candidates != truth.n;
		for (size_t i = 0; i < truth.n && i < r->n_candidates; i++) {
			char subject[32];

			snprintf(subject, sizeof(subject), "s%u", truth.row[i]);
			wrong += strcmp(subject, r->candidates[i]->subject_id) != 0 ||
				 fabsf(r->candidates[i]->raw->score - truth.score[i]) > 1e-5f;
		}
		arena_deinit(&arena);
	}
	printf("%s: %zu of %d probes answered otherwise than by a scan of float32\n", purpose,
	       wrong, PROBES);
	team_free(team);
	biomatch_client_close(client);
	if (wrong)
		exit(1);
}

/* Milliseconds of the kernels alone, of one search of m probes. */
static double kernels(struct bench *b, const struct set *set, enum method method, unsigned threads,
		      size_t m)
{
	struct team *team = team_new(threads);
	struct found found[PROBES];
	double ms[RUNS];

	for (size_t i = 0; i < RUNS; i++) {
		struct search search = {.method = method,
					.probes =
						b->probes + (m == 1 ? i % PROBES : 0) * b->set.dim,
					.m = m,
					.threshold = b->threshold,
					.k = 10,
					.found = found};
		int64_t began = clock_monotonic_ns();

		team_search(team, set, &search);
		ms[i] = (double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_MS;
	}
	team_free(team);
	return quantile(ms, RUNS, 0.5);
}

static struct caller *callers(struct bench *b, size_t n, const char *purpose, size_t calls)
{
	struct caller *all = calloc(n, sizeof(*all));

	if (!all)
		exit(1);
	for (size_t i = 0; i < n; i++)
		all[i] = (struct caller){
			.bench = b, .purpose = purpose, .first = i * 5, .calls = calls};
	return all;
}

static void start(struct caller *all, size_t n, pthread_t *threads)
{
	atomic_store(&all->bench->over, false);
	for (size_t i = 0; i < n; i++)
		must(pthread_create(&threads[i], NULL, call_on, &all[i]) ? BM_ENOMEM : 0, "thread");
}

static void join(pthread_t *threads, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static void print_times(const char *purpose, const char *clients, const double alone[2],
			double match, double whole)
{
	char in_daemon[32] = "";

	if (match > 0)
		snprintf(in_daemon, sizeof(in_daemon), "%.3f (%.2f)", match, match / alone[1]);
	printf("| %-9s | %-10s | %8.3f | %8.3f (%.2f) | %16s | %8.3f (%.2f) |\n", purpose, clients,
	       alone[0], alone[1], alone[1] / alone[0], in_daemon, whole, whole / alone[1]);
}

/* One search at a time, then from 16 clients at once. */
static void compare(struct bench *b, const char *purpose, enum method method, unsigned threads)
{
	struct caller *all = callers(b, PROBES, purpose, RUNS);
	double alone[2] = {kernels(b, &b->set, method, threads, 1),
			   kernels(b, &b->paged, method, threads, 1)};
	pthread_t ids[PROBES];
	int64_t began;

	start(all, 1, ids);
	join(ids, 1);
	print_times(purpose, "1 client", alone, quantile(all[0].match_ms, all[0].n, 0.5),
		    quantile(all[0].ms, all[0].n, 0.5));
	alone[0] = kernels(b, &b->set, method, threads, PROBES) / PROBES;
	alone[1] = kernels(b, &b->paged, method, threads, PROBES) / PROBES;
	for (size_t i = 0; i < PROBES; i++)
		all[i].n = 0;
	began = clock_monotonic_ns();
	start(all, PROBES, ids);
	join(ids, PROBES);
	print_times(purpose, "16 clients", alone, 0,
		    (double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_MS / (PROBES * RUNS));
	free(all);
}

/* Verifications at a steady pace, alone and beside searches that never pause. */
static void contend(struct bench *b, size_t seconds, const char *purpose)
{
	struct caller *all =
		callers(b, VERIFIERS, NULL, seconds * (size_t)(CLOCK_NS_PER_SEC / PACE_NS));
	struct caller *search = callers(b, 1, purpose, MAX_CALLS);
	double *ms = malloc(VERIFIERS * MAX_CALLS * sizeof(*ms));
	pthread_t ids[VERIFIERS], beside;
	size_t n = 0;

	if (!ms)
		exit(1);
	for (size_t i = 0; i < VERIFIERS; i++) {
		all[i].verifies = true;
		all[i].pace_ns = PACE_NS;
	}
	if (purpose)
		start(search, 1, &beside);
	start(all, VERIFIERS, ids);
	join(ids, VERIFIERS);
	atomic_store(&b->over, true);
	if (purpose)
		join(&beside, 1);
	for (size_t i = 0; i < VERIFIERS; i++) {
		memcpy(ms + n, all[i].ms, all[i].n * sizeof(*ms));
		n += all[i].n;
	}
	printf("| %-9s | %8.3f | %8.3f | %8.3f | %6zu |\n", purpose ? purpose : "nothing",
	       quantile(ms, n, 0.5), quantile(ms, n, 0.99), quantile(ms, n, 0.999), search->n);
	free(ms);
	free(search);
	free(all);
}

/* The first template of the gallery is asked for: a mate, whose answer tells the threshold. */
static void learn_threshold(struct bench *b)
{
	struct biomatch_client *client = remote_dial(&b->remote);
	const Biomatch__V1__IdentifyResponse *r;
	Biomatch__V1__Template mate;
	float first[CODE_MAX_DIM];
	struct arena arena;

	arena_init(&arena, 1 << 20);
	set_draw(&b->set, 0, first);
	remote_template(&b->remote, first, &arena, &mate);
	r = remote_identify(client, "certified", 10, &mate, &arena);
	if (!r->n_candidates || strcmp(r->candidates[0]->subject_id, "s0")) {
		fprintf(stderr, "the first template of the gallery was not found\n");
		exit(1);
	}
	b->threshold = r->candidates[0]->raw->threshold;
	arena_deinit(&arena);
	biomatch_client_close(client);
}

static void make_templates(struct bench *b)
{
	for (size_t i = 0; i < PROBES; i++) {
		float *v = b->probes + i * b->set.dim;

		set_draw(&b->set, FIRST_PROBE + i, v);
		remote_template(&b->remote, v, &b->arena, &b->templates[i]);
	}
}

static void measure(struct bench *b, size_t n, unsigned scanners, size_t seconds)
{
	b->set.dim = b->remote.pack->dim;
	b->set.spread = SET_SPREAD;
	set_make(&b->set, n, NULL);
	arena_init(&b->arena, 1 << 20);
	make_templates(b);
	learn_threshold(b);
	printf("N = %zu, d = %zu, threshold %.3f, %u scan thread%s, %s kernels\n\n", n, b->set.dim,
	       (double)b->threshold, scanners, scanners > 1 ? "s" : "", score_kernel()->name);
	check(b, "certified");
	check(b, "fast");
	set_copy_paged(&b->set, &b->paged);
	printf("\n| ms of a search | | kernels alone, huge pages | kernels alone, 4 KB pages | in "
	       "the "
	       "daemon | whole RPC |\n|---|---|--:|--:|--:|--:|\n");
	compare(b, "certified", METHOD_CERTIFIED, scanners);
	compare(b, "fast", METHOD_FAST, scanners);
	printf("\n| Verify beside | p50 ms | p99 ms | p99.9 ms | searches |\n"
	       "|---|--:|--:|--:|--:|\n");
	contend(b, seconds, NULL);
	contend(b, seconds, "certified");
	contend(b, seconds, "fast");
	arena_deinit(&b->arena);
	set_free_paged(&b->paged);
	set_free(&b->set);
}

/* What a process has read from disk so far, and its waits for pages of files. */
static void process_reads(const char *pid, double *megabytes, double *faults)
{
	unsigned long long bytes = 0;
	char path[64], line[1024];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/io", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "read_bytes: %llu", &bytes);
	if (file)
		fclose(file);
	*megabytes = (double)bytes / 1e6;
	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	file = fopen(path, "r");
	*faults = NAN;
	if (file && fgets(line, sizeof(line), file))
		sscanf(line, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %lf", faults);
	if (file)
		fclose(file);
}

/* Searches of a daemon that has not read its store yet, or has not the memory to hold it. */
static void measure_cold(struct bench *b, const char *purpose, const char *pid)
{
	double ms[RUNS], before[2], first[2], after[2], first_ms = 0;
	struct biomatch_client *client = remote_dial(&b->remote);
	struct arena arena;

	process_reads(pid, &before[0], &before[1]);
	for (size_t i = 0; i <= RUNS; i++) {
		int64_t began = clock_monotonic_ns();

		arena_init(&arena, 1 << 20);
		remote_identify(client, purpose, 10, &b->templates[i % PROBES], &arena);
		arena_deinit(&arena);
		*(i ? &ms[i - 1] : &first_ms) =
			(double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_MS;
		if (!i)
			process_reads(pid, &first[0], &first[1]);
	}
	process_reads(pid, &after[0], &after[1]);
	printf("| %-9s | %8.1f | %8.1f | %6.0f | %8.2f | %8.2f | %8.2f | %6.0f |\n", purpose,
	       first_ms, first[0] - before[0], first[1] - before[1], quantile(ms, RUNS, 0.5),
	       quantile(ms, RUNS, 0.99), (after[0] - first[0]) / RUNS,
	       (after[1] - first[1]) / RUNS);
	biomatch_client_close(client);
}

static void measure_small(struct bench *b, const char *pid)
{
	b->set.dim = b->remote.pack->dim;
	b->set.spread = SET_SPREAD;
	arena_init(&b->arena, 1 << 20);
	make_templates(b);
	printf("| search | first ms | MB read | faults | p50 ms | p99 ms | MB read each | faults "
	       "each |\n"
	       "|---|--:|--:|--:|--:|--:|--:|--:|\n");
	measure_cold(b, "fast", pid);
	measure_cold(b, "certified", pid);
	arena_deinit(&b->arena);
}

int main(int argc, char **argv)
{
	struct bench *b = calloc(1, sizeof(*b));

	setvbuf(stdout, NULL, _IOLBF, 0);
	must(score_init(NULL), "score");
	if (b && argc == 6 && !strcmp(argv[1], "fill")) {
		fill_store(argv[2], argv[3], argv[4], argv[5]);
	} else if (b && argc == 9 && !strcmp(argv[1], "ask")) {
		remote_init(&b->remote, argv[2], argv[3], argv[4], argv[5]);
		measure(b, strtoul(argv[6], NULL, 10), (unsigned)strtoul(argv[7], NULL, 10),
			strtoul(argv[8], NULL, 10));
		remote_deinit(&b->remote);
	} else if (b && argc == 8 && !strcmp(argv[1], "cold")) {
		remote_init(&b->remote, argv[2], argv[3], argv[4], argv[5]);
		measure_small(b, argv[7]);
		remote_deinit(&b->remote);
	} else {
		fprintf(stderr, "usage: see bench/serve\n");
		return 64;
	}
	free(b);
	return 0;
}
