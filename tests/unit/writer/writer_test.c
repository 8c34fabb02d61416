#include "store.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "biomatch/clock.h"
#include "biomatch/writer.h"
#include "fault.h"

static const struct writer_options options = {.capacity = 256, .max_group = 32};

/* A job that puts one encounter, and what became of it. */
struct put_job {
	struct writer_job job;
	char subject[24];
	uint64_t seed;
	int fails_with; /* what apply returns after its change */
	char reply[64];
	int error;
	bool done;
	unsigned applied;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static int put_apply(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	struct put_job *put = (void *)job;
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = "g",
					.subject = put->subject,
					.dim = STORE_DIM,
					.encounter = {.expires_ms = GALLERY_NEVER}};
	struct gallery_outcome outcome;
	float v[STORE_DIM];
	int error;

	test_vector(&put->seed, v, STORE_DIM);
	change.embedding = v;
	put->applied++;
	error = gallery_apply(store, txn, &change, &outcome);
	if (error || put->fails_with)
		return error ? error : put->fails_with;
	strcpy(put->reply, outcome.encounter);
	job->reply = (struct bytes){(const uint8_t *)put->reply, strlen(put->reply)};
	return 0;
}

static void put_done(struct writer_job *job, int error)
{
	struct put_job *put = (void *)job;

	pthread_mutex_lock(&lock);
	put->error = error;
	put->done = true;
	if (!error) {
		memcpy(put->reply, job->reply.data, job->reply.len);
		put->reply[job->reply.len] = '\0';
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void put_init(struct put_job *put, const char *subject)
{
	*put = (struct put_job){
		.job = {.apply = put_apply, .done = put_done, .deadline_ns = CLOCK_FOREVER}};
	strcpy(put->subject, subject);
}

static void put_wait(struct put_job *put)
{
	pthread_mutex_lock(&lock);
	while (!put->done)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static int put_run(struct writer *writer, struct put_job *put)
{
	assert_int_equal(writer_submit(writer, &put->job), 0);
	put_wait(put);
	return put->error;
}

static uint64_t count_subjects(struct test_store *s)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	gallery_snapshot_close(snapshot);
	return info.subjects;
}

static void test_groups(void **state)
{
	enum { JOBS = 200 };
	struct put_job *jobs = calloc(JOBS, sizeof(*jobs));
	struct writer_stat stat;
	struct writer *writer;
	struct test_store s;
	char name[16];

	(void)state;
	assert_non_null(jobs);
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	for (int i = 0; i < JOBS; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		put_init(&jobs[i], name);
		jobs[i].fails_with = i % 10 == 3 ? BM_ELIMIT : 0;
		assert_int_equal(writer_submit(writer, &jobs[i].job), 0);
	}
	for (int i = 0; i < JOBS; i++) {
		put_wait(&jobs[i]);
		assert_int_equal(jobs[i].error, jobs[i].fails_with);
	}
	writer_stat(writer, &stat);
	assert_int_equal(stat.jobs, JOBS);
	assert_true(stat.commits < JOBS);
	writer_close(writer);
	assert_int_equal(count_subjects(&s), JOBS - JOBS / 10);
	test_check(&s, 0);
	test_store_deinit(&s);
	free(jobs);
}

static void test_queue_is_bounded(void **state)
{
	static const struct writer_options small = {.capacity = 1, .max_group = 1};
	struct put_job jobs[64];
	struct writer *writer;
	struct test_store s;
	unsigned refused = 0;

	(void)state;
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &small, &writer), 0);
	for (int i = 0; i < 64; i++) {
		int error;

		put_init(&jobs[i], "s");
		error = writer_submit(writer, &jobs[i].job);
		assert_true(error == 0 || error == BM_EBUSY);
		jobs[i].done = error != 0;
		refused += error != 0;
	}
	assert_true(refused > 0);
	for (int i = 0; i < 64; i++)
		put_wait(&jobs[i]);
	writer_close(writer);
	test_store_deinit(&s);
}

