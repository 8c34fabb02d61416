/*
 * Access to what is held of a subject: one endpoint approves, another exports, and
 * only the owner of a key that both have named can read it.
 */
#include <stdlib.h>

#include "biomatch/audit.h"
#include "biomatch/clock.h"
#include "biomatch/envelope.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "subject.h"
#include "times.h"
#include "trail.h"

#define EXPORT_FORMAT "biomatch-subject-1"
/* From an approval until it is too late; until nobody is told any more that it was. */
#define WINDOW_MS     (INT64_C(15) * 60 * 1000)
#define KEPT_MS       (INT64_C(24) * 3600 * 1000)
#define RECIPIENT_MAX 1024
/* Audit entries of one response: with all around them below what clients take at once. */
#define ENTRIES     4000
#define ENTRIES_MAX ((size_t)3 << 20)
/* A response ends behind the picture that reaches this. */
#define IMAGES_MAX ((size_t)1 << 20)

#define PREFIX     "subject-export-approval"
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define URI_MAX    256

/* An approval in the store; its key says of what. */
struct approval {
	uint64_t sum;
	int64_t approved_ms;
	char uri[URI_MAX];
};

struct approval_key {
	uint8_t data[PREFIX_LEN + KEYS_PSEUDONYM_LEN];
};

/* What is approved: a gallery, a subject and a recipient, which the two requests share. */
struct wanted {
	const char *gallery, *subject;
	struct bytes recipient;
};

static struct bytes key_bytes(const struct approval_key *key)
{
	return (struct bytes){key->data, sizeof(key->data)};
}

static int make_key(const struct service_call *call, const struct wanted *wanted,
		    struct approval_key *out)
{
	const struct bytes parts[4] = {
		{(const uint8_t *)PREFIX, PREFIX_LEN},
		{(const uint8_t *)wanted->gallery, strlen(wanted->gallery)},
		{(const uint8_t *)wanted->subject, strlen(wanted->subject)},
		wanted->recipient,
	};

	memcpy(out->data, PREFIX, PREFIX_LEN);
	return keys_pseudonym(call->service->options.keys, KEYS_REQUEST, parts, 4,
			      out->data + PREFIX_LEN);
}

static uint64_t sum_of(const struct approval *approval)
{
	return bytes_checksum((const uint8_t *)approval + sizeof(approval->sum),
			      sizeof(*approval) - sizeof(approval->sum));
}

static int load(struct bytes value, struct approval *out)
{
	if (value.len != sizeof(*out))
		return BM_ECORRUPT;
	memcpy(out, value.data, sizeof(*out));
	return out->sum == sum_of(out) && memchr(out->uri, 0, URI_MAX) ? 0 : BM_ECORRUPT;
}

/* Those of yesterday; there are never many. */
static int forget_old(struct db_txn *txn, int64_t now_ms)
{
	uint8_t from[sizeof(struct approval_key) + 1] = PREFIX;
	struct bytes found, value, at = {from, PREFIX_LEN};
	struct approval approval;
	struct db_cursor cursor;
	int error = 0;

	db_cursor_open(txn, DB_META, &cursor);
	while (!error && db_cursor_seek(&cursor, at, &found, &value) &&
	       found.len == sizeof(struct approval_key) &&
	       !memcmp(found.data, PREFIX, PREFIX_LEN)) {
		error = load(value, &approval);
		/* The next key sorts just behind this one with a zero added. */
		memcpy(from, found.data, found.len);
		from[found.len] = 0;
		at.len = sizeof(from);
		if (!error && now_ms - approval.approved_ms >= KEPT_MS)
			db_cursor_delete(&cursor);
	}
	db_cursor_close(&cursor);
	return error ? error : txn->error;
}

static int check_wanted(struct service_call *call, const char *purpose, const struct wanted *wanted)
{
	int error = subject_check(call, purpose, wanted->gallery, wanted->subject);

	if (!error && !wanted->recipient.len)
		error = call_fail(call, BM_EMISSING, "recipient_key", NULL);
	if (!error && wanted->recipient.len > RECIPIENT_MAX)
		error = call_failf(call, BM_EINVAL, "recipient_key", "at most %d bytes of PEM",
				   RECIPIENT_MAX);
	if (!error)
		trail_input(call, wanted->recipient);
	return error;
}

