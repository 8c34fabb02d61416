/* Exports of what is held of a subject: who may make them, and what is in them. */
#include "loopback.h"

#include <fcntl.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "biomatch/audit.h"
#include "biomatch/envelope.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "biomatch/v1/enrolment_service.pb-c.h"

#define APPROVE "/biomatch.v1.AdminService/ApproveSubjectExport"
#define EXPORT  "/biomatch.v1.AdminService/ExportSubject"
#define OTHER   "biomatch://test/office/admin/2"
#define MINUTE  (INT64_C(60) * 1000)

struct access {
	struct loopback *l;
	uint8_t *key, *other_key;
	size_t key_len, other_key_len;
};

static void write_keys(const struct loopback *l, const char *name)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	char path[128], file[64];
	FILE *out;

	loopback_path(l, name, path);
	out = fopen(path, "wx");
	assert_true(key && out);
	assert_int_equal(PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(out);
	snprintf(file, sizeof(file), "%s.pub", name);
	loopback_path(l, file, path);
	out = fopen(path, "wx");
	assert_non_null(out);
	assert_int_equal(PEM_write_PUBKEY(out, key), 1);
	fclose(out);
	EVP_PKEY_free(key);
}

/* A subject with one encounter, put there without a picture. */
static void put_subject(struct loopback *l, const char *subject)
{
	struct gallery_change create = {.kind = GALLERY_CREATE, .gallery = "people"};
	struct gallery_change put = {.kind = GALLERY_PUT,
				     .gallery = "people",
				     .subject = subject,
				     .dim = l->pack->dim,
				     .encounter = {.id = "first",
						   .type = "visa",
						   .site = "hall",
						   .captured_ms = 1000,
						   .enrolled_ms = 2000,
						   .expires_ms = GALLERY_NEVER}};
	float *face = calloc(l->pack->dim, sizeof(*face));
	struct gallery_outcome outcome;
	struct db_txn txn;
	int error;

	assert_non_null(face);
	face[3] = 1;
	put.embedding = face;
	assert_int_equal(db_begin_write(l->db, &txn), 0);
	error = gallery_apply(l->store, &txn, &create, &outcome);
	assert_true(!error || error == BM_EEXISTS);
	assert_int_equal(gallery_apply(l->store, &txn, &put, &outcome), 0);
	assert_int_equal(db_commit(&txn), 0);
	free(face);
}

static int setup(void **state)
{
	struct access *a = calloc(1, sizeof(*a));
	char path[128];

	assert_non_null(a);
	assert_int_equal(loopback_setup((void **)&a->l), 0);
	write_keys(a->l, "recipient");
	write_keys(a->l, "other");
	loopback_path(a->l, "recipient.pub", path);
	assert_int_equal(file_read(path, 1024, &a->key, &a->key_len), 0);
	loopback_path(a->l, "other.pub", path);
	assert_int_equal(file_read(path, 1024, &a->other_key, &a->other_key_len), 0);
	put_subject(a->l, "ada");
	put_subject(a->l, "bob");
	*state = a;
	return 0;
}

static int teardown(void **state)
{
	struct access *a = *state;
	struct loopback *l = a->l;

	clock_shift_wall(0);
	free(a->key);
	free(a->other_key);
	free(a);
	return loopback_teardown((void **)&l);
}

/* Gives the reason of a refusal, "" where it is approved. */
static const char *approve(struct access *a, const char *peer, const char *subject, const char *id)
{
	Biomatch__V1__ApproveSubjectExportRequest request =
		BIOMATCH__V1__APPROVE_SUBJECT_EXPORT_REQUEST__INIT;
	static char reason[64];
	struct exchange x;

	request.purpose = (char *)"office";
	request.request_id = (char *)(uintptr_t)id;
	request.gallery = (char *)"people";
	request.subject_id = (char *)(uintptr_t)subject;
	request.recipient_key = (ProtobufCBinaryData){a->key_len, a->key};
	exchange_call(a->l, &x, APPROVE, peer, &request.base,
		      &biomatch__v1__approve_subject_export_response__descriptor);
	snprintf(reason, sizeof(reason), "%s", x.status == GRPC_OK ? "" : x.reason);
	exchange_close(&x);
	return reason;
}

struct answer {
	struct exchange x;
	const Biomatch__V1__ExportSubjectResponse *response;
};

static const char *export(struct access *a, const char *peer, const char *subject,
			  ProtobufCBinaryData key, struct answer *out)
{
	Biomatch__V1__ExportSubjectRequest request = BIOMATCH__V1__EXPORT_SUBJECT_REQUEST__INIT;

	request.purpose = (char *)"office";
	request.gallery = (char *)"people";
	request.subject_id = (char *)(uintptr_t)subject;
	request.recipient_key = key;
	out->response = exchange_call(a->l, &out->x, EXPORT, peer, &request.base,
				      &biomatch__v1__export_subject_response__descriptor);
	return out->x.status == GRPC_OK ? "" : out->x.reason;
}

static void assert_export(struct access *a, const char *peer, const char *subject,
			  const char *reason)
{
	ProtobufCBinaryData key = {a->key_len, a->key};
	struct answer answer;

	assert_string_equal(export(a, peer, subject, key, &answer), reason);
	if (*reason)
		assert_int_equal(answer.x.status, GRPC_FAILED_PRECONDITION);
	exchange_close(&answer.x);
}