static void test_deadline(void **state)
{
	struct writer *writer;
	struct test_store s;
	struct put_job put;

	(void)state;
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	put_init(&put, "late");
	put.job.deadline_ns = clock_monotonic_ns();
	assert_int_equal(put_run(writer, &put), BM_EDEADLINE);
	assert_int_equal(put.applied, 0);
	writer_close(writer);
	test_store_deinit(&s);
}

static void request_init(struct put_job *put, const char *subject, uint8_t id, uint8_t digest)
{
	put_init(put, subject);
	put->job.has_request = true;
	memset(put->job.id.request, id, sizeof(put->job.id.request));
	memset(put->job.id.digest, digest, sizeof(put->job.id.digest));
}

static void test_requests_are_remembered(void **state)
{
	struct put_job first, again, other, same_group[2];
	struct writer_stat stat;
	struct writer *writer;
	struct test_store s;

	(void)state;
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	request_init(&first, "ada", 1, 1);
	assert_int_equal(put_run(writer, &first), 0);
	request_init(&again, "ada", 1, 1);
	assert_int_equal(put_run(writer, &again), 0);
	assert_int_equal(again.applied, 0);
	assert_string_equal(again.reply, first.reply);
	request_init(&other, "ada", 1, 2);
	assert_int_equal(put_run(writer, &other), BM_EREUSED);

	/* A failed job is not remembered: it may be tried again. */
	request_init(&other, "bob", 2, 1);
	other.fails_with = BM_EIO;
	assert_int_equal(put_run(writer, &other), BM_EIO);
	request_init(&other, "bob", 2, 1);
	assert_int_equal(put_run(writer, &other), 0);
	assert_int_equal(other.applied, 1);

	for (int i = 0; i < 2; i++) {
		request_init(&same_group[i], "eve", 3, 1);
		assert_int_equal(writer_submit(writer, &same_group[i].job), 0);
	}
	for (int i = 0; i < 2; i++)
		put_wait(&same_group[i]);
	assert_int_equal(same_group[0].applied + same_group[1].applied, 1);
	assert_string_equal(same_group[0].reply, same_group[1].reply);
	writer_stat(writer, &stat);
	assert_int_equal(stat.repeats, 2);
	writer_close(writer);

	test_store_close(&s);
	test_store_open(&s, 64 << 20);
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	request_init(&again, "ada", 1, 1);
	assert_int_equal(put_run(writer, &again), 0);
	assert_int_equal(again.applied, 0);
	assert_string_equal(again.reply, first.reply);

	/* A day later the id is free even before a commit has forgotten it, and holds for a day. */
	clock_shift_wall(INT64_C(25) * 3600 * 1000);
	for (int i = 0; i < 2; i++) {
		request_init(&other, "bob", 2, 5);
		assert_int_equal(put_run(writer, &other), 0);
		assert_int_equal(other.applied, 1 - i);
	}

	/* The others are forgotten with the next commit. */
	request_init(&other, "dan", 4, 1);
	assert_int_equal(put_run(writer, &other), 0);
	request_init(&again, "ada", 1, 1);
	assert_int_equal(put_run(writer, &again), 0);
	assert_int_equal(again.applied, 1);
	clock_shift_wall(0);
	writer_close(writer);
	test_store_deinit(&s);
}

/* Years away and back: nothing stops, and a reply of this day is not forgotten. */
static void test_clock_jumps(void **state)
{
	const int64_t years = INT64_C(365) * 24 * 3600 * 1000;
	static const int jumps[] = {-30, 0, 40, -30, 0};
	struct writer *writer;
	struct put_job put;
	struct test_store s;

	(void)state;
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	for (uint8_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		clock_shift_wall(jumps[i] * years);
		for (unsigned again = 0; again < 2; again++) {
			request_init(&put, "ada", (uint8_t)(10 + i), 1);
			assert_int_equal(put_run(writer, &put), 0);
			assert_int_equal(put.applied, again ? 0 : 1);
		}
	}
	clock_shift_wall(0);
	assert_int_equal(count_subjects(&s), 1);
	test_check(&s, 0);
	writer_close(writer);
	test_store_deinit(&s);
}

