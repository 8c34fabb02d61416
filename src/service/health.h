/*
 * The standard gRPC health service over the state of the pools and the store.
 */
#ifndef SERVICE_HEALTH_H
#define SERVICE_HEALTH_H

#include "call.h"

/* Tells every watcher whose service changed; with end, ends them all after it. */
void health_notify(struct service *service, bool end);

/* Whether some face thread has its worker, and whether the store takes writes. */
bool health_faces_work(struct service *service);
bool health_writes_work(struct service *service);

#endif
