/* Retention through the service: what a purpose may not keep any longer is erased by the tick. */
#include "loopback.h"

#include "biomatch/audit.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "biomatch/v1/matching_service.pb-c.h"

#define ENROLMENT "/biomatch.v1.EnrolmentService/"
#define MATCHING  "/biomatch.v1.MatchingService/"
#define HOUR      (INT64_C(3600) * 1000)

static int setup(void **state)
{
	Biomatch__V1__CreateGalleryRequest create = BIOMATCH__V1__CREATE_GALLERY_REQUEST__INIT;
	struct loopback *l;
	struct exchange x;

	if (loopback_setup(state))
		return -1;
	l = *state;
	create.purpose = (char *)"office";
	create.request_id = create.name = (char *)"people";
	exchange_call(l, &x, "/biomatch.v1.AdminService/CreateGallery", LOOPBACK_ADMIN,
		      &create.base, &biomatch__v1__create_gallery_response__descriptor);
	assert_int_equal(x.status, GRPC_OK);
	exchange_close(&x);
	return 0;
}

static int teardown(void **state)
{
	clock_shift_wall(0);
	return loopback_teardown(state);
}

struct picture {
	Biomatch__V1__Probe probe;
	Biomatch__V1__Image image;
	uint8_t *data;
};

static void picture_read(struct picture *p)
{
	size_t len;

	biomatch__v1__probe__init(&p->probe);
	biomatch__v1__image__init(&p->image);
	assert_int_equal(file_read("build/samples/people/ada/01.jpg", 1 << 20, &p->data, &len), 0);
	p->image.data = (ProtobufCBinaryData){len, p->data};
	p->probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	p->probe.image = &p->image;
}

/* Keeps the picture under a purpose; the time it expires at, 0 for never. */
static int64_t enrol(struct loopback *l, const char *purpose, const char *subject,
		     int64_t captured_s, int64_t expires_s)
{
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	Biomatch__V1__GetSubjectRequest get = BIOMATCH__V1__GET_SUBJECT_REQUEST__INIT;
	Google__Protobuf__Timestamp captured = GOOGLE__PROTOBUF__TIMESTAMP__INIT,
				    expires = captured;
	Biomatch__V1__Encounter encounter = BIOMATCH__V1__ENCOUNTER__INIT;
	Biomatch__V1__GetSubjectResponse *got;
	int64_t at;
	struct picture picture;
	struct exchange x;

	picture_read(&picture);
	captured.seconds = captured_s;
	expires.seconds = expires_s;
	encounter.captured_at = captured_s ? &captured : NULL;
	encounter.expires_at = expires_s ? &expires : NULL;
	request.purpose = (char *)(uintptr_t)purpose;
	request.request_id = request.subject_id = (char *)(uintptr_t)subject;
	request.gallery = (char *)"people";
	request.encounter = &encounter;
	request.reference = &picture.probe;
	exchange_call(l, &x, ENROLMENT "Enrol", LOOPBACK_LANE, &request.base,
		      &biomatch__v1__enrol_response__descriptor);
	assert_string_equal(x.text, "");
	exchange_close(&x);
	free(picture.data);
	get.purpose = (char *)"gate";
	get.gallery = (char *)"people";
	get.subject_id = request.subject_id;
	got = exchange_call(l, &x, ENROLMENT "GetSubject", LOOPBACK_LANE, &get.base,
			    &biomatch__v1__get_subject_response__descriptor);
	assert_non_null(got);
	at = got->encounters[0]->expires_at ? got->encounters[0]->expires_at->seconds : 0;
	exchange_close(&x);
	return at;
}

static Biomatch__V1__Reason verify(struct loopback *l, const char *subject)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	Biomatch__V1__VerifyResponse *response;
	Biomatch__V1__Reason reason;
	struct picture picture;
	struct exchange x;

	picture_read(&picture);
	request.purpose = (char *)"gate";
	request.gallery = (char *)"people";
	request.subject_id = (char *)(uintptr_t)subject;
	request.probe = &picture.probe;
	response = exchange_call(l, &x, MATCHING "Verify", LOOPBACK_LANE, &request.base,
				 &biomatch__v1__verify_response__descriptor);
	assert_non_null(response);
	reason = response->reason;
	exchange_close(&x);
	free(picture.data);
	return reason;
}

static struct gallery_info facts(struct loopback *l)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;

	assert_int_equal(gallery_snapshot_open(l->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "people", &info), 0);
	gallery_snapshot_close(snapshot);
	return info;
}