/* That nobody approves what cannot be done: the key must be one. */
static int check_recipient(struct service_call *call, struct bytes recipient)
{
	uint8_t *sealed;
	size_t len;
	int error = envelope_seal_bytes((struct bytes){0}, recipient, &sealed, &len);

	if (!error)
		free(sealed);
	return error == BM_EKEY ? call_fail(call, BM_EINVAL, "recipient_key",
					    "the key is not an X25519 public key in PEM")
				: error;
}

static struct wanted approved_of(const struct service_call *call)
{
	const Biomatch__V1__ApproveSubjectExportRequest *r = (const void *)call->request;

	return (struct wanted){
		r->gallery, r->subject_id, {r->recipient_key.data, r->recipient_key.len}};
}

static int approve_prepare(struct service_call *call)
{
	const Biomatch__V1__ApproveSubjectExportRequest *request = (const void *)call->request;
	const struct wanted wanted = approved_of(call);
	int error = check_wanted(call, request->purpose, &wanted);

	if (!error)
		error = check_recipient(call, wanted.recipient);
	return error ? error : call_check_request_id(call, request->request_id);
}

static int approve_find(struct service_call *call, struct faceworker *worker)
{
	const struct wanted wanted = approved_of(call);
	struct gallery_subject subject;
	struct gallery_info info;

	(void)worker;
	return subject_find(call, wanted.gallery, wanted.subject, &info, &subject);
}

static int approve(struct service_call *call, struct db_txn *txn)
{
	Biomatch__V1__ApproveSubjectExportResponse *out =
		call_message(call, &biomatch__v1__approve_subject_export_response__descriptor);
	const struct wanted wanted = approved_of(call);
	struct approval approval;
	struct approval_key key;
	int error = out ? make_key(call, &wanted, &key) : BM_ENOMEM;

	memset(&approval, 0, sizeof(approval));
	approval.approved_ms = clock_wall_ms();
	if (!error && strlen(call->uri) >= URI_MAX)
		error = BM_EINVAL;
	if (!error)
		error = forget_old(txn, approval.approved_ms);
	if (error)
		return error;
	strcpy(approval.uri, call->uri);
	approval.sum = sum_of(&approval);
	db_put(txn, DB_META, key_bytes(&key),
	       (struct bytes){(const uint8_t *)&approval, sizeof(approval)});
	out->expires_at = time_to_wire(call, approval.approved_ms + WINDOW_MS);
	call->response = &out->base;
	return out->expires_at ? txn->error : BM_ENOMEM;
}

const struct rpc approve_subject_export_rpc = {
	.path = "/biomatch.v1.AdminService/ApproveSubjectExport",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__approve_subject_export_request__descriptor,
	.response = &biomatch__v1__approve_subject_export_response__descriptor,
	.receipt = offsetof(Biomatch__V1__ApproveSubjectExportResponse, receipt),
	.prepare = approve_prepare,
	.steps = {{CALL_READ, approve_find}},
	.apply = approve,
};

static struct wanted exported_of(const struct service_call *call)
{
	const Biomatch__V1__ExportSubjectRequest *r = (const void *)call->request;

	return (struct wanted){
		r->gallery, r->subject_id, {r->recipient_key.data, r->recipient_key.len}};
}

static int export_prepare(struct service_call *call)
{
	const Biomatch__V1__ExportSubjectRequest *request = (const void *)call->request;
	const struct wanted wanted = exported_of(call);

	return check_wanted(call, request->purpose, &wanted);
}

/* Who has approved it; nobody approves their own export. */
static int find_approval(struct service_call *call, struct db_txn *txn, struct approval *out)
{
	const struct wanted wanted = exported_of(call);
	struct approval_key key;
	struct bytes value;
	int64_t age_ms;
	int error = make_key(call, &wanted, &key);

	if (error)
		return error;
	if (!db_get(txn, DB_META, key_bytes(&key), &value))
		return txn->error ? txn->error : BM_EAPPROVAL;
	error = load(value, out);
	if (error)
		return error;
	age_ms = clock_wall_ms() - out->approved_ms;
	if (age_ms < 0 || age_ms >= WINDOW_MS)
		return BM_EAPPROVALLATE;
	return strcmp(out->uri, call->uri) ? 0 : BM_EAPPROVALOWN;
}

