/*
 * Enrolments, deletions and searches of a running daemon at once, for a while. Every
 * answer to a search is held against a scan of float32 of all that may, and all that
 * must, have been in the gallery while the search ran. The script `serve` starts the
 * daemon on a store with N templates. Beside that, every second somebody calls with a
 * handshake of their own, has IMAGE verified and hangs up, and every ten the daemon is
 * told to read its files again.
 *
 *   soak TARGET PKI KEY PACK N SECONDS RATE PID IMAGE
 *
 * RATE is what each client asks a second, 0 for one call after the other.
 */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/file.h"
#include "biomatch/score.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "process.h"
#include "remote.h"
#include "set.h"

#define WRITERS    4
#define SEARCHERS  3
#define MAX_TIMES  (1 << 20)
#define PER_SECOND 2000 /* enrolments that there is room for */
#define RELOAD_S   10   /* from one reload to the next */
#define TELL_S     60   /* from one word on the daemon's memory to the next */
/* Another order of summation, in the gallery's rotation, moves a score by less. */
#define ROUNDING 1e-5f
/* The threshold, told with a candidate alone, follows the size of the gallery. */
#define DRIFT 2e-3f

/* When each change of a subject was asked for, and when it was acknowledged; 0 for not yet. */
struct life {
	atomic_int_least64_t enrol_sent, enrolled, delete_sent, deleted;
};

struct soak {
	struct remote remote;
	struct set set; /* draws the templates */
	size_t first;   /* templates that were there before */
	size_t room;
	atomic_size_t next; /* subject to enrol */
	struct life *lives;
	float *rows;
	float threshold;
	int64_t pace_ns; /* 0 for none */
	Biomatch__V1__Image image;
	pid_t pid;
	atomic_bool over;
	atomic_size_t wrong;
};

/* One client on a thread of its own. */
struct client {
	struct soak *soak;
	size_t index;
	uint64_t random;
	double *ms;     /* of each enrolment, or search */
	size_t n, gone; /* times; deletions */
	size_t found;   /* candidates */
};

static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	return z ^ z >> 31;
}

/* Drawn, or of an earlier template: the same, or with a cosine down to below the threshold. */
static void make_row(const struct soak *soak, uint64_t *random, size_t of, uint64_t number,
		     float *out)
{
	static const float mixes[] = {0, 0.3f, 0.8f, 1.5f, 2.0f};
	float mix = mixes[draw(random) % 5];
	const float *row = soak->rows + of * soak->set.dim;

	set_draw(&soak->set, number, out);
	if (draw(random) % 4 == 0)
		return;
	for (size_t i = 0; i < soak->set.dim; i++)
		out[i] = row[i] + mix * out[i];
	must(score_normalise(out, soak->set.dim), "a drawn template");
}

