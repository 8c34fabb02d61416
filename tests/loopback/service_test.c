#include "loopback.h"

#include "biomatch/audit.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "biomatch/v1/analysis_service.pb-c.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "biomatch/v1/matching_service.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"

#define MATCHING  "/biomatch.v1.MatchingService/"
#define ENROLMENT "/biomatch.v1.EnrolmentService/"
#define ANALYSIS  "/biomatch.v1.AnalysisService/"
#define ADMIN     "/biomatch.v1.AdminService/"
#define HEALTH    "/grpc.health.v1.Health/"

#define ADA_1 "build/samples/people/ada/01.jpg"
#define ADA_2 "build/samples/people/ada/02.jpg"
#define GROUP "build/samples/group.jpg"

/* A probe with a picture from a file, freed by picture_free. */
struct picture {
	Biomatch__V1__Image image;
	Biomatch__V1__Probe probe;
};

static void picture_open(struct picture *p, const char *path)
{
	p->image = (Biomatch__V1__Image)BIOMATCH__V1__IMAGE__INIT;
	p->probe = (Biomatch__V1__Probe)BIOMATCH__V1__PROBE__INIT;
	assert_int_equal(file_read(path, 1 << 24, &p->image.data.data, &p->image.data.len), 0);
	p->probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	p->probe.image = &p->image;
}

static void picture_free(struct picture *p)
{
	free(p->image.data.data);
}

/* Any one stranger to ada among the samples. */
static void stranger_path(char *out, size_t len)
{
	FILE *names = popen("ls -d build/samples/people/*/ | grep -v /ada/ | head -1", "r");

	assert_non_null(names);
	assert_non_null(fgets(out, (int)len - 8, names));
	out[strcspn(out, "\n")] = '\0';
	strcat(out, "01.jpg");
	pclose(names);
}

static void create_gallery(struct loopback *l, const char *name)
{
	Biomatch__V1__CreateGalleryRequest request = BIOMATCH__V1__CREATE_GALLERY_REQUEST__INIT;
	char id[64];
	struct exchange x;

	snprintf(id, sizeof(id), "create-%s", name);
	request.purpose = (char *)"office";
	request.request_id = id;
	request.name = (char *)(uintptr_t)name;
	exchange_call(l, &x, ADMIN "CreateGallery", LOOPBACK_ADMIN, &request.base,
		      &biomatch__v1__create_gallery_response__descriptor);
	assert_int_equal(x.status, GRPC_OK);
	exchange_close(&x);
}

static Biomatch__V1__EnrolRequest enrol_request(struct picture *p, const char *subject,
						const char *id)
{
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;

	request.purpose = (char *)"gate";
	request.request_id = (char *)(uintptr_t)id;
	request.gallery = (char *)"people";
	request.subject_id = (char *)(uintptr_t)subject;
	request.reference = &p->probe;
	return request;
}

static void enrol_file(struct loopback *l, const char *path, const char *subject)
{
	Biomatch__V1__EnrolResponse *reply;
	Biomatch__V1__EnrolRequest request;
	struct picture p;
	struct exchange x;

	picture_open(&p, path);
	request = enrol_request(&p, subject, subject);
	reply = exchange_call(l, &x, ENROLMENT "Enrol", LOOPBACK_LANE, &request.base,
			      &biomatch__v1__enrol_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->outcome, BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_CREATED);
	assert_int_equal(strlen(reply->encounter_id), 36);
	exchange_close(&x);
	picture_free(&p);
}

static Biomatch__V1__VerifyRequest verify_request(Biomatch__V1__Probe *probe, const char *subject)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;

	request.purpose = (char *)"gate";
	request.gallery = (char *)"people";
	request.subject_id = (char *)(uintptr_t)subject;
	request.probe = probe;
	return request;
}

