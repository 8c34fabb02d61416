/*
 * What a call leaves in the audit log: handlers note facts while they work, and
 * the writer appends them as one entry. Memory that runs out is found by
 * trail_append, so that noting needs no check.
 */
#ifndef SERVICE_TRAIL_H
#define SERVICE_TRAIL_H

#include "call.h"

/* Who asked for what; from call_allow. A second call adds its gallery; NULL for none. */
void trail_begin(struct service_call *call, const char *purpose, const char *gallery);
/* How entries name a subject, or its encounter where that is not NULL. */
int trail_pseudonym(const struct keys *keys, const char *gallery, const char *subject,
		    const char *encounter, uint8_t out[KEYS_PSEUDONYM_LEN]) BM_MUST_CHECK;
/* The subject, and the encounter where it is not NULL, as pseudonyms. */
void trail_subject(struct service_call *call, const char *gallery, const char *subject,
		   const char *encounter);
/* A picture or a template, as its hash. */
void trail_input(struct service_call *call, struct bytes data);
/* A score of the decision; gallery and subject are NULL for Compare. */
void trail_score(struct service_call *call, const char *gallery, const char *subject, float score);
/* How live the picture looked that the decision rests on; of several frames the least. */
void trail_liveness(struct service_call *call, float score, float threshold);
/* What was found of a document, a static string. */
void trail_document(struct service_call *call, const char *verdict);
/* What came of it, a static string, and why: 0 or BM_E*. The last one holds. */
void trail_outcome(struct service_call *call, const char *outcome, int reason);

/* Appends the entry, and puts its receipt into the response where there is one. */
int trail_append(struct service_call *call, struct db_txn *txn) BM_MUST_CHECK;

#endif
