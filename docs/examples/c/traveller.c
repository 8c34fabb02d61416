/*
 * An endpoint of biomatchd: enrols a traveller, then verifies captures until there is a decision.
 *
 *     traveller TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...
 *
 * TARGETS    addresses separated by commas, the leader's first
 * CA         the CAs that sign the service's certificates, PEM
 * ENDPOINT   ENDPOINT.pem and ENDPOINT.key are this endpoint's certificate and its key
 * REFERENCE  the picture to enrol
 * CAPTURE    what the camera gives: the next one is taken where the service asks for another
 *
 * Exits with 0 for a match, 2 for none, 3 where an officer decides. Every other status means that
 * nothing was decided.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "biomatch/client.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "biomatch/v1/matching_service.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"

#define ONE_TRY_MS   5000  /* until a try is given up */
#define ALL_TRIES_MS 15000 /* until the call is */
#define HEALTH_MS    1000
#define PAUSE_MAX_MS 5000
#define ADDRESSES    8
#define ID_SIZE      33
#define REPLY_MAX    (4u << 20)

enum exit_status { MATCH = 0, NO_MATCH = 2, OFFICER = 3, NOTHING_DECIDED = 4, USAGE = 64 };

struct service {
	struct biomatch_client *clients[ADDRESSES];
	size_t n;
	struct arena arena; /* of the last answer */
};

/* A method, and the address that its gRPC service was last found at. */
struct method {
	const char *service, *path;
	const ProtobufCMessageDescriptor *reply;
	struct biomatch_client *chosen;
};

static struct method enrol_method = {"biomatch.v1.EnrolmentService",
				     "/biomatch.v1.EnrolmentService/Enrol",
				     &biomatch__v1__enrol_response__descriptor, NULL};
static struct method verify_method = {"biomatch.v1.MatchingService",
				      "/biomatch.v1.MatchingService/Verify",
				      &biomatch__v1__verify_response__descriptor, NULL};

/* What the person before the camera can mend; NULL for every other reason: for an officer. */
static const char *retake(Biomatch__V1__Reason reason)
{
	switch (reason) {
	case BIOMATCH__V1__REASON__REASON_NO_FACE:
		return "look into the camera";
	case BIOMATCH__V1__REASON__REASON_SEVERAL_FACES:
	case BIOMATCH__V1__REASON__REASON_FRAMES_DIFFER:
		return "one person at a time";
	case BIOMATCH__V1__REASON__REASON_FACE_TOO_SMALL:
		return "come closer";
	case BIOMATCH__V1__REASON__REASON_FACE_INCOMPLETE:
		return "stand in the middle";
	case BIOMATCH__V1__REASON__REASON_LOW_QUALITY:
		return "hold still, face the camera, mind the light";
	default:
		return NULL;
	}
}

/* The name of a reason; UNKNOWN for one that is newer than this program. */
static const char *reason_name(Biomatch__V1__Reason reason)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
		&biomatch__v1__reason__descriptor, (int)reason);

	return value ? value->name + strlen("REASON_") : "UNKNOWN";
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool read_file(const char *path, ProtobufCBinaryData *out)
{
	FILE *file = fopen(path, "rb");
	long len = -1;

	out->data = NULL;
	if (!file)
		return false;
	if (!fseek(file, 0, SEEK_END) && (len = ftell(file)) > 0 && !fseek(file, 0, SEEK_SET))
		out->data = malloc((size_t)len);
	if (out->data && fread(out->data, 1, (size_t)len, file) != (size_t)len) {
		free(out->data);
		out->data = NULL;
	}
	out->len = (size_t)len;
	fclose(file);
	return out->data;
}

/* 128 random bits in hexadecimal. */
static bool new_id(char out[ID_SIZE])
{
	unsigned char random[16];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return false;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(out + 2 * i, 3, "%02x", random[i]);
	return true;
}

/* One client for each address, none connected yet. */
static bool open_clients(struct service *service, char *targets, const char *ca,
			 const char *endpoint)
{
	char message[BIOMATCH_MESSAGE_MAX], certificate[4096], key[4096], *rest = NULL;
	struct biomatch_options options = {
		.ca = ca, .certificate = certificate, .private_key = key, .connect_ms = HEALTH_MS};

	snprintf(certificate, sizeof(certificate), "%s.pem", endpoint);
	snprintf(key, sizeof(key), "%s.key", endpoint);
	for (options.target = strtok_r(targets, ",", &rest);
	     options.target && service->n < ADDRESSES;
	     options.target = strtok_r(NULL, ",", &rest)) {
		if (biomatch_client_open(&options, &service->clients[service->n], message)) {
			fprintf(stderr, "fault %s\n", message);
			return false;
		}
		service->n++;
	}
	return service->n > 0;
}