static void test_main_job(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__VerifyRequest verify;
	Biomatch__V1__VerifyResponse *reply;
	struct picture ada, stranger;
	char path[256];
	struct exchange x;

	stranger_path(path, sizeof(path));
	create_gallery(l, "people");
	enrol_file(l, ADA_1, "ada");
	picture_open(&ada, ADA_2);
	picture_open(&stranger, path);

	verify = verify_request(&ada.probe, "ada");
	reply = exchange_call(l, &x, MATCHING "Verify", LOOPBACK_LANE, &verify.base,
			      &biomatch__v1__verify_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->decision, BIOMATCH__V1__DECISION__DECISION_MATCH);
	assert_non_null(reply->raw);
	assert_true(reply->raw->score >= reply->raw->threshold);
	assert_true(reply->basis->compared == 1);
	assert_string_equal(reply->basis->model, l->pack->model);
	assert_int_equal(reply->probe->n_faces >= 1, true);
	assert_true(reply->times->embed_us > 0);
	exchange_close(&x);

	verify = verify_request(&stranger.probe, "ada");
	verify.purpose = (char *)"coarse";
	reply = exchange_call(l, &x, MATCHING "Verify", LOOPBACK_LANE, &verify.base,
			      &biomatch__v1__verify_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->decision, BIOMATCH__V1__DECISION__DECISION_NO_MATCH);
	assert_null(reply->raw);
	exchange_close(&x);

	verify = verify_request(&ada.probe, "nobody");
	reply = exchange_call(l, &x, MATCHING "Verify", LOOPBACK_LANE, &verify.base,
			      &biomatch__v1__verify_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->decision, BIOMATCH__V1__DECISION__DECISION_REFER);
	assert_int_equal(reply->reason, BIOMATCH__V1__REASON__REASON_NO_REFERENCE);
	exchange_close(&x);
	picture_free(&ada);
	picture_free(&stranger);
}

static void test_compare_and_identify(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__CompareRequest compare = BIOMATCH__V1__COMPARE_REQUEST__INIT;
	Biomatch__V1__IdentifyRequest identify = BIOMATCH__V1__IDENTIFY_REQUEST__INIT;
	Biomatch__V1__CompareResponse *compared;
	Biomatch__V1__IdentifyResponse *found;
	char *galleries[] = {(char *)"people"};
	char path[256];
	struct picture first, second, group;
	struct exchange x;

	stranger_path(path, sizeof(path));
	create_gallery(l, "people");
	enrol_file(l, path, "stranger");
	enrol_file(l, ADA_1, "ada");
	picture_open(&first, ADA_1);
	picture_open(&second, ADA_2);
	picture_open(&group, GROUP);

	compare.purpose = (char *)"gate";
	compare.probe = &first.probe;
	compare.reference = &second.probe;
	compared = exchange_call(l, &x, MATCHING "Compare", LOOPBACK_LANE, &compare.base,
				 &biomatch__v1__compare_response__descriptor);
	assert_non_null(compared);
	assert_int_equal(compared->decision, BIOMATCH__V1__DECISION__DECISION_MATCH);
	exchange_close(&x);

	compare.reference = &group.probe;
	compared = exchange_call(l, &x, MATCHING "Compare", LOOPBACK_LANE, &compare.base,
				 &biomatch__v1__compare_response__descriptor);
	assert_non_null(compared);
	assert_int_equal(compared->decision, BIOMATCH__V1__DECISION__DECISION_REFER);
	assert_int_equal(compared->reason, BIOMATCH__V1__REASON__REASON_SEVERAL_FACES);
	assert_true(compared->reason_is_reference);
	assert_true(compared->reference->n_faces > 1);
	exchange_close(&x);

	identify.purpose = (char *)"gate";
	identify.galleries = galleries;
	identify.n_galleries = 1;
	identify.probe = &second.probe;
	found = exchange_call(l, &x, MATCHING "Identify", LOOPBACK_LANE, &identify.base,
			      &biomatch__v1__identify_response__descriptor);
	assert_non_null(found);
	assert_int_equal(found->decision, BIOMATCH__V1__DECISION__DECISION_MATCH);
	assert_int_equal(found->n_candidates, 1);
	assert_string_equal(found->candidates[0]->subject_id, "ada");
	assert_string_equal(found->candidates[0]->gallery, "people");
	assert_true(found->basis->compared == 2);
	exchange_close(&x);
	picture_free(&first);
	picture_free(&second);
	picture_free(&group);
}

