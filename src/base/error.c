#include "biomatch/error.h"

static const struct {
	const char *reason;
	const char *text;
	enum grpc_status grpc;
} errors[] = {{"OK", "", GRPC_OK},
#define ERROR_ROW(symbol, reason, grpc, text) {reason, text, GRPC_##grpc},
	      BM_ERRORS(ERROR_ROW)
#undef ERROR_ROW
};

#define ERRORS ((int)(sizeof(errors) / sizeof(errors[0])))

static int error_index(int code)
{
	return code <= 0 && -code < ERRORS ? -code : -BM_EINTERNAL;
}

const char *bm_error_reason(int code)
{
	return errors[error_index(code)].reason;
}

const char *bm_error_text(int code)
{
	return errors[error_index(code)].text;
}

enum grpc_status bm_error_grpc(int code)
{
	return errors[error_index(code)].grpc;
}

const char *grpc_status_name(int status)
{
	static const char *const names[] = {
		"OK",
		"CANCELLED",
		"UNKNOWN",
		"INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED",
		"NOT_FOUND",
		"ALREADY_EXISTS",
		"PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION",
		"ABORTED",
		"OUT_OF_RANGE",
		"UNIMPLEMENTED",
		"INTERNAL",
		"UNAVAILABLE",
		"DATA_LOSS",
		"UNAUTHENTICATED",
	};

	if (status < 0 || status >= (int)(sizeof(names) / sizeof(names[0])))
		return "UNKNOWN";
	return names[status];
}
