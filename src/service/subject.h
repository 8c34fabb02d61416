/*
 * What the RPCs that name a subject share.
 */
#ifndef SERVICE_SUBJECT_H
#define SERVICE_SUBJECT_H

#include "biomatch/v1/enrolment_service.pb-c.h"
#include "call.h"

/* Checks the names, asks policy, and notes the subject for the audit log. */
int subject_check(struct service_call *call, const char *purpose, const char *gallery,
		  const char *subject) BM_MUST_CHECK;
/* Reads a subject's encounters into the call's arena. */
int subject_find(struct service_call *call, const char *gallery, const char *subject,
		 struct gallery_info *info, struct gallery_subject *out) BM_MUST_CHECK;
/* The encounters as they are told. */
int encounters_to_wire(struct service_call *call, const struct gallery_subject *subject,
		       Biomatch__V1__Encounter ***out, size_t *n) BM_MUST_CHECK;

#endif
