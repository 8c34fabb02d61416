/*
 * The report of a folder's enrolment: one JSON object a line for each file, in
 * the order they were done. A later run with the same report skips what is done.
 * It names files and so subjects: only its owner may read it.
 *
 * Thread: report_done from any after report_open; report_add under a lock.
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "biomatch/error.h"

struct report {
	int fd;
	json_t *done; /* request id -> true */
};

/* What became of a file. */
enum outcome {
	OUTCOME_CREATED,
	OUTCOME_EXISTS, /* stored by an earlier run */
	OUTCOME_DUPLICATE,
	OUTCOME_REFER,
	OUTCOME_ERROR, /* to be tried again by the next run */
	OUTCOMES
};
const char *outcome_name(enum outcome outcome);

/* Reads what an earlier run left and opens for more. BM_EIO, BM_EINVAL, BM_ENOMEM. */
int report_open(struct report *report, const char *path) BM_MUST_CHECK;
void report_close(struct report *report);
bool report_done(const struct report *report, const char *request_id);
int report_add(const struct report *report, const char *file, const char *request_id,
	       enum outcome outcome, const char *reason) BM_MUST_CHECK;

#endif
