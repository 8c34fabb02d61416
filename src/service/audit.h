/*
 * The audit log's own RPCs are in the table; this is what the clock does.
 */
#ifndef SERVICE_AUDIT_H
#define SERVICE_AUDIT_H

#include "call.h"

/* Has a checkpoint made when one is due; on the thread of service_tick alone. */
void audit_tick(struct service *service);

#endif