static void test_template_as_probe(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__ExtractRequest extract = BIOMATCH__V1__EXTRACT_REQUEST__INIT;
	Biomatch__V1__Probe probe = BIOMATCH__V1__PROBE__INIT;
	Biomatch__V1__VerifyRequest verify = verify_request(&probe, "ada");
	Biomatch__V1__ExtractResponse *extracted;
	Biomatch__V1__VerifyResponse *reply;
	struct exchange x, y;
	struct picture p;

	create_gallery(l, "people");
	enrol_file(l, ADA_1, "ada");
	picture_open(&p, ADA_2);
	extract.purpose = (char *)"gate";
	extract.image = &p.image;
	extracted = exchange_call(l, &x, ANALYSIS "Extract", LOOPBACK_LANE, &extract.base,
				  &biomatch__v1__extract_response__descriptor);
	assert_non_null(extracted);
	probe.kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	probe.template_ = extracted->template_;
	reply = exchange_call(l, &y, MATCHING "Verify", LOOPBACK_LANE, &verify.base,
			      &biomatch__v1__verify_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->decision, BIOMATCH__V1__DECISION__DECISION_MATCH);
	exchange_close(&y);

	extracted->template_->data.data[40] ^= 1;
	exchange_call(l, &y, MATCHING "Verify", LOOPBACK_LANE, &verify.base,
		      &biomatch__v1__verify_response__descriptor);
	assert_int_equal(y.status, GRPC_INVALID_ARGUMENT);
	assert_string_equal(y.reason, "TEMPLATE_INVALID");
	assert_string_equal(y.field, "probe");
	exchange_close(&y);

	extracted->template_->model = (char *)"other/9";
	exchange_call(l, &y, MATCHING "Verify", LOOPBACK_LANE, &verify.base,
		      &biomatch__v1__verify_response__descriptor);
	assert_int_equal(y.status, GRPC_FAILED_PRECONDITION);
	assert_string_equal(y.reason, "TEMPLATE_MODEL");
	assert_non_null(strstr(y.text, "other/9"));
	exchange_close(&y);
	exchange_close(&x);
	picture_free(&p);
}

static void expect_refusal(struct loopback *l, const char *path, const ProtobufCMessage *request,
			   const char *peer, const char *reason, const char *field)
{
	struct exchange x;

	exchange_call(l, &x, path, peer, request, NULL);
	if (strcmp(x.reason, reason) || strcmp(x.field, field))
		fail_msg("%s: %s of \"%s\", expected %s of \"%s\"", path, x.reason, x.field, reason,
			 field);
	assert_int_not_equal(x.status, GRPC_OK);
	exchange_close(&x);
}

static void test_fields_are_checked(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__VerifyRequest verify = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	Biomatch__V1__EnrolRequest enrol;
	Biomatch__V1__Encounter encounter = BIOMATCH__V1__ENCOUNTER__INIT;
	Google__Protobuf__Timestamp past = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Biomatch__V1__CreateGalleryRequest create = BIOMATCH__V1__CREATE_GALLERY_REQUEST__INIT;
	Biomatch__V1__IdentifyRequest identify = BIOMATCH__V1__IDENTIFY_REQUEST__INIT;
	char *twice[] = {(char *)"people", (char *)"people"};
	char long_subject[200];
	struct picture p;

	picture_open(&p, ADA_1);
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_LANE, "FIELD_MISSING",
		       "gallery");
	verify.gallery = (char *)"people";
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_LANE, "FIELD_MISSING",
		       "subject_id");
	memset(long_subject, 'x', sizeof(long_subject) - 1);
	long_subject[sizeof(long_subject) - 1] = '\0';
	verify.subject_id = long_subject;
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_LANE, "INVALID_ARGUMENT",
		       "subject_id");
	verify.subject_id = (char *)"ada";
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_LANE, "FIELD_MISSING",
		       "purpose");
	verify.purpose = (char *)"gate";
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_LANE, "FIELD_MISSING", "probe");
	verify.probe = &p.probe;
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_LANE, "GALLERY_UNKNOWN",
		       "gallery");

	enrol = enrol_request(&p, "ada", "");
	expect_refusal(l, ENROLMENT "Enrol", &enrol.base, LOOPBACK_LANE, "FIELD_MISSING",
		       "request_id");
	enrol.request_id = (char *)"r";
	past.seconds = 1;
	encounter.expires_at = &past;
	enrol.encounter = &encounter;
	expect_refusal(l, ENROLMENT "Enrol", &enrol.base, LOOPBACK_LANE, "INVALID_ARGUMENT",
		       "encounter.expires_at");

	create.purpose = (char *)"office";
	create.request_id = (char *)"r";
	create.name = (char *)"No Good";
	expect_refusal(l, ADMIN "CreateGallery", &create.base, LOOPBACK_ADMIN, "INVALID_ARGUMENT",
		       "name");

	identify.purpose = (char *)"gate";
	expect_refusal(l, MATCHING "Identify", &identify.base, LOOPBACK_LANE, "FIELD_MISSING",
		       "galleries");
	identify.galleries = twice;
	identify.n_galleries = 2;
	expect_refusal(l, MATCHING "Identify", &identify.base, LOOPBACK_LANE, "INVALID_ARGUMENT",
		       "galleries");
	identify.n_galleries = 1;
	identify.max_candidates = 6;
	expect_refusal(l, MATCHING "Identify", &identify.base, LOOPBACK_LANE, "INVALID_ARGUMENT",
		       "max_candidates");
	picture_free(&p);
}