/* The first address whose health says that it serves: for enrolments, that is the leader. */
static struct biomatch_client *serving(struct service *service, const struct method *method)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	request.service = (char *)method->service;
	for (size_t i = 0; i < service->n; i++) {
		struct biomatch_status status;
		ProtobufCMessage *reply = NULL;

		arena_reset(&service->arena);
		if (!biomatch_client_call(service->clients[i], "/grpc.health.v1.Health/Check",
					  &request.base,
					  &grpc__health__v1__health_check_response__descriptor,
					  HEALTH_MS, &service->arena, &reply, &status) &&
		    reply &&
		    ((Grpc__Health__V1__HealthCheckResponse *)reply)->status ==
			    GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
			return service->clients[i];
	}
	return service->clients[0]; /* whose own error then says what is wrong */
}

/* Whether the same request may be answered a moment later, or at another address. */
static bool is_passing(const struct biomatch_status *status)
{
	if (status->code == GRPC_RESOURCE_EXHAUSTED)
		return !*status->reason || !strcmp(status->reason, "OVERLOADED") ||
		       !strcmp(status->reason, "OUT_OF_MEMORY");
	return status->code == GRPC_UNAVAILABLE || status->code == GRPC_DEADLINE_EXCEEDED ||
	       !strcmp(status->reason, "FOLLOWS_ANOTHER");
}

static ProtobufCMessage *once(struct service *service, struct method *method,
			      const ProtobufCMessage *request, uint32_t timeout_ms,
			      struct biomatch_status *status)
{
	ProtobufCMessage *reply = NULL;
	int error;

	if (!method->chosen)
		method->chosen = serving(service, method);
	arena_reset(&service->arena);
	error = biomatch_client_call(method->chosen, method->path, request, method->reply,
				     timeout_ms, &service->arena, &reply, status);
	if (error)
		*status = (struct biomatch_status){.code = bm_error_grpc(error),
						   .message = biomatch_client_error(method->chosen),
						   .reason = "",
						   .field = ""};
	if (!reply)
		method->chosen = NULL;
	return reply;
}

/*
 * Calls until there is an answer; NULL where there is none, and status says why. The request has to
 * bear repetition: a write its request_id.
 */
static ProtobufCMessage *call(struct service *service, struct method *method,
			      const ProtobufCMessage *request, struct biomatch_status *status)
{
	const int64_t end = now_ms() + ALL_TRIES_MS;

	for (int64_t pause = 200;;) {
		const int64_t left = end - now_ms();
		ProtobufCMessage *reply = once(service, method, request,
					       (uint32_t)(left < 1            ? 1
							  : left < ONE_TRY_MS ? left
									      : ONE_TRY_MS),
					       status);
		int64_t wait;

		if (reply || !is_passing(status))
			return reply;
		pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
		if (status->retry_ms > pause)
			pause = status->retry_ms;
		wait = pause +
		       random() % (pause / 2); /* or a hall full of kiosks comes back as one */
		if (now_ms() + wait > end)
			return NULL;
		nanosleep(&(struct timespec){wait / 1000, wait % 1000 * 1000000}, NULL);
	}
}

static int fault(const struct biomatch_status *status)
{
	fprintf(stderr, "fault %s %s %s %s\n", grpc_status_name((int)status->code),
		*status->reason ? status->reason : "-", *status->field ? status->field : "-",
		status->message);
	return NOTHING_DECIDED;
}

/* The proof that the answer is in the audit log, as `biomatch audit prove` takes it. Keep it. */
static bool print_receipt(const Biomatch__V1__Receipt *receipt)
{
	if (!receipt || !receipt->sequence || receipt->hash.len != 32) {
		fputs("fault: an answer without a receipt\n", stderr);
		return false;
	}
	printf(" %" PRIu64 ":", receipt->sequence);
	for (size_t i = 0; i < receipt->hash.len; i++)
		printf("%02x", receipt->hash.data[i]);
	putchar('\n');
	return true;
}