static void test_upkeep_seals(void **state)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	struct writer *writer;
	struct test_store s;
	char name[16];

	(void)state;
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	for (int i = 0; i < 130; i++) {
		struct put_job put;

		snprintf(name, sizeof(name), "s%d", i);
		put_init(&put, name);
		assert_int_equal(put_run(writer, &put), 0);
	}
	writer_close(writer);
	assert_int_equal(gallery_snapshot_open(s.store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	assert_true(info.segments >= 1);
	assert_int_equal(info.segments * 64 + info.tail_rows, 130);
	gallery_snapshot_close(snapshot);
	test_check(&s, 0);
	test_store_deinit(&s);
}

static void test_full_store_fails_the_group(void **state)
{
	struct writer *writer;
	struct put_job more;
	struct test_store s;
	int error = 0;

	(void)state;
	test_store_init(&s, 256 << 10);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	log_set_level(LOG_LEVEL_ERROR - 1);
	for (int i = 0; !error && i < 2000; i++) {
		struct put_job put;
		char name[16];

		snprintf(name, sizeof(name), "s%d", i);
		put_init(&put, name);
		error = put_run(writer, &put);
	}
	assert_int_equal(error, BM_EMAPFULL);

	/* There is room again without opening the store anew. */
	assert_int_equal(db_grow(s.db, 64 << 20), 0);
	put_init(&more, "more");
	assert_int_equal(put_run(writer, &more), 0);
	writer_close(writer);
	test_check(&s, 0);
	test_store_deinit(&s);
}

enum { THREADS = 4, PUTS = 40 };

/* A thread that puts one subject after another, or searches as long as there are puts. */
struct worker {
	struct test_store *store;
	struct writer *writer;
	int number;
	int failures;
	atomic_bool *over;
	pthread_t thread;
};

static void *put_many(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < PUTS; i++) {
		struct put_job put;
		char name[24];

		snprintf(name, sizeof(name), "w%d-%d", w->number, i);
		put_init(&put, name);
		w->failures += writer_submit(w->writer, &put.job) != 0;
		put_wait(&put);
		w->failures += put.error != 0;
	}
	return NULL;
}

/* All puts are of one vector: a search finds as many subjects as the gallery says. */
static int search_once(struct test_store *s, uint64_t *subjects)
{
	struct gallery_search search = {.dim = STORE_DIM, .threshold = 0.9f, .max_candidates = 256};
	struct gallery_search *searches = &search;
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	struct arena arena;
	float v[STORE_DIM];
	uint64_t seed = 0, before = *subjects;
	int error;

	test_vector(&seed, v, STORE_DIM);
	search.probe = v;
	search.arena = &arena;
	arena_init(&arena, 4 << 20);
	error = gallery_snapshot_open(s->store, &snapshot);
	if (error)
		return error;
	error = gallery_find(snapshot, "g", &info);
	if (!error) {
		gallery_identify(snapshot, &info, &searches, 1, NULL);
		error = search.error;
	}
	if (!error && (search.result.n != info.subjects || info.subjects < before))
		error = BM_EINTERNAL;
	*subjects = info.subjects;
	gallery_snapshot_close(snapshot);
	arena_deinit(&arena);
	return error;
}

static void *search_meanwhile(void *arg)
{
	struct worker *w = arg;
	uint64_t subjects = 0;

	do
		w->failures += search_once(w->store, &subjects) != 0;
	while (!atomic_load(w->over));
	return NULL;
}

static void test_searches_beside_writes(void **state)
{
	struct worker workers[THREADS + 2];
	uint64_t subjects = 0;
	struct writer *writer;
	struct test_store s;
	atomic_bool over;

	(void)state;
	atomic_init(&over, false);
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	for (int i = 0; i < THREADS + 2; i++) {
		workers[i] = (struct worker){&s, writer, .number = i, .over = &over};
		assert_int_equal(pthread_create(&workers[i].thread, NULL,
						i < THREADS ? put_many : search_meanwhile,
						&workers[i]),
				 0);
	}
	for (int i = 0; i < THREADS + 2; i++) {
		if (i == THREADS)
			atomic_store(&over, true);
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].failures, 0);
	}
	writer_close(writer);
	assert_int_equal(search_once(&s, &subjects), 0);
	assert_int_equal(subjects, THREADS * PUTS);
	test_check(&s, 0);
	test_store_deinit(&s);
}

