#include "times.h"

/* 9999-12-31T23:59:59Z, the end of what a Timestamp may hold. */
#define LAST_SECOND INT64_C(253402300799)

int time_from_wire(struct service_call *call, const char *field,
		   const Google__Protobuf__Timestamp *from, int64_t absent, int64_t *out)
{
	*out = absent;
	if (!from)
		return 0;
	if (from->seconds < 0 || from->seconds > LAST_SECOND || from->nanos < 0 ||
	    from->nanos > 999999999)
		return call_failf(call, BM_EINVAL, field, "%s is not a time from 1970 to 9999",
				  field);
	*out = from->seconds * 1000 + from->nanos / 1000000;
	return 0;
}

Google__Protobuf__Timestamp *time_to_wire(struct service_call *call, int64_t ms)
{
	Google__Protobuf__Timestamp *out =
		call_message(call, &google__protobuf__timestamp__descriptor);

	if (out) {
		out->seconds = ms / 1000;
		out->nanos = (int32_t)(ms % 1000) * 1000000;
	}
	return out;
}
