/*
 * Probes: from the request's picture or template to an embedding.
 */
#ifndef SERVICE_PROBE_H
#define SERVICE_PROBE_H

#include "biomatch/v1/common.pb-c.h"
#include "call.h"

enum probe_role {
	PROBE_CAPTURE, /* from a camera, or to be enrolled: held to what the purpose asks */
	PROBE_GIVEN, /* what a capture is compared with: held to the rules for portraits, if any */
};

/* One picture or template of a call. */
struct probe {
	const char *field; /* its path in the request */
	enum probe_role role;
	struct bytes picture;       /* of several frames the best one's, once they were looked at */
	unsigned wanted;            /* of a picture beside its template: FACE_* */
	struct bytes sealed;        /* a template's data */
	struct face_report *report; /* NULL for a template */
	const float *embedding;     /* NULL where finding is set */
	int finding;                /* 0, or BM_E* of the face */
	struct probe *frames;       /* of a probe of several; the rest is then what they make */
	size_t n_frames;
	unsigned weight; /* of a frame that was used */
};

/* Checks the request's probe once policy has named the purpose; on the transport's thread. */
int probe_prepare(struct service_call *call, const Biomatch__V1__Probe *from, const char *field,
		  enum probe_role role, struct probe *probe);
/* The same for RPCs that take captures as pictures only. */
int probe_prepare_image(struct service_call *call, const Biomatch__V1__Image *from,
			const char *field, struct probe *probe);
/* Computes or unseals the embedding. A finding is not an error unless the purpose says so. */
int probe_run(struct service_call *call, struct faceworker *worker, struct probe *probe);

/* What was seen; NULL when memory is out. */
Biomatch__V1__ProbeReport *probe_report(struct service_call *call, const struct probe *probe);
/* Seals an embedding for the caller. */
int probe_seal(struct service_call *call, const float *embedding, Biomatch__V1__Template **out);

/* The Reason of a finding. */
Biomatch__V1__Reason reason_of(int finding);
/* Where the time went. */
Biomatch__V1__StageTimes *stage_times(struct service_call *call);

#endif
