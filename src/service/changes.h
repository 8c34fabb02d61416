/*
 * The streams of changes: one thread feeds all of them, each with as much as its
 * caller takes, and wakes when something was committed or taken.
 */
#ifndef SERVICE_CHANGES_H
#define SERVICE_CHANGES_H

#include "biomatch/changes.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "call.h"

struct feeder;

int feeder_open(struct service *service, struct feeder **out) BM_MUST_CHECK;
/* Ends every stream, those that are in step at once; no new ones begin. */
void feeder_drain(struct feeder *feeder);
void feeder_close(struct feeder *feeder);
unsigned feeder_streams(struct feeder *feeder);
/* Of its thread, see pulse.h. */
uint32_t feeder_late_ms(const struct feeder *feeder);

/* What the place of an answer looks like; false when memory is out. */
bool place_to_wire(struct arena *arena, const struct changes_place *from,
		   Biomatch__V1__ChangePlace **out);

#endif
