/*
 * The audit log: decisions a second and how long each waits for its entry, by the
 * number that wait at once, in groups and with a commit for each; then how fast
 * an export is checked.
 *
 *   audit DIR [ENTRIES]      DIR is new, on the disk that is to be measured
 */
#include <openssl/evp.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "biomatch/audit.h"
#include "biomatch/clock.h"
#include "biomatch/file.h"
#include "biomatch/writer.h"

#define MAX_WAITING 512
/* Decisions of one row: enough for a 99th percentile, few enough for a slow disk. */
#define DECISIONS 4000
/* As many as PruneAudit removes at once. */
#define PRUNE_STEP 10000
/* Entries of one transaction while the log is filled; each ends with a checkpoint. */
#define FILL_STEP 10000

struct bench {
	struct pack pack;
	struct keys *keys;
	struct db *db;
	struct gallery_store *store;
	uint8_t public[AUDIT_KEY_LEN];
};

/* A row of the table: jobs that begin again when they are done. Begun once, the writer's. */
struct row {
	struct writer *writer;
	unsigned left, n;
	int64_t ns[DECISIONS];
	sem_t ended;
};

struct decision {
	struct writer_job job;
	struct row *row;
	int64_t began_ns;
};

static void must(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "%s: %s\n", what, bm_error_text(error));
	exit(1);
}