static void test_policy_denies(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__CreateGalleryRequest create = BIOMATCH__V1__CREATE_GALLERY_REQUEST__INIT;
	Biomatch__V1__VerifyRequest verify;
	struct picture p;

	picture_open(&p, ADA_1);
	verify = verify_request(&p.probe, "ada");
	verify.purpose = (char *)"unheard-of";
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_LANE, "PURPOSE_UNKNOWN",
		       "purpose");
	verify.purpose = (char *)"gate";
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_ADMIN, "PURPOSE_DENIED", "");
	verify.gallery = (char *)"elsewhere";
	expect_refusal(l, MATCHING "Verify", &verify.base, LOOPBACK_LANE, "PURPOSE_DENIED", "");
	verify.gallery = (char *)"people";
	expect_refusal(l, MATCHING "Verify", &verify.base, "", "PEER_IDENTITY", "");
	expect_refusal(l, MATCHING "Verify", &verify.base, "biomatch://other/site/lane/1",
		       "PEER_IDENTITY", "");
	create.purpose = (char *)"gate";
	create.request_id = (char *)"r";
	create.name = (char *)"people";
	expect_refusal(l, ADMIN "CreateGallery", &create.base, LOOPBACK_LANE, "PURPOSE_DENIED", "");
	picture_free(&p);
}

static void test_request_id_is_remembered(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__EnrolResponse *reply;
	Biomatch__V1__EnrolRequest request;
	char first[64];
	struct picture p;
	struct exchange x;

	create_gallery(l, "people");
	picture_open(&p, ADA_1);
	request = enrol_request(&p, "ada", "once");
	for (int i = 0; i < 3; i++) {
		reply = exchange_call(l, &x, ENROLMENT "Enrol", LOOPBACK_LANE, &request.base,
				      &biomatch__v1__enrol_response__descriptor);
		assert_non_null(reply);
		if (i == 0)
			strcpy(first, reply->encounter_id);
		assert_string_equal(reply->encounter_id, first);
		exchange_close(&x);
	}
	request.subject_id = (char *)"eve";
	expect_refusal(l, ENROLMENT "Enrol", &request.base, LOOPBACK_LANE, "REQUEST_ID_REUSED", "");
	picture_free(&p);
}

static void test_duplicate_is_refused(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__EnrolResponse *reply;
	Biomatch__V1__EnrolRequest request;
	struct picture p;
	struct exchange x;

	create_gallery(l, "people");
	enrol_file(l, ADA_1, "ada");
	picture_open(&p, ADA_2);
	request = enrol_request(&p, "eve", "second");
	request.refuse_duplicates = true;
	reply = exchange_call(l, &x, ENROLMENT "Enrol", LOOPBACK_LANE, &request.base,
			      &biomatch__v1__enrol_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->outcome, BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_DUPLICATE);
	assert_int_equal(reply->n_candidates, 1);
	assert_string_equal(reply->candidates[0]->subject_id, "ada");
	exchange_close(&x);

	request = enrol_request(&p, "ada", "third");
	request.refuse_duplicates = true;
	reply = exchange_call(l, &x, ENROLMENT "Enrol", LOOPBACK_LANE, &request.base,
			      &biomatch__v1__enrol_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->outcome, BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_CREATED);
	exchange_close(&x);
	picture_free(&p);
}

