/*
 * Remembered requests: what was answered under a request id, kept for 24 hours.
 */
#ifndef WRITER_REQUEST_H
#define WRITER_REQUEST_H

#include "biomatch/writer.h"

/*
 * Looks a job's request up. *found tells whether it was answered before; then the
 * job's reply is set to malloc'ed memory that the caller frees. BM_EREUSED for
 * another digest. One whose time is over is forgotten on the way.
 */
int request_recall(const struct keys *keys, struct db_txn *txn, struct writer_job *job,
		   int64_t now_ms, bool *found) BM_MUST_CHECK;
/* Remembers a job's reply. */
int request_remember(const struct keys *keys, struct db_txn *txn, const struct writer_job *job,
		     int64_t now_ms) BM_MUST_CHECK;
/* Forgets a few of those whose time is over. */
int request_forget_old(struct db_txn *txn, int64_t now_ms) BM_MUST_CHECK;

#endif