/* In a child, whose disk fails between two puts: what went wrong, or 0. */
static int run_on_failing_disk(struct test_store *s)
{
	struct put_job first, again, second;
	struct writer_stat stat;
	struct writer *writer;
	uint64_t subjects = 0;

	log_set_level(LOG_LEVEL_ERROR - 1);
	test_store_open(s, 64 << 20);
	if (writer_open(s->db, s->store, s->keys, &options, &writer))
		return 1;
	request_init(&first, "first", 1, 1);
	if (put_run(writer, &first) || !fault_lose_data_file())
		return 2;
	put_init(&second, "second");
	if (put_run(writer, &second) != BM_EIO)
		return 3;
	put_init(&second, "third");
	if (put_run(writer, &second) != BM_EREADONLY || second.applied)
		return 4;
	/* Not even what is known is told again: the store must be opened anew. */
	request_init(&again, "first", 1, 1);
	if (put_run(writer, &again) != BM_EREADONLY)
		return 5;
	writer_stat(writer, &stat);
	if (stat.failed != BM_EIO || stat.commits != 1)
		return 6;
	if (search_once(s, &subjects) || subjects != 1)
		return 7;
	writer_close(writer);
	return 0;
}

static void test_failed_commit_ends_writing(void **state)
{
	struct test_store s;
	int status;
	pid_t pid;

	(void)state;
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	test_store_close(&s);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(run_on_failing_disk(&s));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	test_store_open(&s, 64 << 20);
	assert_int_equal(count_subjects(&s), 1);
	test_check(&s, 0);
	test_store_deinit(&s);
}

/* Puts one subject after another and tells the pipe of each that was acknowledged. */
static void write_until_killed(struct test_store *s, int out)
{
	struct writer *writer;
	uint32_t n = 0;

	test_store_open(s, 64 << 20);
	if (writer_open(s->db, s->store, s->keys, &options, &writer))
		_exit(1);
	for (;; n++) {
		struct put_job put;
		char name[24];

		snprintf(name, sizeof(name), "p%d-%u", (int)getpid(), n);
		put_init(&put, name);
		if (writer_submit(writer, &put.job))
			_exit(1);
		put_wait(&put);
		if (put.error || write(out, &n, sizeof(n)) != (ssize_t)sizeof(n))
			_exit(1);
	}
}

static void test_kill_loses_nothing_acknowledged(void **state)
{
	uint64_t acknowledged = 0, before = 0;
	struct test_store s;

	(void)state;
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	for (int cycle = 0; cycle < 5; cycle++) {
		uint32_t n;
		int fds[2];
		pid_t pid;

		test_store_close(&s);
		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid)
			write_until_killed(&s, fds[1]);
		close(fds[1]);
		for (int i = 0; i < 20 + cycle * 7; i++) {
			assert_int_equal(file_read_full(fds[0], &n, sizeof(n)), 0);
			acknowledged++;
		}
		kill(pid, SIGKILL);
		while (!file_read_full(fds[0], &n, sizeof(n)))
			acknowledged++;
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		close(fds[0]);
		test_store_open(&s, 64 << 20);
		/* At most one commit was on disk and not yet told. */
		assert_in_range(count_subjects(&s), acknowledged,
				acknowledged + (uint64_t)cycle + 1);
		assert_true(count_subjects(&s) > before);
		before = count_subjects(&s);
		test_check(&s, 0);
	}
	test_store_deinit(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_queue_is_bounded),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_requests_are_remembered),
		cmocka_unit_test(test_clock_jumps),
		cmocka_unit_test(test_upkeep_seals),
		cmocka_unit_test(test_full_store_fails_the_group),
		cmocka_unit_test(test_searches_beside_writes),
		cmocka_unit_test(test_failed_commit_ends_writing),
		cmocka_unit_test(test_kill_loses_nothing_acknowledged),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("writer", tests, NULL, NULL);
}