/* One approval by somebody else, of this subject, for this key, not too long ago. */
static void test_four_eyes(void **state)
{
	struct access *a = *state;
	ProtobufCBinaryData other_key = {a->other_key_len, a->other_key};
	struct answer answer;

	assert_export(a, OTHER, "ada", "APPROVAL_MISSING");
	assert_string_equal(approve(a, LOOPBACK_ADMIN, "ada", "one"), "");
	assert_export(a, LOOPBACK_ADMIN, "ada", "APPROVAL_OWN");
	assert_export(a, OTHER, "bob", "APPROVAL_MISSING");
	assert_string_equal(export(a, OTHER, "ada", other_key, &answer), "APPROVAL_MISSING");
	exchange_close(&answer.x);
	assert_export(a, OTHER, "ada", "");
	clock_shift_wall(14 * MINUTE);
	assert_export(a, OTHER, "ada", "");
	clock_shift_wall(15 * MINUTE);
	assert_export(a, OTHER, "ada", "APPROVAL_EXPIRED");
	/* A clock that went back makes no approval of tomorrow good. */
	clock_shift_wall(-60 * MINUTE);
	assert_export(a, OTHER, "ada", "APPROVAL_EXPIRED");
	clock_shift_wall(48 * 60 * MINUTE);
	assert_string_equal(approve(a, OTHER, "bob", "two"), "");
	assert_export(a, OTHER, "ada", "APPROVAL_MISSING");
	assert_export(a, LOOPBACK_ADMIN, "bob", "");
	assert_export(a, OTHER, "bob", "APPROVAL_OWN");
}

static void test_refused(void **state)
{
	struct access *a = *state;
	size_t len = a->key_len;

	assert_string_equal(approve(a, LOOPBACK_LANE, "ada", "lane"), "PURPOSE_DENIED");
	assert_string_equal(approve(a, LOOPBACK_ADMIN, "nobody", "nobody"), "NO_REFERENCE");
	a->key_len = 0;
	assert_string_equal(approve(a, LOOPBACK_ADMIN, "ada", "none"), "FIELD_MISSING");
	a->key_len = len / 2;
	assert_string_equal(approve(a, LOOPBACK_ADMIN, "ada", "half"), "INVALID_ARGUMENT");
	a->key_len = len;
}

/* What the recipient reads. */
static const Biomatch__V1__SubjectExport *open_export(const struct access *a,
						      const struct answer *answer, const char *key,
						      struct arena *arena, int expected)
{
	char sealed[128], opened[128], private[128];
	ProtobufCMessage *message;
	uint8_t *data;
	size_t len;
	int in, out;

	loopback_path(a->l, "sealed", sealed);
	loopback_path(a->l, "opened", opened);
	loopback_path(a->l, key, private);
	unlink(sealed);
	assert_int_equal(file_write_new(sealed, answer->response->sealed.data,
					answer->response->sealed.len, 0600),
			 0);
	in = open(sealed, O_RDONLY);
	out = open(opened, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(envelope_open(in, out, private), expected);
	close(in);
	close(out);
	if (expected)
		return NULL;
	assert_int_equal(file_read(opened, 1 << 22, &data, &len), 0);
	assert_int_equal(wire_unpack(&biomatch__v1__subject_export__descriptor, arena,
				     (struct bytes){data, len}, &message),
			 0);
	free(data);
	return (const void *)message;
}

static void test_all_that_is_held(void **state)
{
	struct access *a = *state;
	const Biomatch__V1__SubjectExport *held;
	ProtobufCBinaryData key = {a->key_len, a->key};
	struct answer answer;
	struct arena arena;

	arena_init(&arena, 1 << 22);
	assert_string_equal(approve(a, LOOPBACK_ADMIN, "ada", "one"), "");
	assert_string_equal(approve(a, LOOPBACK_ADMIN, "bob", "two"), "");
	assert_export(a, OTHER, "ada", "");
	assert_string_equal(export(a, OTHER, "ada", key, &answer), "");
	assert_int_equal(answer.response->next_entry, 0);
	assert_non_null(answer.response->receipt);
	open_export(a, &answer, "other", &arena, BM_EBACKUP);
	held = open_export(a, &answer, "recipient", &arena, 0);
	assert_string_equal(held->format, "biomatch-subject-1");
	assert_string_equal(held->gallery, "people");
	assert_string_equal(held->subject_id, "ada");
	assert_string_equal(held->approved_by, LOOPBACK_ADMIN);
	assert_string_equal(held->exported_by, OTHER);
	assert_string_equal(held->model, a->l->pack->model);
	assert_int_equal(held->dimension, a->l->pack->dim);
	assert_int_equal(held->n_encounters, 1);
	assert_string_equal(held->encounters[0]->encounter_id, "first");
	assert_string_equal(held->encounters[0]->encounter_type, "visa");
	assert_string_equal(held->encounters[0]->site, "hall");
	/* The approval of this subject and the export before, and nothing of the other's. */
	assert_int_equal(held->n_audit_entries, 2);
	for (size_t i = 0; i < 2; i++) {
		static const char *const operations[] = {APPROVE, EXPORT};
		static const char *const peers[] = {LOOPBACK_ADMIN, OTHER};
		const Biomatch__V1__AuditEntry *entry;
		ProtobufCMessage *message;

		assert_int_equal(wire_unpack(&biomatch__v1__audit_entry__descriptor, &arena,
					     (struct bytes){held->audit_entries[i].data,
							    held->audit_entries[i].len},
					     &message),
				 0);
		entry = (const void *)message;
		assert_string_equal(entry->operation, operations[i] + 1);
		assert_string_equal(entry->endpoint, peers[i]);
		assert_string_equal(entry->outcome, "DONE");
		assert_int_equal(entry->subject.len, held->pseudonym.len);
		assert_memory_equal(entry->subject.data, held->pseudonym.data, 32);
		assert_int_equal(entry->n_inputs, 1);
	}
	exchange_close(&answer.x);
	arena_deinit(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_four_eyes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_that_is_held, setup, teardown),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("access", tests, NULL, NULL);
}