static void enrol(struct client *c, struct biomatch_client *client)
{
	Biomatch__V1__Encounter encounter = BIOMATCH__V1__ENCOUNTER__INIT;
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	Biomatch__V1__Probe reference = BIOMATCH__V1__PROBE__INIT;
	struct soak *soak = c->soak;
	size_t at = atomic_fetch_add(&soak->next, 1);
	float *row = soak->rows + at * soak->set.dim;
	Biomatch__V1__Template template;
	char subject[32], id[32];
	struct arena arena;
	int64_t began;

	if (at >= soak->room) {
		atomic_store(&soak->over, true);
		return;
	}
	make_row(soak, &c->random, draw(&c->random) % soak->first, at, row);
	arena_init(&arena, 1 << 20);
	remote_template(&soak->remote, row, &arena, &template);
	snprintf(subject, sizeof(subject), "s%zu", at);
	snprintf(id, sizeof(id), "enrol-%zu", at);
	reference.kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	reference.template_ = &template;
	encounter.encounter_id = (char *)(uintptr_t) "e";
	request.purpose = (char *)(uintptr_t) "certified";
	request.gallery = (char *)(uintptr_t) "bench";
	request.subject_id = subject;
	request.request_id = id;
	request.encounter = &encounter;
	request.reference = &reference;
	began = clock_monotonic_ns();
	atomic_store(&soak->lives[at].enrol_sent, began);
	remote_ask(client, "/biomatch.v1.EnrolmentService/Enrol", &request.base,
		   &biomatch__v1__enrol_response__descriptor, &arena);
	atomic_store(&soak->lives[at].enrolled, clock_monotonic_ns());
	if (c->n < MAX_TIMES)
		c->ms[c->n++] = (double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_MS;
	arena_deinit(&arena);
}

/* Some subject that belongs to this writer, is there, and stays if nobody deletes it now. */
static size_t choose_victim(struct client *c)
{
	size_t n = atomic_load(&c->soak->next);

	for (int tries = 0; tries < 100; tries++) {
		size_t at = draw(&c->random) % n;

		/* Rows that others are drawn from keep their floats, whoever is deleted. */
		if (at % WRITERS == c->index && at < c->soak->room &&
		    atomic_load(&c->soak->lives[at].enrolled) &&
		    !atomic_load(&c->soak->lives[at].delete_sent))
			return at;
	}
	return SIZE_MAX;
}

static void delete (struct client *c, struct biomatch_client *client)
{
	Biomatch__V1__DeleteSubjectRequest request = BIOMATCH__V1__DELETE_SUBJECT_REQUEST__INIT;
	size_t at = choose_victim(c);
	char subject[32], id[32];
	struct arena arena;

	if (at == SIZE_MAX)
		return;
	arena_init(&arena, 1 << 20);
	snprintf(subject, sizeof(subject), "s%zu", at);
	snprintf(id, sizeof(id), "delete-%zu", at);
	request.purpose = (char *)(uintptr_t) "certified";
	request.gallery = (char *)(uintptr_t) "bench";
	request.subject_id = subject;
	request.request_id = id;
	atomic_store(&c->soak->lives[at].delete_sent, clock_monotonic_ns());
	remote_ask(client, "/biomatch.v1.EnrolmentService/DeleteSubject", &request.base,
		   &biomatch__v1__delete_subject_response__descriptor, &arena);
	atomic_store(&c->soak->lives[at].deleted, clock_monotonic_ns());
	c->gone++;
	arena_deinit(&arena);
}

/* Waits for the next turn of a client that keeps a pace. */
static void keep_pace(const struct soak *soak, int64_t *next)
{
	struct timespec until;

	if (!soak->pace_ns)
		return;
	*next += soak->pace_ns;
	until = (struct timespec){*next / CLOCK_NS_PER_SEC, *next % CLOCK_NS_PER_SEC};
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void *write_on(void *arg)
{
	struct client *c = arg;
	struct biomatch_client *client = remote_dial(&c->soak->remote);
	int64_t next = clock_monotonic_ns();

	while (!atomic_load(&c->soak->over)) {
		keep_pace(c->soak, &next);
		if (draw(&c->random) % 2)
			enrol(c, client);
		else
			delete (c, client);
	}
	biomatch_client_close(client);
	return NULL;
}

/* What a search was answered, and when it ran. */
struct answer {
	const Biomatch__V1__IdentifyResponse *reply;
	const float *probe;
	size_t k;
	int64_t from, to;
};

static bool listed(const struct answer *answer, const char *subject)
{
	for (size_t i = 0; i < answer->reply->n_candidates; i++) {
		if (!strcmp(answer->reply->candidates[i]->subject_id, subject))
			return true;
	}
	return false;
}

/* Every candidate may have been there, has its score, and they stand in order. */
static size_t check_listed(struct soak *soak, const struct answer *answer)
{
	float before = INFINITY;
	size_t wrong = answer->reply->n_candidates > answer->k;

	for (size_t i = 0; i < answer->reply->n_candidates; i++) {
		const Biomatch__V1__Candidate *candidate = answer->reply->candidates[i];
		size_t at = strtoul(candidate->subject_id + 1, NULL, 10);
		float score = candidate->raw->score;
		int64_t sent, deleted;

		if (at >= soak->room) {
			wrong++;
			continue;
		}
		sent = atomic_load(&soak->lives[at].enrol_sent);
		deleted = atomic_load(&soak->lives[at].deleted);
		wrong += !sent || sent > answer->to || (deleted && deleted < answer->from);
		wrong += fabsf(score - score_dot(soak->rows + at * soak->set.dim, answer->probe,
						 soak->set.dim)) > ROUNDING;
		wrong += score > before || score < candidate->raw->threshold;
		before = score;
	}
	return wrong;
}

/* Nobody is missing who was there all the time. */
static size_t check_missing(struct soak *soak, const struct answer *answer)
{
	size_t n = atomic_load(&soak->next), wrong = 0, listed_n = answer->reply->n_candidates;
	float bar = soak->threshold + DRIFT;

	if (listed_n)
		bar = answer->reply->candidates[0]->raw->threshold;
	if (listed_n == answer->k)
		bar = answer->reply->candidates[listed_n - 1]->raw->score;
	for (size_t at = 0; at < n && at < soak->room; at++) {
		int64_t enrolled = atomic_load(&soak->lives[at].enrolled);
		int64_t sent = atomic_load(&soak->lives[at].delete_sent);
		char subject[32];

		if (!enrolled || enrolled > answer->from || (sent && sent < answer->to) ||
		    score_dot(soak->rows + at * soak->set.dim, answer->probe, soak->set.dim) <=
			    bar + ROUNDING)
			continue;
		snprintf(subject, sizeof(subject), "s%zu", at);
		wrong += !listed(answer, subject);
	}
	return wrong;
}

static void search(struct client *c, struct biomatch_client *client)
{
	struct soak *soak = c->soak;
	float probe[CODE_MAX_DIM];
	Biomatch__V1__Template template;
	struct answer answer = {.probe = probe, .k = 1 + draw(&c->random) % 12};
	struct arena arena;

	make_row(soak, &c->random, draw(&c->random) % soak->first, draw(&c->random) >> 16, probe);
	arena_init(&arena, 1 << 20);
	remote_template(&soak->remote, probe, &arena, &template);
	answer.from = clock_monotonic_ns();
	answer.reply = remote_identify(client, draw(&c->random) % 2 ? "certified" : "fast",
				       (uint32_t)answer.k, &template, &arena);
	answer.to = clock_monotonic_ns();
	if (c->n < MAX_TIMES)
		c->ms[c->n++] = (double)(answer.to - answer.from) / CLOCK_NS_PER_MS;
	c->found += answer.reply->n_candidates;
	atomic_fetch_add(&soak->wrong, check_listed(soak, &answer) + check_missing(soak, &answer));
	arena_deinit(&arena);
}

static void *search_on(void *arg)
{
	struct client *c = arg;
	struct biomatch_client *client = remote_dial(&c->soak->remote);
	int64_t next = clock_monotonic_ns();

	while (!atomic_load(&c->soak->over)) {
		keep_pace(c->soak, &next);
		search(c, client);
	}
	biomatch_client_close(client);
	return NULL;
}

/* One caller: a handshake, a photograph verified, and gone. */
static void call_once(struct soak *soak)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	Biomatch__V1__Probe probe = BIOMATCH__V1__PROBE__INIT;
	struct biomatch_client *client = remote_dial(&soak->remote);
	struct arena arena;

	arena_init(&arena, 1 << 20);
	probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	probe.image = &soak->image;
	request.purpose = (char *)(uintptr_t) "verify";
	request.gallery = (char *)(uintptr_t) "bench";
	request.subject_id = (char *)(uintptr_t) "s0";
	request.probe = &probe;
	remote_ask(client, "/biomatch.v1.MatchingService/Verify", &request.base,
		   &biomatch__v1__verify_response__descriptor, &arena);
	arena_deinit(&arena);
	biomatch_client_close(client);
}

static void tell(const struct soak *soak, size_t second, const struct process_usage *usage)
{
	printf("%6zu s: %zu KiB of memory that is no file's, the face workers %zu, descriptors "
	       "%zu, enrolments %zu\n",
	       second, usage->daemon_kib, usage->workers_kib, usage->descriptors,
	       atomic_load(&soak->next) - soak->first);
}

/* What a third of the samples has in the middle: answers under way come and go. */
static struct process_usage middle_of(const struct process_usage *samples, size_t n)
{
	struct process_usage middle = {0};
	double *values = set_memory(n * sizeof(*values));

	for (size_t i = 0; i < n; i++)
		values[i] = (double)samples[i].daemon_kib;
	middle.daemon_kib = (size_t)quantile(values, n, 0.5);
	for (size_t i = 0; i < n; i++)
		values[i] = (double)samples[i].workers_kib;
	middle.workers_kib = (size_t)quantile(values, n, 0.5);
	for (size_t i = 0; i < n; i++)
		values[i] = (double)samples[i].descriptors;
	middle.descriptors = (size_t)quantile(values, n, 0.5);
	set_memory_free(values, n * sizeof(*values));
	return middle;
}

static double growth(size_t from, size_t to)
{
	return from ? 100 * ((double)to - (double)from) / (double)from : 0;
}

/* What the service held in the last third of the time after a tenth, beside the first. */
static void report_growth(const struct process_usage *samples, size_t n)
{
	size_t warm = n / 10, third = (n - warm) / 3;
	struct process_usage from, to;

	if (!third)
		return;
	from = middle_of(samples + warm, third);
	to = middle_of(samples + n - third, third);
	printf("memory %zu and then %zu KiB: %+.2f %% (wanted: 1 %% at most); of it the daemon's "
	       "%zu and %zu, the face workers' %zu and %zu; descriptors %+zd (wanted: 0)\n",
	       from.daemon_kib + from.workers_kib, to.daemon_kib + to.workers_kib,
	       growth(from.daemon_kib + from.workers_kib, to.daemon_kib + to.workers_kib),
	       from.daemon_kib, to.daemon_kib, from.workers_kib, to.workers_kib,
	       (ssize_t)to.descriptors - (ssize_t)from.descriptors);
}

/* Calls, reloads and samples until the time is over. */
static void disturb(struct soak *soak, size_t seconds)
{
	struct process_usage *samples = set_memory((seconds + 1) * sizeof(*samples));
	size_t s = 0;

	for (; s < seconds && !atomic_load(&soak->over); s++) {
		samples[s] = process_usage(soak->pid);
		if (s % TELL_S == 0)
			tell(soak, s, &samples[s]);
		if (s % RELOAD_S == RELOAD_S - 1 && kill(soak->pid, SIGHUP))
			must(BM_EIO, "reload");
		call_once(soak);
		sleep(1);
	}
	report_growth(samples, s);
	set_memory_free(samples, (seconds + 1) * sizeof(*samples));
}

static void learn_threshold(struct soak *soak)
{
	struct biomatch_client *client = remote_dial(&soak->remote);
	const Biomatch__V1__IdentifyResponse *reply;
	Biomatch__V1__Template template;
	struct arena arena;

	arena_init(&arena, 1 << 20);
	remote_template(&soak->remote, soak->rows, &arena, &template);
	reply = remote_identify(client, "certified", 1, &template, &arena);
	must(reply->n_candidates == 1 ? 0 : BM_ENOREFERENCE, "the first template");
	soak->threshold = reply->candidates[0]->raw->threshold;
	arena_deinit(&arena);
	biomatch_client_close(client);
}

static void prepare(struct soak *soak, size_t n, size_t seconds, size_t rate)
{
	soak->pace_ns = rate ? CLOCK_NS_PER_SEC / (int64_t)rate : 0;
	soak->first = n;
	soak->room = n + seconds * (rate ? WRITERS * rate : PER_SECOND);
	soak->set.dim = soak->remote.pack->dim;
	soak->set.spread = SET_SPREAD;
	soak->lives = set_memory(soak->room * sizeof(*soak->lives));
	soak->rows = set_memory(soak->room * soak->set.dim * sizeof(float));
	for (size_t i = 0; i < n; i++) {
		set_draw(&soak->set, i, soak->rows + i * soak->set.dim);
		atomic_store(&soak->lives[i].enrol_sent, 1);
		atomic_store(&soak->lives[i].enrolled, 1);
	}
	atomic_store(&soak->next, n);
	learn_threshold(soak);
}

static void report(struct client *clients, size_t n, const char *what)
{
	double *ms = set_memory(WRITERS * MAX_TIMES * sizeof(*ms));
	size_t count = 0, gone = 0, found = 0;

	for (size_t i = 0; i < n; i++) {
		memcpy(ms + count, clients[i].ms, clients[i].n * sizeof(*ms));
		count += clients[i].n;
		gone += clients[i].gone;
		found += clients[i].found;
	}
	printf("%s %zu: p50 %.2f ms, p99 %.2f ms, longest %.2f ms", what, count,
	       quantile(ms, count, 0.5), quantile(ms, count, 0.99), quantile(ms, count, 1));
	printf(found ? "; candidates %zu\n" : "; deletions %zu\n", found ? found : gone);
	set_memory_free(ms, WRITERS * MAX_TIMES * sizeof(*ms));
}

static size_t run(struct soak *soak, size_t seconds)
{
	struct client clients[WRITERS + SEARCHERS];
	pthread_t threads[WRITERS + SEARCHERS];

	for (size_t i = 0; i < WRITERS + SEARCHERS; i++) {
		clients[i] = (struct client){
			.soak = soak,
			.index = i,
			.random = i,
			.ms = set_memory(MAX_TIMES * sizeof(double)),
		};
		must(pthread_create(&threads[i], NULL, i < WRITERS ? write_on : search_on,
				    &clients[i])
			     ? BM_ENOMEM
			     : 0,
		     "thread");
	}
	disturb(soak, seconds);
	atomic_store(&soak->over, true);
	for (size_t i = 0; i < WRITERS + SEARCHERS; i++)
		pthread_join(threads[i], NULL);
	report(clients, WRITERS, "enrolments");
	report(clients + WRITERS, SEARCHERS, "searches");
	for (size_t i = 0; i < WRITERS + SEARCHERS; i++)
		set_memory_free(clients[i].ms, MAX_TIMES * sizeof(double));
	return atomic_load(&soak->wrong);
}

int main(int argc, char **argv)
{
	static struct soak soak = {.image = BIOMATCH__V1__IMAGE__INIT};
	size_t seconds, wrong;

	if (argc != 10) {
		fprintf(stderr, "usage: see bench/serve\n");
		return 64;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	must(score_init(NULL), "score");
	remote_init(&soak.remote, argv[1], argv[2], argv[3], argv[4]);
	seconds = strtoul(argv[6], NULL, 10);
	soak.pid = (pid_t)strtol(argv[8], NULL, 10);
	must(file_read(argv[9], 16 << 20, &soak.image.data.data, &soak.image.data.len), argv[9]);
	prepare(&soak, strtoul(argv[5], NULL, 10), seconds, strtoul(argv[7], NULL, 10));
	wrong = run(&soak, seconds);
	printf("%zu answers or candidates are other than a scan of float32 allows\n", wrong);
	set_memory_free(soak.rows, soak.room * soak.set.dim * sizeof(float));
	set_memory_free(soak.lives, soak.room * sizeof(*soak.lives));
	free(soak.image.data.data);
	remote_deinit(&soak.remote);
	return wrong ? 1 : 0;
}