static int add_entry(struct service_call *call, Biomatch__V1__SubjectExport *out, size_t *room,
		     struct bytes entry)
{
	ProtobufCBinaryData *list = out->audit_entries;

	if (out->n_audit_entries == *room) {
		list = call_alloc(call, 2 * *room * sizeof(*list));
		if (!list)
			return BM_ENOMEM;
		memcpy(list, out->audit_entries, *room * sizeof(*list));
		*room *= 2;
		out->audit_entries = list;
	}
	list += out->n_audit_entries++;
	list->len = entry.len;
	list->data = (uint8_t *)arena_strndup(&call->arena, (const char *)entry.data, entry.len);
	return list->data ? 0 : BM_ENOMEM;
}

/*
 * The entries that hold the pseudonym, wherever in them: it is 32 bytes that only
 * the subject's entries have.
 */
static int gather_entries(struct service_call *call, struct db_txn *txn,
			  Biomatch__V1__SubjectExport *out, uint64_t *next)
{
	const ProtobufCBinaryData *name = &out->pseudonym;
	size_t room = 16, bytes = 0;
	uint64_t at = *next;
	struct bytes entry;
	int error = at ? 0 : audit_first(txn, &at);

	out->audit_entries = call_alloc(call, room * sizeof(*out->audit_entries));
	if (!out->audit_entries)
		return BM_ENOMEM;
	for (; !error && audit_get(txn, at, &entry); at++) {
		if (at % 1024 == 0 && call_should_stop(call))
			return BM_ECANCELLED;
		if (!memmem(entry.data, entry.len, name->data, name->len))
			continue;
		bytes += entry.len;
		if (bytes > ENTRIES_MAX || out->n_audit_entries == ENTRIES)
			break;
		error = add_entry(call, out, &room, entry);
	}
	*next = !error && audit_get(txn, at, &entry) ? at : 0;
	return error ? error : txn->error;
}

static int add_image(struct service_call *call, struct gallery_snapshot *snapshot,
		     const struct gallery_info *info, const struct gallery_encounter *encounter,
		     Biomatch__V1__SubjectExport *out, size_t *bytes)
{
	const Biomatch__V1__ExportSubjectRequest *request = (const void *)call->request;
	Biomatch__V1__KeptImage *image = call_message(call, &biomatch__v1__kept_image__descriptor);
	struct bytes picture;
	int error;

	if (!image)
		return BM_ENOMEM;
	error = gallery_image(snapshot, info, request->subject_id, encounter->id, &call->arena,
			      &picture);
	/* Erased since the encounters were read. */
	if (error == BM_ENOIMAGE || error == BM_ENOENCOUNTER || error == BM_ENOREFERENCE)
		return 0;
	if (error)
		return error;
	image->encounter_id = (char *)(uintptr_t)encounter->id;
	image->data = (ProtobufCBinaryData){picture.len, (uint8_t *)(uintptr_t)picture.data};
	out->images[out->n_images++] = image;
	*bytes += picture.len;
	return 0;
}

/* Where an encounter is; the first where it is not there any more. */
static size_t position_of(const struct gallery_subject *subject, const char *encounter)
{
	for (size_t i = 0; i < subject->n; i++) {
		if (!strcmp(subject->encounters[i].id, encounter))
			return i;
	}
	return 0;
}

/* From one encounter on; *next is where the next part begins, "" behind the last. */
static int gather_images(struct service_call *call, const struct gallery_info *info,
			 const struct gallery_subject *subject, Biomatch__V1__SubjectExport *out,
			 const char **next)
{
	struct gallery_snapshot *snapshot;
	size_t bytes = 0, at = position_of(subject, *next);
	int error = gallery_snapshot_open(call->service->options.store, &snapshot);

	if (error)
		return error;
	out->images = call_alloc(call, (subject->n + 1) * sizeof(*out->images));
	if (!out->images)
		error = BM_ENOMEM;
	for (; !error && at < subject->n && bytes < IMAGES_MAX; at++) {
		if (subject->encounters[at].has_image)
			error = add_image(call, snapshot, info, &subject->encounters[at], out,
					  &bytes);
	}
	gallery_snapshot_close(snapshot);
	while (at < subject->n && !subject->encounters[at].has_image)
		at++;
	*next = at < subject->n ? subject->encounters[at].id : "";
	return error;
}

