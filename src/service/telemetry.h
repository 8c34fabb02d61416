/*
 * What is counted of every call when it ends.
 */
#ifndef SERVICE_TELEMETRY_H
#define SERVICE_TELEMETRY_H

#include "call.h"

/*
 * Counts the decision, its reason and its band, whichever of them the response
 * has: fields of these names mean the same in every message.
 */
void telemetry_response(struct service_call *call, const ProtobufCMessage *response);
/* Counts the call and its times; error is 0 or why it failed. */
void telemetry_end(struct service_call *call, enum grpc_status status, int error);

#endif