/* Both searches see a gallery without the face; the writer must still refuse one. */
static void test_simultaneous_duplicates(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__EnrolRequest request;
	unsigned created = 0, duplicates = 0;
	struct exchange x[8];
	char names[8][24];
	struct picture p;

	create_gallery(l, "people");
	picture_open(&p, ADA_1);
	for (int i = 0; i < 8; i++) {
		snprintf(names[i], sizeof(names[i]), "name-%d", i);
		request = enrol_request(&p, names[i], names[i]);
		request.refuse_duplicates = true;
		exchange_open(l, &x[i], ENROLMENT "Enrol", LOOPBACK_LANE, CLOCK_FOREVER);
		exchange_message(&x[i], &request.base);
		service_call_half_close(x[i].call);
	}
	for (int i = 0; i < 8; i++) {
		ProtobufCMessage *reply;

		exchange_wait_finished(&x[i]);
		assert_int_equal(x[i].status, GRPC_OK);
		assert_int_equal(wire_unpack(&biomatch__v1__enrol_response__descriptor, &x[i].arena,
					     (struct bytes){x[i].data, x[i].len}, &reply),
				 0);
		switch (((Biomatch__V1__EnrolResponse *)(void *)reply)->outcome) {
		case BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_CREATED:
			created++;
			break;
		case BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_DUPLICATE:
			duplicates++;
			break;
		default:
			fail();
		}
		exchange_close(&x[i]);
	}
	assert_int_equal(created, 1);
	assert_int_equal(duplicates, 7);
	picture_free(&p);
}

static void test_subject_and_deletion(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__GetSubjectRequest get = BIOMATCH__V1__GET_SUBJECT_REQUEST__INIT;
	Biomatch__V1__DeleteSubjectRequest delete = BIOMATCH__V1__DELETE_SUBJECT_REQUEST__INIT;
	Biomatch__V1__GetSubjectResponse *reply;
	Biomatch__V1__DeleteSubjectResponse *deleted;
	struct exchange x;

	create_gallery(l, "people");
	enrol_file(l, ADA_1, "ada");
	get.purpose = (char *)"gate";
	get.gallery = (char *)"people";
	get.subject_id = (char *)"ada";
	reply = exchange_call(l, &x, ENROLMENT "GetSubject", LOOPBACK_LANE, &get.base,
			      &biomatch__v1__get_subject_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->n_encounters, 1);
	assert_string_equal(reply->encounters[0]->model, l->pack->model);
	assert_null(reply->encounters[0]->expires_at);
	exchange_close(&x);

	delete.purpose = (char *)"gate";
	delete.request_id = (char *)"gone";
	delete.gallery = (char *)"people";
	delete.subject_id = (char *)"ada";
	deleted = exchange_call(l, &x, ENROLMENT "DeleteSubject", LOOPBACK_LANE, &delete.base,
				&biomatch__v1__delete_subject_response__descriptor);
	assert_non_null(deleted);
	assert_int_equal(deleted->encounters_deleted, 1);
	exchange_close(&x);
	expect_refusal(l, ENROLMENT "GetSubject", &get.base, LOOPBACK_LANE, "NO_REFERENCE", "");
}

/* The log's entries from one number to the end, each checked; gives how many are ListGalleries'. */
static unsigned count_listings(struct loopback *l, uint64_t first, uint64_t last)
{
	const struct audit_trust none = {0};
	struct audit_chain chain = {.trust = &none, .next = first};
	const Biomatch__V1__AuditEntry *entry;
	struct bytes packed;
	struct arena arena;
	struct db_txn txn;
	unsigned n = 0;

	arena_init(&arena, 1 << 24);
	assert_int_equal(db_begin_read(l->db, &txn), 0);
	while (audit_get(&txn, chain.next, &packed)) {
		assert_int_equal(audit_chain_take(&chain, packed, &arena, &entry), 0);
		n += strstr(entry->operation, "/ListGalleries") != NULL;
	}
	db_abort(&txn);
	arena_deinit(&arena);
	assert_int_equal(chain.head.sequence, last);
	return n;
}

enum { CROWD = 60, LEAVING = 10 };