/* What the next part begins with, once this one is made. */
struct cursor {
	uint64_t entry;
	const char *image;
};

static int fill_in(struct service_call *call, struct db_txn *txn, Biomatch__V1__SubjectExport *out,
		   struct cursor *next)
{
	const Biomatch__V1__ExportSubjectRequest *request = (const void *)call->request;
	struct gallery_subject subject;
	struct gallery_info info;
	int error = subject_find(call, request->gallery, request->subject_id, &info, &subject);

	if (!error)
		error = encounters_to_wire(call, &subject, &out->encounters, &out->n_encounters);
	if (!error && !next->entry)
		error = gather_images(call, &info, &subject, out, &next->image);
	if (error)
		return error;
	out->format = (char *)(uintptr_t)EXPORT_FORMAT;
	out->gallery = request->gallery;
	out->subject_id = request->subject_id;
	out->exported_by = call->uri;
	out->made_at = time_to_wire(call, clock_wall_ms());
	out->model = arena_strndup(&call->arena, info.model, strlen(info.model));
	out->dimension = info.dim;
	out->pseudonym = call->trail->subject;
	if (!out->made_at || !out->model || call->trail_error)
		return BM_ENOMEM;
	return *next->image ? 0 : gather_entries(call, txn, out, &next->entry);
}

/* Packs and seals; what was packed is wiped. */
static int seal(struct service_call *call, const Biomatch__V1__SubjectExport *from,
		ProtobufCBinaryData *out)
{
	const struct wanted wanted = exported_of(call);
	uint8_t *packed, *sealed;
	size_t packed_len, len;
	int error = wire_pack(&from->base, &packed, &packed_len);

	if (error)
		return error;
	error = envelope_seal_bytes((struct bytes){packed, packed_len}, wanted.recipient, &sealed,
				    &len);
	bytes_wipe(packed, packed_len);
	free(packed);
	/* It was a key when it was approved. */
	if (error)
		return error == BM_EKEY ? BM_ENOMEM : error;
	out->data = (uint8_t *)arena_strndup(&call->arena, (const char *)sealed, len);
	out->len = len;
	free(sealed);
	return out->data ? 0 : BM_ENOMEM;
}

static int export(struct service_call *call, struct faceworker *worker)
{
	const Biomatch__V1__ExportSubjectRequest *request = (const void *)call->request;
	Biomatch__V1__ExportSubjectResponse *out =
		call_message(call, &biomatch__v1__export_subject_response__descriptor);
	Biomatch__V1__SubjectExport *held =
		call_message(call, &biomatch__v1__subject_export__descriptor);
	struct cursor next = {request->first_entry, request->first_image};
	struct approval approval;
	struct db_txn txn;
	int error;

	(void)worker;
	if (!out || !held)
		return BM_ENOMEM;
	error = db_begin_read(call->service->options.db, &txn);
	if (error)
		return error;
	error = find_approval(call, &txn, &approval);
	held->approved_by = approval.uri;
	if (!error)
		error = fill_in(call, &txn, held, &next);
	db_abort(&txn);
	if (!error)
		error = seal(call, held, &out->sealed);
	out->next_entry = next.entry;
	out->next_image = (char *)(uintptr_t)next.image;
	call->response = &out->base;
	return error;
}

const struct rpc export_subject_rpc = {
	.path = "/biomatch.v1.AdminService/ExportSubject",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__export_subject_request__descriptor,
	.response = &biomatch__v1__export_subject_response__descriptor,
	.receipt = offsetof(Biomatch__V1__ExportSubjectResponse, receipt),
	.prepare = export_prepare,
	.steps = {{CALL_READ, export}},
};