static int print_enrolled(const Biomatch__V1__EnrolResponse *answer)
{
	const ProtobufCEnumValue *outcome = protobuf_c_enum_descriptor_get_value(
		&biomatch__v1__enrol_outcome__descriptor, (int)answer->outcome);

	printf("enrolled %s", outcome ? outcome->name + strlen("ENROL_OUTCOME_") : "UNKNOWN");
	if (answer->reason)
		printf(" %s", reason_name(answer->reason));
	return print_receipt(answer->receipt) ? 0 : NOTHING_DECIDED;
}

static int enrol(struct service *service, char *const who[3], const char *path)
{
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	Biomatch__V1__Encounter encounter = BIOMATCH__V1__ENCOUNTER__INIT;
	Biomatch__V1__Probe probe = BIOMATCH__V1__PROBE__INIT;
	Biomatch__V1__Image image = BIOMATCH__V1__IMAGE__INIT;
	const ProtobufCMessage *reply;
	struct biomatch_status status;
	char id[ID_SIZE];

	/*
	 * Made before the first try and kept through all of them: a repeat returns the first
	 * answer. A standby that took the lead in between does not know it, but finds the encounter
	 * of this name there.
	 */
	if (!new_id(id) || !read_file(path, &image.data)) {
		fprintf(stderr, "fault: cannot read %s\n", path);
		return NOTHING_DECIDED;
	}
	probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	probe.image = &image;
	encounter.encounter_id = id;
	request.request_id = id;
	request.purpose = who[0];
	request.gallery = who[1];
	request.subject_id = who[2];
	request.encounter = &encounter;
	request.reference = &probe;
	reply = call(service, &enrol_method, &request.base, &status);
	free(image.data.data);
	if (reply)
		return print_enrolled((const Biomatch__V1__EnrolResponse *)reply);
	if (strcmp(status.reason, "ALREADY_EXISTS"))
		return fault(&status);
	puts("enrolled before");
	return 0;
}

static const Biomatch__V1__VerifyResponse *ask(struct service *service, char *const who[3],
					       const char *path, struct biomatch_status *status)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	Biomatch__V1__Probe probe = BIOMATCH__V1__PROBE__INIT;
	Biomatch__V1__Image image = BIOMATCH__V1__IMAGE__INIT;
	const ProtobufCMessage *reply;

	if (!read_file(path, &image.data)) {
		*status = (struct biomatch_status){GRPC_UNKNOWN, "cannot read the capture", "", "",
						   0};
		return NULL;
	}
	probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	probe.image = &image;
	request.purpose = who[0];
	request.gallery = who[1];
	request.subject_id = who[2];
	request.probe = &probe;
	reply = call(service, &verify_method, &request.base, status);
	free(image.data.data);
	return (const Biomatch__V1__VerifyResponse *)reply;
}

/* The exit status of the first decision that is not a request for another picture. */
static int verify(struct service *service, char *const who[3], char *const captures[])
{
	for (; *captures; captures++) {
		struct biomatch_status status;
		const Biomatch__V1__VerifyResponse *answer = ask(service, who, *captures, &status);
		const char *hint;

		if (!answer)
			return fault(&status);
		switch (answer->decision) {
		case BIOMATCH__V1__DECISION__DECISION_MATCH:
			fputs("verified MATCH", stdout);
			return print_receipt(answer->receipt) ? MATCH : NOTHING_DECIDED;
		case BIOMATCH__V1__DECISION__DECISION_NO_MATCH:
			fputs("verified NO_MATCH", stdout);
			return print_receipt(answer->receipt) ? NO_MATCH : NOTHING_DECIDED;
		case BIOMATCH__V1__DECISION__DECISION_REFER:
			printf("verified REFER %s", reason_name(answer->reason));
			break;
		default:
			return NOTHING_DECIDED;
		}
		if (!print_receipt(answer->receipt))
			return NOTHING_DECIDED;
		hint = retake(answer->reason);
		if (!hint)
			break;
		puts(hint);
	}
	puts("an officer decides");
	return OFFICER;
}

int main(int argc, char **argv)
{
	struct service service = {.n = 0};
	int result = NOTHING_DECIDED;

	if (argc < 9) {
		fputs("traveller TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE "
		      "CAPTURE...\n",
		      stderr);
		return USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	srandom((unsigned)now_ms());
	arena_init(&service.arena, REPLY_MAX);
	if (open_clients(&service, argv[1], argv[2], argv[3]))
		result = enrol(&service, argv + 4, argv[7]);
	if (!result)
		result = verify(&service, argv + 4, argv + 8);
	arena_deinit(&service.arena);
	while (service.n)
		biomatch_client_close(service.clients[--service.n]);
	return result;
}
