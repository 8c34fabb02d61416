/*
 * The false match rate as it is lived: every verified probe also meets some
 * references of other subjects, drawn at random, and what share of them it
 * would have matched is counted by endpoint class and site.
 */
#ifndef SERVICE_LIVE_H
#define SERVICE_LIVE_H

#include "match.h"

/* Takes some tens of microseconds. What fails is not counted: the call owes nothing to it. */
void live_compare(struct service_call *call, const char *gallery, const char *subject,
		  const float *embedding, const struct strictness *how);

#endif
