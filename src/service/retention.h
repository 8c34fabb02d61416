/*
 * Retention: encounters whose time is over are erased by the daemon itself.
 */
#ifndef SERVICE_RETENTION_H
#define SERVICE_RETENTION_H

#include "call.h"

/* Has what has expired erased, where there is any; on the thread of service_tick alone. */
void retention_tick(struct service *service);
/* Waits for the batch under way; there must be no tick any more. */
void retention_wait(struct service *service);

#endif