static double seconds_since(int64_t began)
{
	return (double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_SEC;
}

/* As a Verify leaves it. */
static int append(struct db_txn *txn, int64_t now_ms)
{
	static uint8_t hash[AUDIT_HASH_LEN] = {1, 2, 3};
	static char gallery[] = "arrivals", *galleries[] = {gallery};
	const ProtobufCBinaryData digest = {sizeof(hash), hash};
	Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Biomatch__V1__AuditEntry entry = BIOMATCH__V1__AUDIT_ENTRY__INIT;
	Biomatch__V1__AuditScore score = BIOMATCH__V1__AUDIT_SCORE__INIT, *scores[] = {&score};
	struct audit_receipt receipt;

	time.seconds = now_ms / 1000;
	entry.time = &time;
	entry.endpoint = (char *)(uintptr_t) "biomatch://example/hall-4/echannel-departure/117";
	entry.purpose = (char *)(uintptr_t) "border-departure";
	entry.operation = (char *)(uintptr_t) "biomatch.v1.MatchingService/Verify";
	entry.policy_version = (char *)(uintptr_t) "example-1";
	entry.outcome = (char *)(uintptr_t) "MATCH";
	entry.model = (char *)(uintptr_t) "faceplugin/0.0.1";
	entry.calibration_id = (char *)(uintptr_t) "faceplugin-0.0.1-lfw-2";
	entry.target_rate = 1e-4;
	entry.threshold = 0.4f;
	entry.compared = 1;
	entry.galleries = galleries;
	entry.inputs = (ProtobufCBinaryData *)&digest;
	entry.scores = scores;
	entry.n_galleries = entry.n_inputs = entry.n_scores = 1;
	entry.subject = score.subject = digest;
	score.gallery = gallery;
	score.score = 0.7f;
	return audit_append(txn, &entry, &receipt);
}

static int apply(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	(void)job;
	(void)store;
	return append(txn, clock_wall_ms());
}

static void begin(struct decision *d)
{
	d->began_ns = clock_monotonic_ns();
	must(writer_submit(d->row->writer, &d->job), "submit");
}

static void done(struct writer_job *job, int error)
{
	struct decision *d = (struct decision *)job;
	struct row *row = d->row;

	must(error, "decision");
	row->ns[row->n++] = clock_monotonic_ns() - d->began_ns;
	if (row->left) {
		row->left--;
		begin(d);
	} else if (row->n == DECISIONS) {
		sem_post(&row->ended);
	}
}

static int by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void measure_decisions(struct bench *b, unsigned waiting, unsigned max_group)
{
	const struct writer_options options = {.capacity = MAX_WAITING, .max_group = max_group};
	static struct decision decisions[MAX_WAITING];
	static struct row row;
	struct writer_stat stat;
	int64_t began;
	double s;

	row = (struct row){.left = DECISIONS - waiting};
	sem_init(&row.ended, 0, 0);
	must(writer_open(b->db, b->store, b->keys, &options, &row.writer), "writer");
	began = clock_monotonic_ns();
	for (unsigned i = 0; i < waiting; i++) {
		decisions[i] = (struct decision){
			.job = {.apply = apply, .done = done, .deadline_ns = CLOCK_FOREVER},
			.row = &row};
		begin(&decisions[i]);
	}
	sem_wait(&row.ended);
	s = seconds_since(began);
	writer_stat(row.writer, &stat);
	writer_close(row.writer);
	sem_destroy(&row.ended);
	qsort(row.ns, DECISIONS, sizeof(row.ns[0]), by_time);
	printf("| %7u | %9u | %11.0f | %8.1f | %6.2f | %6.2f | %6.2f |\n", waiting, max_group,
	       DECISIONS / s, (double)DECISIONS / (double)stat.commits,
	       (double)row.ns[DECISIONS / 2] / CLOCK_NS_PER_MS,
	       (double)row.ns[DECISIONS * 99 / 100] / CLOCK_NS_PER_MS,
	       (double)row.ns[DECISIONS - 1] / CLOCK_NS_PER_MS);
}

static void fill(struct bench *b, unsigned n)
{
	struct audit_receipt head;
	struct db_txn txn;

	for (unsigned i = 0; i < n; i += FILL_STEP) {
		must(db_begin_write(b->db, &txn), "begin");
		for (unsigned j = i; j < n && j < i + FILL_STEP; j++)
			must(append(&txn, 1000LL * j), "append");
		must(audit_checkpoint(&txn, b->keys, 1000LL * i, &head), "checkpoint");
		must(db_commit(&txn), "commit");
	}
}

static void export(struct bench *b, const char *path)
{
	FILE *file = fopen(path, "wbx");
	struct audit_receipt head;
	struct bytes entry;
	struct db_txn txn;

	must(file ? 0 : BM_EIO, path);
	must(db_begin_read(b->db, &txn), "begin");
	must(audit_head(&txn, &head), "head");
	must(audit_get(&txn, head.sequence, &entry) ? 0 : BM_ECORRUPT, "head");
	must(audit_export_begin(file, entry), path);
	for (uint64_t i = 1; i <= head.sequence; i++) {
		must(audit_get(&txn, i, &entry) ? 0 : BM_ECORRUPT, "entry");
		must(audit_export_add(file, entry), path);
	}
	must(fclose(file) ? BM_EIO : 0, path);
	db_abort(&txn);
}

static void measure_checking(struct bench *b, const char *path, unsigned n)
{
	const struct audit_trust trust = {(const uint8_t(*)[AUDIT_KEY_LEN]) & b->public, 1};
	struct audit_verdict verdict;
	int64_t began;
	struct stat st;
	double s;

	fill(b, n);
	export(b, path);
	must(stat(path, &st) ? BM_EIO : 0, path);
	began = clock_monotonic_ns();
	must(audit_export_verify(path, &trust, 1, NULL, &verdict), path);
	s = seconds_since(began);
	printf("\n%llu entries of %.0f bytes, %llu signed, checked in %.2f s\n",
	       (unsigned long long)verdict.chain.head.sequence,
	       (double)st.st_size / (double)verdict.chain.head.sequence,
	       (unsigned long long)verdict.chain.checkpoints, s);
}

/* The writer's time that one step of pruning takes from decisions. */
static void measure_pruning(struct bench *b)
{
	struct audit_receipt head;
	uint64_t pruned, left;
	struct db_txn txn;
	int64_t began;

	must(db_begin_read(b->db, &txn), "begin");
	must(audit_head(&txn, &head), "head");
	db_abort(&txn);
	began = clock_monotonic_ns();
	must(db_begin_write(b->db, &txn), "begin");
	must(audit_prune(&txn, &head, PRUNE_STEP, &pruned, &left), "prune");
	must(db_commit(&txn), "commit");
	printf("%llu entries pruned in %.1f ms\n", (unsigned long long)pruned,
	       1000 * seconds_since(began));
}

static void open_bench(struct bench *b, const char *dir)
{
	uint8_t key[KEYS_MASTER_LEN] = {1};
	char path[512], message[256] = "";
	size_t len = AUDIT_KEY_LEN;
	EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key, sizeof(key));

	must(pair && EVP_PKEY_get_raw_public_key(pair, b->public, &len) == 1 ? 0 : BM_EKEY, "key");
	EVP_PKEY_free(pair);
	b->pack.dim = 512;
	b->pack.model = "bench/1";
	must(mkdir(dir, 0700) ? BM_EIO : 0, dir);
	snprintf(path, sizeof(path), "%s/key", dir);
	must(file_write_new(path, key, sizeof(key), 0600), path);
	must(keys_open(path, &b->keys), "keys");
	must(keys_open_signing(b->keys, path), "keys");
	must(db_open(dir, UINT64_C(64) << 30, 64, &b->db, message), message);
	must(gallery_store_open(b->db, b->keys, &b->pack, &b->store), "store");
}

int main(int argc, char **argv)
{
	unsigned n = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1000000;
	struct bench b = {0};
	char path[512];

	if (argc < 2) {
		fprintf(stderr, "usage: audit DIR [ENTRIES]\n");
		return 64;
	}
	open_bench(&b, argv[1]);
	printf("| waiting | max group | decisions/s | a commit | p50 ms | p99 ms | max ms |\n"
	       "|--------:|----------:|------------:|---------:|-------:|-------:|-------:|\n");
	for (unsigned waiting = 1; waiting <= MAX_WAITING; waiting *= 8) {
		measure_decisions(&b, waiting, 1);
		if (waiting > 1)
			measure_decisions(&b, waiting, 256);
	}
	snprintf(path, sizeof(path), "%s/export", argv[1]);
	measure_checking(&b, path, n);
	measure_pruning(&b);
	gallery_store_close(b.store);
	db_close(b.db);
	keys_close(b.keys);
	return 0;
}
