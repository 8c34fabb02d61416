/* The transactions of each class of endpoint. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/clock.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "fleet.h"
#include "grpc/health/v1/health.pb-c.h"

#define TIMEOUT_MS 30000
#define RETRY_NS   (250 * CLOCK_NS_PER_MS)

static const struct class classes[] = {
	{"echannel-departure", "departure", "arrivals", {VERIFY}, 1},
	{"vehicle-echannel", "vehicle-clearance", "drivers", {VERIFY}, 1},
	{"arrival-counter", "arrival", "arrivals", {COMPARE, ENROL}, 2},
	{"registration-kiosk", "visitor-registration", "visitors", {COMPARE, IDENTIFY, ENROL}, 3},
	{"id-registration-counter",
	 "id-application",
	 "residents",
	 {VERIFY, VERIFY, VERIFY, ENROL},
	 4},
	{"id-collection-kiosk", "id-collection", "residents", {VERIFY}, 1},
	{"passport-application-kiosk", "passport-photo", NULL, {COMPARE}, 1},
	{"bench", "search", "bench", {SEARCH}, 1},
};

const struct class *class_of(const char *name)
{
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (!strcmp(classes[i].name, name))
			return &classes[i];
	}
	fprintf(stderr, "fleet: no transactions are known of class %s\n", name);
	exit(1);
}

static const Biomatch__V1__StageTimes *times_of(enum kind kind, const ProtobufCMessage *reply)
{
	switch (kind) {
	case VERIFY:
	case VERIFY_IMAGE:
		return ((const Biomatch__V1__VerifyResponse *)reply)->times;
	case COMPARE:
		return ((const Biomatch__V1__CompareResponse *)reply)->times;
	case IDENTIFY:
	case SEARCH:
		return ((const Biomatch__V1__IdentifyResponse *)reply)->times;
	case ENROL:
		return ((const Biomatch__V1__EnrolResponse *)reply)->times;
	default:
		return NULL;
	}
}

static void send(struct endpoint *e, struct biomatch_client *client, enum kind kind,
		 const char *path, const ProtobufCMessage *request,
		 const ProtobufCMessageDescriptor *type, struct arena *arena)
{
	static atomic_uint told;
	int64_t began = clock_monotonic_ns();
	struct biomatch_status status;
	ProtobufCMessage *reply;
	int error = biomatch_client_call(client, path, request, type, TIMEOUT_MS, arena, &reply,
					 &status);
	bool ok = !error && status.code == GRPC_OK;

	tally_note(e, kind, began, error ? 255 : (int)status.code,
		   ok ? times_of(kind, reply) : NULL);
	if (!ok && atomic_fetch_add(&told, 1) < 3)
		fprintf(stderr, "fleet: %s: %s\n", tally_kind(kind),
			error ? biomatch_client_error(client) : status.message);
}

static void set_probe(struct fleet *fleet, Biomatch__V1__Probe *probe, size_t person)
{
	biomatch__v1__probe__init(probe);
	probe->kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	probe->template_ = &fleet->people[person];
}

static void verify(struct endpoint *e, struct biomatch_client *client, enum kind kind,
		   struct arena *arena)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	size_t person = e->calls % FLEET_PEOPLE;
	Biomatch__V1__Probe probe;
	Biomatch__V1__Image image = BIOMATCH__V1__IMAGE__INIT;
	char subject[32];

	set_probe(e->fleet, &probe, person);
	if (kind == VERIFY_IMAGE) {
		image.data = (ProtobufCBinaryData){e->fleet->image_len, e->fleet->image};
		probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
		probe.image = &image;
	}
	snprintf(subject, sizeof(subject), "s%zu", person);
	request.purpose = (char *)(uintptr_t)e->class->purpose;
	request.gallery = (char *)(uintptr_t)e->class->gallery;
	request.subject_id = subject;
	request.probe = &probe;
	send(e, client, kind, "/biomatch.v1.MatchingService/Verify", &request.base,
	     &biomatch__v1__verify_response__descriptor, arena);
}

static void compare(struct endpoint *e, struct biomatch_client *client, struct arena *arena)
{
	Biomatch__V1__CompareRequest request = BIOMATCH__V1__COMPARE_REQUEST__INIT;
	Biomatch__V1__Probe probe, reference;

	set_probe(e->fleet, &probe, e->calls % FLEET_PEOPLE);
	set_probe(e->fleet, &reference, e->calls * 7 % FLEET_PEOPLE);
	request.purpose = (char *)(uintptr_t)e->class->purpose;
	request.probe = &probe;
	request.reference = &reference;
	send(e, client, COMPARE, "/biomatch.v1.MatchingService/Compare", &request.base,
	     &biomatch__v1__compare_response__descriptor, arena);
}

static void identify(struct endpoint *e, struct biomatch_client *client, enum kind kind,
		     struct arena *arena)
{
	Biomatch__V1__IdentifyRequest request = BIOMATCH__V1__IDENTIFY_REQUEST__INIT;
	char *gallery = (char *)(uintptr_t)e->class->gallery;
	Biomatch__V1__Probe probe;

	set_probe(e->fleet, &probe, e->calls % FLEET_PEOPLE);
	request.purpose = (char *)(uintptr_t)e->class->purpose;
	request.galleries = &gallery;
	request.n_galleries = 1;
	request.max_candidates = 5;
	request.probe = &probe;
	send(e, client, kind, "/biomatch.v1.MatchingService/Identify", &request.base,
	     &biomatch__v1__identify_response__descriptor, arena);
}

static void enrol(struct endpoint *e, struct biomatch_client *client, struct arena *arena)
{
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	Biomatch__V1__Probe reference;
	char id[96];

	set_probe(e->fleet, &reference, e->calls % FLEET_PEOPLE);
	snprintf(id, sizeof(id), "%s-%zu-%llu", e->fleet->run, e->number,
		 (unsigned long long)e->calls);
	request.purpose = (char *)(uintptr_t)e->class->purpose;
	request.gallery = (char *)(uintptr_t)e->class->gallery;
	request.subject_id = id;
	request.request_id = id;
	request.reference = &reference;
	send(e, client, ENROL, "/biomatch.v1.EnrolmentService/Enrol", &request.base,
	     &biomatch__v1__enrol_response__descriptor, arena);
}

static void check(struct endpoint *e, struct biomatch_client *client, struct arena *arena)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	send(e, client, CHECK, "/grpc.health.v1.Health/Check", &request.base,
	     &grpc__health__v1__health_check_response__descriptor, arena);
}

void transact(struct endpoint *e, struct biomatch_client *client, enum kind kind)
{
	struct arena arena;

	arena_init(&arena, 4 << 20);
	e->calls++;
	switch (kind) {
	case VERIFY:
	case VERIFY_IMAGE:
		verify(e, client, kind, &arena);
		break;
	case COMPARE:
		compare(e, client, &arena);
		break;
	case IDENTIFY:
	case SEARCH:
		identify(e, client, kind, &arena);
		break;
	case ENROL:
		enrol(e, client, &arena);
		break;
	default:
		check(e, client, &arena);
	}
	arena_deinit(&arena);
}

static bool answered(struct biomatch_client *client)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct biomatch_status status;
	ProtobufCMessage *reply;
	struct arena arena;
	bool ok;

	arena_init(&arena, 1 << 20);
	ok = !biomatch_client_call(client, "/grpc.health.v1.Health/Check", &request.base,
				   &grpc__health__v1__health_check_response__descriptor, TIMEOUT_MS,
				   &arena, &reply, &status) &&
	     status.code == GRPC_OK;
	arena_deinit(&arena);
	return ok;
}

void transact_until_answered(struct endpoint *e, struct biomatch_client *client)
{
	const struct timespec pause = {0, RETRY_NS};

	while (!answered(client))
		nanosleep(&pause, NULL);
	tally_note(e, CHECK, e->fleet->phases[e->fleet->phase].from_ns, GRPC_OK, NULL);
}
