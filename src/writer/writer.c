#include "biomatch/writer.h"

#include <pthread.h>
#include <stdlib.h>

#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "biomatch/priority.h"
#include "biomatch/pulse.h"

/* Under steady load upkeep takes a step after so many commits. */
#define UPKEEP_COMMITS 16
/* After a step that failed, a full store for one, the next is this many groups away. */
#define UPKEEP_REST 1024

/* Changes removed from the log with one commit at most: more than it adds, and few, as each is a
 * page or two elsewhere. */
#define PRUNED_AT_ONCE   4
#define PRUNED_FOR_A_JOB 2

/* A job of the group being written. */
struct member {
	struct writer_job *job;
	int error;
	void *recalled; /* the reply of a repeated request, ours to free */
};

struct writer {
	struct db *db;
	struct gallery_store *store;
	const struct keys *keys;
	struct writer_options options;
	pthread_t thread;

	pthread_mutex_t lock; /* all below but the thread's own */
	pthread_cond_t work;
	struct writer_job *head, **tail;
	unsigned waiting;
	bool closing;
	struct writer_stat stat;

	pthread_mutex_t listener_lock;
	void (*committed)(void *ctx);
	void *listener;

	struct pulse pulse;

	/* The thread's own. */
	struct member *group;
	unsigned upkeep_rest; /* groups to go without upkeep */
};

int writer_submit(struct writer *writer, struct writer_job *job)
{
	int error = 0;

	job->next = NULL;
	job->repeated = false;
	job->reply = (struct bytes){0};
	job->owners = NULL;
	job->n_owners = 0;
	pthread_mutex_lock(&writer->lock);
	if (writer->closing) {
		error = BM_EDRAIN;
	} else if (writer->waiting == writer->options.capacity) {
		error = BM_EBUSY;
	} else {
		*writer->tail = job;
		writer->tail = &job->next;
		writer->waiting++;
	}
	pthread_mutex_unlock(&writer->lock);
	/* Under the lock, who wakes would run into it. */
	if (!error)
		pthread_cond_signal(&writer->work);
	return error;
}

/* What follows is short, however long it takes where the disk hangs. */
static void beat(struct writer *writer)
{
	pulse_expect(&writer->pulse, clock_monotonic_ns());
}

/* Under the lock: until there may be a job, or it is time for a sign of life. */
static void wait_for_work(struct writer *writer)
{
	int64_t until = clock_monotonic_ns() + PULSE_IDLE_NS;
	struct timespec ts = {until / CLOCK_NS_PER_SEC, until % CLOCK_NS_PER_SEC};

	pulse_expect(&writer->pulse, until);
	(void)pthread_cond_clockwait(&writer->work, &writer->lock, CLOCK_MONOTONIC, &ts);
}

/* Waits for jobs; 0 when there are none and there will be no more. */
static unsigned take_group(struct writer *writer)
{
	unsigned n = 0;

	pthread_mutex_lock(&writer->lock);
	while (!writer->head && !writer->closing)
		wait_for_work(writer);
	for (; writer->head && n < writer->options.max_group; n++) {
		writer->group[n] = (struct member){.job = writer->head};
		writer->head = writer->head->next;
		writer->waiting--;
	}
	if (!writer->head)
		writer->tail = &writer->head;
	pthread_mutex_unlock(&writer->lock);
	return n;
}

static int run_job(struct writer *writer, struct member *member, struct db_txn *txn)
{
	struct writer_job *job = member->job;
	bool found = false;
	int error = 0;

	if (clock_monotonic_ns() >= job->deadline_ns)
		return BM_EDEADLINE;
	if (job->has_request)
		error = requests_recall(txn, writer->keys, &job->id, clock_wall_ms(), &job->reply,
					&found);
	if (error || found) {
		job->repeated = found && !error;
		member->recalled = job->repeated ? (void *)(uintptr_t)job->reply.data : NULL;
		return error;
	}
	error = job->apply(job, writer->store, txn);
	if (!error && job->has_request)
		error = requests_remember(txn, writer->keys, &job->id, clock_wall_ms(), job->reply,
					  job->owners, job->n_owners);
	return error;
}

/* Each job has a transaction of its own inside the group's, so that it fails alone. */
static void run_member(struct writer *writer, struct member *member, struct db_txn *group)
{
	struct db_txn txn;

	beat(writer);
	member->error = db_begin_nested(group, &txn);
	if (member->error)
		return;
	member->error = run_job(writer, member, &txn);
	if (member->error)
		db_abort(&txn);
	else
		member->error = db_commit(&txn);
}

static void tell_listener(struct writer *writer)
{
	pthread_mutex_lock(&writer->listener_lock);
	if (writer->committed)
		writer->committed(writer->listener);
	pthread_mutex_unlock(&writer->listener_lock);
}

void writer_listen(struct writer *writer, void (*committed)(void *ctx), void *ctx)
{
	pthread_mutex_lock(&writer->listener_lock);
	writer->committed = committed;
	writer->listener = ctx;
	pthread_mutex_unlock(&writer->listener_lock);
}