/* Lets a crowd ask at once, every sixth of whom has left before the answer. */
static void ask_together(struct loopback *l, struct exchange crowd[CROWD])
{
	Biomatch__V1__ListGalleriesRequest request = BIOMATCH__V1__LIST_GALLERIES_REQUEST__INIT;

	request.purpose = (char *)"office";
	for (int i = 0; i < CROWD; i++) {
		exchange_open(l, &crowd[i], ADMIN "ListGalleries", LOOPBACK_ADMIN, CLOCK_FOREVER);
		crowd[i].gone = i % (CROWD / LEAVING) == 0;
		exchange_message(&crowd[i], &request.base);
		service_call_half_close(crowd[i].call);
	}
	for (int i = 0; i < CROWD; i++)
		exchange_wait_finished(&crowd[i]);
}

/* Each answer has an entry of its own; who has left has neither. */
static void test_receipts_of_a_crowd(void **state)
{
	static struct exchange crowd[CROWD];
	struct loopback *l = *state;
	bool seen[CROWD + 2] = {false};
	const uint64_t last = CROWD - LEAVING + 1;

	create_gallery(l, "people"); /* entry 1 */
	ask_together(l, crowd);
	for (int i = 0; i < CROWD; i++) {
		const Biomatch__V1__ListGalleriesResponse *reply;
		struct exchange *x = &crowd[i];
		ProtobufCMessage *message;

		assert_int_equal(x->status, x->gone ? GRPC_CANCELLED : GRPC_OK);
		assert_int_equal(x->messages, !x->gone);
		if (!x->gone) {
			assert_int_equal(
				wire_unpack(&biomatch__v1__list_galleries_response__descriptor,
					    &x->arena, (struct bytes){x->data, x->len}, &message),
				0);
			reply = (const void *)message;
			assert_in_range(reply->receipt->sequence, 2, last);
			assert_false(seen[reply->receipt->sequence]);
			seen[reply->receipt->sequence] = true;
		}
		exchange_close(x);
	}
	assert_int_equal(count_listings(l, 1, last), CROWD - LEAVING);
}