/* Entries of retention in the audit log, and those that name the encounter they erased. */
static unsigned count_entries(struct loopback *l)
{
	struct audit_chain chain = {.next = 1};
	const Biomatch__V1__AuditEntry *entry;
	struct arena arena;
	struct bytes packed;
	struct db_txn txn;
	unsigned n = 0;

	arena_init(&arena, 1 << 20);
	assert_int_equal(db_begin_read(l->db, &txn), 0);
	for (uint64_t at = 1; audit_get(&txn, at, &packed); at++) {
		assert_int_equal(audit_chain_take(&chain, packed, &arena, &entry), 0);
		if (strcmp(entry->operation, "retention") != 0)
			continue;
		n++;
		assert_string_equal(entry->outcome, "DONE");
		assert_string_equal(entry->reasons[0], "REFERENCE_EXPIRED");
		assert_string_equal(entry->galleries[0], "people");
		assert_int_equal(entry->subject.len, KEYS_PSEUDONYM_LEN);
		assert_int_equal(entry->encounter.len, KEYS_PSEUDONYM_LEN);
		assert_int_equal(entry->erased, 1);
	}
	db_abort(&txn);
	arena_deinit(&arena);
	return n;
}

/* Batches follow each other behind whatever is written meanwhile, so each call sees one more done.
 */
static void tick_until(struct loopback *l, uint64_t encounters)
{
	service_tick(l->service);
	while (facts(l).encounters > encounters)
		verify(l, "nobody");
}

static void test_erased_in_time(void **state)
{
	struct loopback *l = *state;
	int64_t now = clock_wall_ms() / 1000;
	char name[32];

	assert_int_equal(enrol(l, "gate", "kept", 0, 0), 0);
	assert_int_equal(enrol(l, "gate", "asked", 0, now + 7200), now + 7200);
	for (int i = 0; i < 19; i++) {
		snprintf(name, sizeof(name), "visitor-%d", i);
		assert_in_range(enrol(l, "visit", name, 0, 0), now + 3600, now + 3700);
	}
	service_tick(l->service);
	assert_int_equal(verify(l, "visitor-0"), 0);
	clock_shift_wall(HOUR + 200000);
	assert_int_equal(verify(l, "visitor-0"), BIOMATCH__V1__REASON__REASON_REFERENCE_EXPIRED);
	tick_until(l, 2);
	assert_int_equal(facts(l).encounters, 2);
	assert_int_equal(facts(l).subjects, 2);
	assert_int_equal(count_entries(l), 19);
	assert_int_equal(verify(l, "visitor-0"), BIOMATCH__V1__REASON__REASON_REFERENCE_EXPIRED);
	assert_int_equal(verify(l, "nobody"), BIOMATCH__V1__REASON__REASON_NO_REFERENCE);
	clock_shift_wall(2 * HOUR + 200000);
	tick_until(l, 1);
	assert_int_equal(verify(l, "asked"), BIOMATCH__V1__REASON__REASON_REFERENCE_EXPIRED);
	assert_int_equal(verify(l, "kept"), 0);
	/* With the mark goes the last that was known of them. */
	clock_shift_wall(3 * HOUR + GALLERY_MARK_MS);
	service_tick(l->service);
	assert_int_equal(verify(l, "nobody"), BIOMATCH__V1__REASON__REASON_NO_REFERENCE);
	assert_int_equal(verify(l, "visitor-0"), BIOMATCH__V1__REASON__REASON_NO_REFERENCE);
	assert_int_equal(count_entries(l), 20);
}

/* A purpose may ask for less than it may keep, not for more, counted from the capture. */
static void test_no_longer_than_allowed(void **state)
{
	struct loopback *l = *state;
	int64_t now = clock_wall_ms() / 1000;

	assert_int_equal(enrol(l, "visit", "sooner", 0, now + 600), now + 600);
	assert_in_range(enrol(l, "visit", "later", 0, now + 864000), now + 3600, now + 3700);
	assert_int_equal(enrol(l, "visit", "taken before", now - 1800, 0), now + 1800);
	assert_in_range(enrol(l, "visit", "of tomorrow", now + 86400, 0), now + 3600, now + 3700);
}

static void test_not_what_is_over_already(void **state)
{
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	Biomatch__V1__Encounter encounter = BIOMATCH__V1__ENCOUNTER__INIT;
	Google__Protobuf__Timestamp captured = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	struct loopback *l = *state;
	struct picture picture;
	struct exchange x;

	picture_read(&picture);
	captured.seconds = clock_wall_ms() / 1000 - 3601;
	encounter.captured_at = &captured;
	request.purpose = (char *)"visit";
	request.request_id = request.subject_id = (char *)"old";
	request.gallery = (char *)"people";
	request.encounter = &encounter;
	request.reference = &picture.probe;
	exchange_call(l, &x, ENROLMENT "Enrol", LOOPBACK_LANE, &request.base,
		      &biomatch__v1__enrol_response__descriptor);
	assert_string_equal(x.reason, "INVALID_ARGUMENT");
	assert_string_equal(x.field, "encounter.expires_at");
	exchange_close(&x);
	free(picture.data);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_erased_in_time),
		TEST(test_no_longer_than_allowed),
		TEST(test_not_what_is_over_already),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
