#include "telemetry.h"

#include "biomatch/clock.h"
#include "biomatch/metrics.h"

/* "Verify" of "/biomatch.v1.MatchingService/Verify". */
static const char *method_of(const struct service_call *call)
{
	return strrchr(call->rpc->path, '/') + 1;
}

/* Site and class in a certificate: as many as the operator's CA has made. */
static void parse_peer(const char *uri, struct policy_endpoint *out)
{
	if (policy_endpoint_parse(uri, out)) {
		strcpy(out->site, "unknown");
		strcpy(out->class, "unknown");
	}
}

/*
 * The name of an enum field's value without the prefix that repeats the type,
 * "MATCH" of DECISION_MATCH; NULL where the response has no such field.
 */
static const char *enum_field(const ProtobufCMessage *response, const char *name,
			      const char *prefix)
{
	const ProtobufCFieldDescriptor *field =
		protobuf_c_message_descriptor_get_field_by_name(response->descriptor, name);
	const ProtobufCEnumValue *value;
	size_t len = strlen(prefix);
	int number;

	if (!field || field->type != PROTOBUF_C_TYPE_ENUM ||
	    field->label == PROTOBUF_C_LABEL_REPEATED)
		return NULL;
	memcpy(&number, (const char *)response + field->offset, sizeof(number));
	value = protobuf_c_enum_descriptor_get_value(field->descriptor, number);
	if (!value)
		return NULL;
	return strncmp(value->name, prefix, len) ? value->name : value->name + len;
}

void telemetry_response(struct service_call *call, const ProtobufCMessage *response)
{
	struct metrics *metrics = call->service->options.metrics;
	const char *method = method_of(call), *band = enum_field(response, "band", "SCORE_BAND_");
	const char *decision = enum_field(response, "decision", "DECISION_");
	const char *reason = enum_field(response, "reason", "REASON_");
	static const char unset[] = "UNSPECIFIED";
	struct policy_endpoint endpoint;

	if (!decision)
		decision = enum_field(response, "outcome", "ENROL_OUTCOME_");
	if (decision) {
		if (!reason || !strcmp(reason, unset))
			reason = "NONE";
		parse_peer(call->uri, &endpoint);
		metrics_add(metrics, METRICS_DECISIONS,
			    (const char *[]){method, decision, reason, endpoint.class}, 1);
	}
	if (band && strcmp(band, unset))
		metrics_add(metrics, METRICS_SCORE_BANDS, (const char *[]){method, band}, 1);
}

static void count_stages(struct service_call *call, struct metrics *metrics)
{
	const struct call_times *times = &call->times;
	const struct {
		const char *name;
		int64_t ns;
	} stages[] = {
		{"queue", times->queue_ns},
		{"decode", times->decode_us * CLOCK_NS_PER_US},
		{"detect", times->detect_us * CLOCK_NS_PER_US},
		{"align", times->align_us * CLOCK_NS_PER_US},
		{"embed", times->embed_us * CLOCK_NS_PER_US},
		{"quality", times->quality_us * CLOCK_NS_PER_US},
		{"liveness", times->liveness_us * CLOCK_NS_PER_US},
		{"scan", times->match_ns},
		{"commit", times->commit_ns},
	};

	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		if (stages[i].ns)
			metrics_observe(metrics, METRICS_STAGE_TIME, &stages[i].name, stages[i].ns);
	}
}

void telemetry_end(struct service_call *call, enum grpc_status status, int error)
{
	struct metrics *metrics = call->service->options.metrics;
	const char *method = method_of(call), *reason = bm_error_reason(error);
	const char *name = grpc_status_name(status);
	struct policy_endpoint endpoint;

	parse_peer(call->uri, &endpoint);
	metrics_add(metrics, METRICS_RPCS, (const char *[]){method, name, endpoint.class}, 1);
	metrics_add(metrics, METRICS_ESTATE_CALLS,
		    (const char *[]){endpoint.site, endpoint.class, name}, 1);
	metrics_note_time(metrics, METRICS_ESTATE_LAST_CALL,
			  (const char *[]){endpoint.site, endpoint.class});
	if (error)
		metrics_add(metrics, METRICS_ERRORS, &reason, 1);
	/* A stream lasts as long as its client likes. */
	if (!call->rpc->message)
		metrics_observe(metrics, METRICS_RPC_TIME, &method,
				clock_monotonic_ns() - call->opened_ns);
	count_stages(call, metrics);
}
