/*
 * Durable writes: enrolments a second and how long each waits for its answer, by the
 * number that wait at once, as a group and with one commit each; then what
 * upkeep, deletion, erasure and comparison cost in the store that came of it.
 *
 *   writer DIR [ENROLMENTS]      DIR must not be there, on the disk that is to be measured
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "biomatch/clock.h"
#include "biomatch/file.h"
#include "biomatch/score.h"
#include "biomatch/writer.h"

#define DIM         512
#define MAX_WAITING 1000

struct bench {
	struct pack pack;
	struct keys *keys;
	struct db *db;
	struct gallery_store *store;
	struct writer *writer;
	sem_t free; /* slots of jobs */
	unsigned next;
};

struct enrolment {
	struct writer_job job;
	struct bench *bench;
	struct gallery_change change;
	char subject[32];
	float vector[DIM];
	int64_t submitted_ns;
	bool busy;
};

static int64_t *waits; /* of a run's enrolments, in ns */
static unsigned n_waits;

static struct enrolment *enrolments;

static void must(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "%s: %s\n", what, bm_error_text(error));
	exit(1);
}

static double ms_since(int64_t began)
{
	return (double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_MS;
}

/* Templates are strangers to each other; which ones does not matter. */
static void fill(unsigned n, char subject[32], float v[DIM])
{
	unsigned seed = n;

	snprintf(subject, 32, "subject-%u", n);
	for (size_t i = 0; i < DIM; i++)
		v[i] = (float)rand_r(&seed) / (float)RAND_MAX - 0.5f;
	must(score_normalise(v, DIM), "template");
}

static int apply(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	struct gallery_outcome outcome;

	return gallery_apply(store, txn, &((struct enrolment *)job)->change, &outcome);
}

static void done(struct writer_job *job, int error)
{
	struct enrolment *e = (struct enrolment *)job;

	must(error, "enrolment");
	waits[n_waits++] = clock_monotonic_ns() - e->submitted_ns;
	__atomic_store_n(&e->busy, false, __ATOMIC_RELEASE);
	sem_post(&e->bench->free);
}

static struct enrolment *free_slot(unsigned waiting)
{
	for (unsigned i = 0; i < waiting; i++) {
		if (!__atomic_load_n(&enrolments[i].busy, __ATOMIC_ACQUIRE))
			return &enrolments[i];
	}
	abort(); /* the semaphore counts them */
}

static int compare_waits(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static double wait_ms(unsigned percent)
{
	return (double)waits[(size_t)(n_waits - 1) * percent / 100] / CLOCK_NS_PER_MS;
}

static void open_writer(struct bench *b, unsigned max_group)
{
	const struct writer_options options = {.capacity = MAX_WAITING,
					       .max_group = max_group,
					       .changes = {INT64_MAX, UINT64_MAX}};

	must(writer_open(b->db, b->store, b->keys, &options, &b->writer), "writer");
}

static void enrol(struct bench *b, unsigned n, unsigned waiting, unsigned max_group)
{
	int64_t began = clock_monotonic_ns();
	struct writer_stat before, after;
	double ms;

	open_writer(b, max_group);
	n_waits = 0;
	writer_stat(b->writer, &before);
	sem_init(&b->free, 0, waiting);
	for (unsigned i = 0; i < n; i++) {
		struct enrolment *e;

		sem_wait(&b->free);
		e = free_slot(waiting);
		e->busy = true;
		e->bench = b;
		e->job = (struct writer_job){
			.apply = apply, .done = done, .deadline_ns = CLOCK_FOREVER};
		fill(b->next++, e->subject, e->vector);
		e->change = (struct gallery_change){.kind = GALLERY_PUT,
						    .gallery = "bench",
						    .subject = e->subject,
						    .embedding = e->vector,
						    .dim = DIM,
						    .encounter = {.expires_ms = GALLERY_NEVER}};
		e->submitted_ns = clock_monotonic_ns();
		must(writer_submit(b->writer, &e->job), "submit");
	}
	for (unsigned i = 0; i < waiting; i++)
		sem_wait(&b->free);
	ms = ms_since(began);
	writer_stat(b->writer, &after);
	qsort(waits, n_waits, sizeof(*waits), compare_waits);
	printf("%7u %9u %14.0f %9.1f %8.1f %8.1f %8.1f\n", waiting, max_group, n / ms * 1000,
	       (double)n / (double)(after.commits - before.commits), wait_ms(50), wait_ms(99),
	       wait_ms(100));
	writer_close(b->writer);
	sem_destroy(&b->free);
}

/* One change or step of upkeep in a commit of its own. */
static void commit_change(struct bench *b, const struct gallery_change *change)
{
	struct gallery_outcome outcome;
	struct db_txn txn;

	must(db_begin_write(b->db, &txn), "begin");
	must(gallery_apply(b->store, &txn, change, &outcome), "change");
	must(db_commit(&txn), "commit");
}

static void measure_upkeep(struct bench *b)
{
	bool more = true;

	while (more) {
		int64_t began = clock_monotonic_ns();
		struct db_txn txn;

		must(db_begin_write(b->db, &txn), "begin");
		must(gallery_maintain(b->store, &txn, &more), "upkeep");
		must(db_commit(&txn), "commit");
		if (more)
			printf("upkeep: one segment sealed in %.1f ms\n", ms_since(began));
	}
}

static void measure_deletion(struct bench *b)
{
	enum { DELETIONS = 50 };
	int64_t began = clock_monotonic_ns();

	for (unsigned i = 0; i < DELETIONS; i++) {
		struct gallery_change change = {.kind = GALLERY_DELETE_SUBJECT, .gallery = "bench"};
		float v[DIM];
		char subject[32];

		fill(i * 7, subject, v);
		change.subject = subject;
		commit_change(b, &change);
	}
	printf("deletion from a segment: %.2f ms each\n", ms_since(began) / DELETIONS);
}

/* The writer takes one step, then looks whether jobs wait. */
static void measure_scrub(struct bench *b)
{
	double longest = 0;
	struct db_stat stat;
	unsigned steps = 0;
	bool more = true;
	int64_t began;

	must(db_stat(b->db, &stat), "stat");
	for (; more; steps++) {
		double ms;

		began = clock_monotonic_ns();
		must(db_scrub(b->db, &more), "scrub");
		ms = ms_since(began);
		longest = ms > longest ? ms : longest;
	}
	printf("scrub of %.0f MB: %u steps, the longest %.1f ms\n", (double)stat.used_bytes / 1e6,
	       steps, longest);
}

static void measure_verification(struct bench *b)
{
	enum { VERIFICATIONS = 10000 };
	static const struct gallery_references references = {.max = 1};
	struct gallery_snapshot *snapshot;
	struct gallery_candidate best;
	struct gallery_info info;
	float v[DIM];
	char subject[32];
	uint64_t compared;
	int64_t began;

	fill(1, subject, v);
	began = clock_monotonic_ns();
	for (unsigned i = 0; i < VERIFICATIONS; i++) {
		must(gallery_snapshot_open(b->store, &snapshot), "snapshot");
		must(gallery_find(snapshot, "bench", &info), "gallery");
		must(gallery_verify(snapshot, &info, subject, &references, v, DIM, 0, &best,
				    &compared),
		     "verification");
		gallery_snapshot_close(snapshot);
	}
	printf("1:1 with its own snapshot: %.1f us\n", ms_since(began) * 1000 / VERIFICATIONS);
}

static void open_bench(struct bench *b, const char *dir)
{
	struct gallery_change change = {.kind = GALLERY_CREATE, .gallery = "bench"};
	uint8_t key[KEYS_MASTER_LEN] = {1};
	char path[512], message[256] = "";

	b->pack.dim = DIM;
	b->pack.model = "bench/1";
	must(mkdir(dir, 0700) ? BM_EIO : 0, dir);
	snprintf(path, sizeof(path), "%s/key", dir);
	must(file_write_new(path, key, sizeof(key), 0600), path);
	must(keys_open(path, &b->keys), "keys");
	must(db_open(dir, UINT64_C(64) << 30, 64, &b->db, message), message);
	must(gallery_store_open(b->db, b->keys, &b->pack, &b->store), "store");
	commit_change(b, &change);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 4000;
	struct bench b = {0};

	if (argc < 2) {
		fprintf(stderr, "usage: writer DIR [ENROLMENTS]\n");
		return 64;
	}
	must(score_init(NULL), "score");
	enrolments = calloc(MAX_WAITING, sizeof(*enrolments));
	if (!enrolments)
		return 1;
	open_bench(&b, argv[1]);
	waits = calloc(n + 1, sizeof(*waits));
	if (!waits)
		return 1;
	puts("waiting max group   enrolments/s  a commit   p50 ms   p99 ms   max ms");
	enrol(&b, 1, 1, 1); /* makes the rotation */
	for (unsigned waiting = 1; waiting <= MAX_WAITING; waiting *= 10) {
		if (waiting > 1) /* what a group saves */
			enrol(&b, n / 10, waiting, 1);
		enrol(&b, waiting == 1 ? n / 10 : n, waiting, MAX_WAITING);
	}
	measure_upkeep(&b);
	measure_deletion(&b);
	measure_scrub(&b);
	measure_verification(&b);
	gallery_store_close(b.store);
	db_close(b.db);
	keys_close(b.keys);
	free(waits);
	free(enrolments);
	return 0;
}
