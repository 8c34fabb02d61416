/*
 * Probes of several frames: each is looked at like a probe of its own, and what
 * they have in common becomes the probe's template. docs/frames.md has the statistics.
 */
#ifndef SERVICE_FRAMES_H
#define SERVICE_FRAMES_H

#include "probe.h"

/* Checks every frame and counts them as attempts; on the transport's thread. */
int frames_prepare(struct service_call *call, const Biomatch__V1__Frames *from,
		   struct probe *probe);
/* Looks at every frame and fuses them. A finding is not an error. */
int frames_run(struct service_call *call, struct faceworker *worker, struct probe *probe);
/* Tells what became of each frame; nothing for a probe that has none. */
int frames_report(struct service_call *call, const struct probe *probe,
		  Biomatch__V1__ProbeReport *out);

#endif