static void test_given_up_calls(void **state)
{
	struct loopback *l = *state;
	Biomatch__V1__VerifyRequest verify;
	struct picture p;
	struct exchange x;

	create_gallery(l, "people");
	picture_open(&p, ADA_1);
	verify = verify_request(&p.probe, "ada");

	exchange_open(l, &x, MATCHING "Verify", LOOPBACK_LANE, clock_monotonic_ns());
	exchange_message(&x, &verify.base);
	service_call_half_close(x.call);
	exchange_wait_finished(&x);
	assert_int_equal(x.status, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(x.reason, "DEADLINE");
	exchange_close(&x);

	exchange_open(l, &x, MATCHING "Verify", LOOPBACK_LANE, CLOCK_FOREVER);
	exchange_message(&x, &verify.base);
	service_call_cancel(x.call);
	exchange_wait_finished(&x);
	assert_int_equal(x.status, GRPC_CANCELLED);
	service_call_half_close(x.call);
	exchange_close(&x);

	exchange_open(l, &x, MATCHING "Verify", LOOPBACK_LANE, CLOCK_FOREVER);
	exchange_message(&x, &verify.base);
	exchange_message(&x, &verify.base);
	exchange_wait_finished(&x);
	assert_string_equal(x.reason, "MESSAGE_MALFORMED");
	exchange_close(&x);

	exchange_open(l, &x, MATCHING "Verify", LOOPBACK_LANE, CLOCK_FOREVER);
	service_call_half_close(x.call);
	exchange_wait_finished(&x);
	assert_string_equal(x.reason, "MESSAGE_MALFORMED");
	exchange_close(&x);

	exchange_open(l, &x, MATCHING "Vanish", LOOPBACK_LANE, CLOCK_FOREVER);
	assert_null(x.call);
	pthread_cond_destroy(&x.changed);
	pthread_mutex_destroy(&x.lock);
	picture_free(&p);
}

static void test_health(void **state)
{
	struct loopback *l = *state;
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	Grpc__Health__V1__HealthCheckResponse *reply;
	struct exchange x;

	reply = exchange_call(l, &x, HEALTH "Check", "", &request.base,
			      &grpc__health__v1__health_check_response__descriptor);
	assert_non_null(reply);
	assert_int_equal(reply->status,
			 GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING);
	exchange_close(&x);
	request.service = (char *)"no.such.Service";
	expect_refusal(l, HEALTH "Check", &request.base, "", "SERVICE_UNKNOWN", "service");

	request.service = (char *)"biomatch.v1.MatchingService";
	exchange_open(l, &x, HEALTH "Watch", "", CLOCK_FOREVER);
	exchange_message(&x, &request.base);
	service_call_half_close(x.call);
	assert_int_equal(x.messages, 1);
	service_tick(l->service);
	assert_int_equal(x.messages, 1);
	service_drain(l->service);
	exchange_wait_finished(&x);
	assert_int_equal(x.messages, 2);
	assert_int_equal(x.status, GRPC_UNAVAILABLE);
	service_call_cancel(x.call);
	exchange_close(&x);
}

static void test_watcher_leaves(void **state)
{
	struct loopback *l = *state;
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct exchange x[3];

	for (int i = 0; i < 3; i++) {
		exchange_open(l, &x[i], HEALTH "Watch", "", CLOCK_FOREVER);
		exchange_message(&x[i], &request.base);
	}
	service_call_cancel(x[1].call);
	assert_true(x[1].finished);
	assert_int_equal(x[1].status, GRPC_CANCELLED);
	service_call_cancel(x[2].call);
	service_call_cancel(x[0].call);
	for (int i = 0; i < 3; i++) {
		assert_true(x[i].finished);
		exchange_close(&x[i]);
	}
}

static Grpc__Reflection__V1__ServerReflectionResponse *
ask(struct exchange *x, Grpc__Reflection__V1__ServerReflectionRequest *question)
{
	ProtobufCMessage *reply;

	exchange_message(x, &question->base);
	assert_false(x->finished);
	/* A descriptor is larger than what the scan lets pass from outside. */
	reply = protobuf_c_message_unpack(
		&grpc__reflection__v1__server_reflection_response__descriptor, NULL, x->len,
		x->data);
	assert_non_null(reply);
	return (void *)reply;
}

static void test_reflection(void **state)
{
	static const char *const symbols[] = {
		"biomatch.v1.MatchingService", "biomatch.v1.MatchingService.Verify",
		"biomatch.v1.VerifyRequest",   "biomatch.v1.VerifyRequest.subject_id",
		"biomatch.v1.Decision",        "grpc.health.v1.HealthCheckResponse.ServingStatus",
	};
	struct loopback *l = *state;
	Grpc__Reflection__V1__ServerReflectionRequest question =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
	Grpc__Reflection__V1__ServerReflectionResponse *reply;
	struct exchange x;

	exchange_open(l, &x, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "",
		      CLOCK_FOREVER);
	question.message_request_case =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
	question.list_services = (char *)"*";
	reply = ask(&x, &question);
	assert_true(reply->list_services_response->n_service >= 6);
	protobuf_c_message_free_unpacked(&reply->base, NULL);

	question.message_request_case =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		question.file_containing_symbol = (char *)(uintptr_t)symbols[i];
		reply = ask(&x, &question);
		assert_int_equal(
			reply->message_response_case,
			GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE);
		assert_true(reply->file_descriptor_response->file_descriptor_proto[0].len > 100);
		protobuf_c_message_free_unpacked(&reply->base, NULL);
	}
	question.file_containing_symbol = (char *)"biomatch.v1.Nothing";
	reply = ask(&x, &question);
	assert_int_equal(reply->error_response->error_code, GRPC_NOT_FOUND);
	protobuf_c_message_free_unpacked(&reply->base, NULL);
	service_call_half_close(x.call);
	exchange_wait_finished(&x);
	assert_int_equal(x.status, GRPC_OK);
	exchange_close(&x);
}

#define LOOPBACK_TEST(f) cmocka_unit_test_setup_teardown(f, loopback_setup, loopback_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOPBACK_TEST(test_main_job),
		LOOPBACK_TEST(test_compare_and_identify),
		LOOPBACK_TEST(test_template_as_probe),
		LOOPBACK_TEST(test_fields_are_checked),
		LOOPBACK_TEST(test_policy_denies),
		LOOPBACK_TEST(test_request_id_is_remembered),
		LOOPBACK_TEST(test_duplicate_is_refused),
		LOOPBACK_TEST(test_simultaneous_duplicates),
		LOOPBACK_TEST(test_subject_and_deletion),
		LOOPBACK_TEST(test_receipts_of_a_crowd),
		LOOPBACK_TEST(test_given_up_calls),
		LOOPBACK_TEST(test_health),
		LOOPBACK_TEST(test_watcher_leaves),
		LOOPBACK_TEST(test_reflection),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
