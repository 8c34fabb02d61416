/*
 * The writer: one thread, one write transaction at a time, many jobs in each.
 * A job's done callback runs after the commit that holds it is on disk, and
 * only then may anybody be told.
 *
 * A job may carry a request key. The first job with a key is remembered with
 * its reply for 24 hours in the same transaction; a later one with the same key
 * and digest gets that reply and changes nothing, one with another digest gets
 * BM_EREUSED, one whose reply was erased with a subject BM_EERASED.
 *
 * Thread: submit from any; apply and done run on the writer thread.
 * Errors: BM_EBUSY when the queue is full, BM_EDRAIN once closing, BM_EREADONLY
 * after a failed commit; a job's own error undoes that job alone.
 * Owns: a job belongs to the writer from submit until done.
 */
#ifndef BIOMATCH_WRITER_H
#define BIOMATCH_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/changes.h"
#include "biomatch/db.h"
#include "biomatch/error.h"
#include "biomatch/gallery.h"
#include "biomatch/keys.h"
#include "biomatch/requests.h"

struct writer;

struct writer_job {
	struct writer_job *next; /* the writer's */

	/* Makes the changes. Sets reply where there is a request key. */
	int (*apply)(struct writer_job *job, struct gallery_store *store, struct db_txn *txn);
	/* Told the outcome: 0 once durable. The job is the caller's again. */
	void (*done)(struct writer_job *job, int error);

	bool has_request;
	struct requests_id id;
	/*
	 * Set by apply and borrowed until done; for a repeated request set by the
	 * writer to the first answer, valid until done returns.
	 */
	struct bytes reply;
	/* Whom the reply tells of; set by apply and borrowed until done. */
	const struct requests_owner *owners;
	size_t n_owners;
	bool repeated;       /* reply is the first answer */
	int64_t deadline_ns; /* monotonic; a job not begun by then is BM_EDEADLINE */
};

struct writer_options {
	unsigned capacity;             /* jobs waiting */
	unsigned max_group;            /* jobs in one commit */
	struct changes_limits changes; /* what the change log keeps */
};

int writer_open(struct db *db, struct gallery_store *store, const struct keys *keys,
		const struct writer_options *options, struct writer **out) BM_MUST_CHECK;
/* Finishes the jobs already submitted, then ends the thread. */
void writer_close(struct writer *writer);

int writer_submit(struct writer *writer, struct writer_job *job) BM_MUST_CHECK;

/*
 * Who is told of every commit, on the writer thread, before the jobs are; it must not
 * submit. NULL for nobody: none is told any more once that returns.
 */
void writer_listen(struct writer *writer, void (*committed)(void *ctx), void *ctx);

struct writer_stat {
	uint64_t jobs, commits, repeats; /* since start */
	unsigned waiting;
	int failed;       /* 0, or the error that made the store read-only */
	uint32_t late_ms; /* since the thread last came back from a step; 0 while idle */
};
void writer_stat(struct writer *writer, struct writer_stat *out);

#endif
