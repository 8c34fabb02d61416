/*
 * Times on the wire: google.protobuf.Timestamp and milliseconds.
 */
#ifndef SERVICE_TIMES_H
#define SERVICE_TIMES_H

#include <google/protobuf/timestamp.pb-c.h>

#include "call.h"

/* Milliseconds since 1970; absent where the field is unset. BM_EINVAL out of range. */
int time_from_wire(struct service_call *call, const char *field,
		   const Google__Protobuf__Timestamp *from, int64_t absent, int64_t *out);
/* NULL when memory is out. */
Google__Protobuf__Timestamp *time_to_wire(struct service_call *call, int64_t ms);

#endif
