/*
 * What a purpose asks of a picture beyond a face that can be compared: that it
 * looks live, and is good enough. A capture is held to the purpose's own minima,
 * a photograph that it is compared with to the rules for portraits where the
 * purpose has them applied.
 */
#ifndef SERVICE_DEMAND_H
#define SERVICE_DEMAND_H

#include "probe.h"

/* What has to be judged of this probe, FACE_*; 0 for what nothing is asked of. */
unsigned demand_wanted(const struct service_call *call, const struct probe *probe);
/* Sets the finding of a picture that falls short, or fails where the purpose rejects it. */
int demand_check(struct service_call *call, struct probe *probe);
/* Tells what was judged. */
int demand_report(struct service_call *call, const struct probe *probe,
		  Biomatch__V1__ProbeReport *out);
/* Fails with the finding of a probe, for RPCs that have no decision to give. */
int demand_fail(struct service_call *call, const struct probe *probe);

#endif