static int write_group(struct writer *writer, unsigned n)
{
	struct db_txn txn;
	int error;

	beat(writer);
	error = db_begin_write(writer->db, &txn);
	if (error)
		return error;
	for (unsigned i = 0; i < n; i++)
		run_member(writer, &writer->group[i], &txn);
	beat(writer);
	error = requests_forget_old(&txn, clock_wall_ms());
	if (!error)
		error = changes_prune(&txn, &writer->options.changes, clock_wall_ms(),
				      PRUNED_AT_ONCE + PRUNED_FOR_A_JOB * n);
	if (error) {
		db_abort(&txn);
		return error;
	}
	error = db_commit(&txn);
	if (!error)
		tell_listener(writer);
	return error;
}

static void note_group(struct writer *writer, unsigned n, int error)
{
	pthread_mutex_lock(&writer->lock);
	writer->stat.jobs += n;
	writer->stat.commits += !error;
	for (unsigned i = 0; i < n; i++)
		writer->stat.repeats += writer->group[i].recalled != NULL;
	if (db_is_read_only(writer->db) && !writer->stat.failed) {
		writer->stat.failed = error ? error : BM_EREADONLY;
		log_error("store_read_only", "reason=%s", bm_error_reason(writer->stat.failed));
	}
	pthread_mutex_unlock(&writer->lock);
}

static void tell_group(struct writer *writer, unsigned n, int error)
{
	for (unsigned i = 0; i < n; i++) {
		struct member *member = &writer->group[i];
		void *recalled = member->recalled;
		size_t len = recalled ? member->job->reply.len : 0;

		member->job->done(member->job, error ? error : member->error);
		if (recalled)
			bytes_wipe(recalled, len);
		free(recalled);
	}
}

/* One step of upkeep in a transaction of its own; true when there is more to do. */
static bool upkeep(struct writer *writer)
{
	struct db_txn txn;
	bool more = false;
	int error;

	beat(writer);
	if (writer->upkeep_rest || db_begin_write(writer->db, &txn))
		return false;
	error = gallery_maintain(writer->store, &txn, &more);
	if (error || !more)
		db_abort(&txn);
	else
		error = db_commit(&txn);
	if (error) {
		/* The data are as they were; searches go on, a little slower. */
		log_error("upkeep_failed", "reason=%s", bm_error_reason(error));
		writer->upkeep_rest = UPKEEP_REST;
		note_group(writer, 0, error);
	}
	return more && !error;
}

static bool jobs_wait(struct writer *writer)
{
	bool waiting;

	pthread_mutex_lock(&writer->lock);
	waiting = writer->head || writer->closing;
	pthread_mutex_unlock(&writer->lock);
	return waiting;
}

/* What was erased leaves the disk, too, a step at a time while jobs wait. */
static void scrub(struct writer *writer, bool whole)
{
	bool more = db_wants_scrub(writer->db);

	while (more) {
		int error;

		beat(writer);
		error = db_scrub(writer->db, &more);
		if (error) {
			note_group(writer, 0, error);
			return;
		}
		if (!whole && jobs_wait(writer))
			return;
	}
}

static void *run(void *arg)
{
	struct writer *writer = arg;
	unsigned n, since_upkeep = 0;

	pthread_setname_np(pthread_self(), "writer");
	priority_prompt();
	/* What was left undone, a gallery on its way to another key, goes on unasked. */
	while (upkeep(writer) && !jobs_wait(writer))
		;
	while ((n = take_group(writer))) {
		int error = write_group(writer, n);

		note_group(writer, n, error);
		tell_group(writer, n, error);
		writer->upkeep_rest -= writer->upkeep_rest > 0;
		if (++since_upkeep >= UPKEEP_COMMITS || !jobs_wait(writer)) {
			since_upkeep = 0;
			while (upkeep(writer) && !jobs_wait(writer))
				;
			scrub(writer, false);
		}
	}
	scrub(writer, true);
	pulse_end(&writer->pulse);
	return NULL;
}

int writer_open(struct db *db, struct gallery_store *store, const struct keys *keys,
		const struct writer_options *options, struct writer **out)
{
	struct writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		return BM_ENOMEM;
	writer->db = db;
	writer->store = store;
	writer->keys = keys;
	writer->options = *options;
	writer->tail = &writer->head;
	pulse_init(&writer->pulse);
	writer->group = calloc(options->max_group, sizeof(*writer->group));
	pthread_mutex_init(&writer->lock, NULL);
	pthread_mutex_init(&writer->listener_lock, NULL);
	pthread_cond_init(&writer->work, NULL);
	if (!writer->group || pthread_create(&writer->thread, NULL, run, writer)) {
		pthread_cond_destroy(&writer->work);
		pthread_mutex_destroy(&writer->listener_lock);
		pthread_mutex_destroy(&writer->lock);
		free(writer->group);
		free(writer);
		return BM_ENOMEM;
	}
	*out = writer;
	return 0;
}

void writer_close(struct writer *writer)
{
	if (!writer)
		return;
	pthread_mutex_lock(&writer->lock);
	writer->closing = true;
	pthread_cond_signal(&writer->work);
	pthread_mutex_unlock(&writer->lock);
	pthread_join(writer->thread, NULL);
	pthread_cond_destroy(&writer->work);
	pthread_mutex_destroy(&writer->listener_lock);
	pthread_mutex_destroy(&writer->lock);
	free(writer->group);
	free(writer);
}

void writer_stat(struct writer *writer, struct writer_stat *out)
{
	pthread_mutex_lock(&writer->lock);
	*out = writer->stat;
	out->waiting = writer->waiting;
	out->late_ms = pulse_late_ms(&writer->pulse, clock_monotonic_ns());
	pthread_mutex_unlock(&writer->lock);
}
