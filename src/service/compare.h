/*
 * A capture against a picture that the caller brings: Compare, and VerifyDocument.
 */
#ifndef SERVICE_COMPARE_H
#define SERVICE_COMPARE_H

#include "biomatch/v1/matching_service.pb-c.h"
#include "probe.h"

struct compare {
	struct probe probe, reference;
};

int compare_run(struct service_call *call, struct faceworker *worker, struct compare *compare);
/* The answer, without a receipt; noted for the audit log. */
int compare_decide(struct service_call *call, struct compare *compare,
		   Biomatch__V1__CompareResponse **response);

#endif
