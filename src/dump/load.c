#include <stdlib.h>

#include "biomatch/audit.h"
#include "biomatch/file.h"
#include "biomatch/wire.h"
#include "dump.h"

/* Encounters that one transaction takes. */
#define AT_ONCE 512
/* A picture counts like so many. */
#define PICTURE_COUNTS 32

struct loader {
	struct gallery_store *store;
	struct db *db;
	struct dump_stream stream;
	struct arena arena;
	int64_t now_ms;
	struct gallery_info gallery; /* that subjects are added to; no name before the first */
	char subject[GALLERY_SUBJECT_MAX + 1]; /* that pictures are added to; "" for none */
	struct db_txn txn;
	bool in_txn;
	unsigned in_batch;
	uint8_t digest[DUMP_DIGEST_LEN]; /* of what came before the record at hand */
	bool began, ended;
	float template[PACK_MAX_DIM];
	uint8_t packed[DUMP_RECORD_MAX];
};

static int read_bytes(struct loader *loader, void *out, size_t len)
{
	/* Whoever feeds the stream knows why it ended early. */
	if (file_read_full(loader->stream.fd, out, len))
		return BM_EDUMP;
	return stream_take(&loader->stream, out, len);
}

static int read_record(struct loader *loader, const Biomatch__V1__DumpRecord **out)
{
	ProtobufCMessage *message;
	uint8_t head[4];
	uint32_t len;
	int error = stream_digest(&loader->stream, loader->digest);

	if (!error)
		error = read_bytes(loader, head, sizeof(head));
	if (error)
		return error;
	len = bytes_get_be32(head);
	if (len > DUMP_RECORD_MAX)
		return BM_EDUMP;
	error = read_bytes(loader, loader->packed, len);
	if (error)
		return error;
	arena_reset(&loader->arena);
	error = wire_unpack(&biomatch__v1__dump_record__descriptor, &loader->arena,
			    (struct bytes){loader->packed, len}, &message);
	if (error)
		return error == BM_ENOMEM ? error : BM_EDUMP;
	*out = (const Biomatch__V1__DumpRecord *)message;
	return 0;
}

static int take_time(const Google__Protobuf__Timestamp *from, int64_t absent, int64_t *out)
{
	*out = absent;
	if (!from)
		return 0;
	if (from->seconds < 0 || from->seconds > INT64_C(253402300799) || from->nanos < 0 ||
	    from->nanos > 999999999)
		return BM_EDUMP;
	*out = from->seconds * 1000 + from->nanos / 1000000;
	return 0;
}

static int take_text(const char *from, size_t min, size_t max, char *to)
{
	size_t len = strlen(from);

	if (len < min || len > max)
		return BM_EDUMP;
	memcpy(to, from, len + 1);
	return 0;
}

static int apply(struct loader *loader, const struct gallery_change *change,
		 struct gallery_outcome *outcome)
{
	int error = 0;

	if (!loader->in_txn)
		error = db_begin_write(loader->db, &loader->txn);
	if (error)
		return error;
	loader->in_txn = true;
	loader->in_batch++;
	return gallery_apply(loader->store, &loader->txn, change, outcome);
}

static int commit(struct loader *loader)
{
	if (!loader->in_txn)
		return 0;
	loader->in_txn = false;
	loader->in_batch = 0;
	return db_commit(&loader->txn);
}

/* Seals what is full, as a daemon would between its writes. */
static int maintain(struct loader *loader)
{
	bool more = true;
	int error = 0;

	while (!error && more) {
		struct db_txn txn;

		error = db_begin_write(loader->db, &txn);
		if (error)
			return error;
		error = gallery_maintain(loader->store, &txn, &more);
		if (error)
			db_abort(&txn);
		else
			error = db_commit(&txn);
	}
	return error;
}

static int end_batch(struct loader *loader)
{
	int error;

	if (loader->in_batch < AT_ONCE)
		return 0;
	error = commit(loader);
	return error ? error : maintain(loader);
}

static int load_header(struct loader *loader, const Biomatch__V1__DumpHeader *header)
{
	if (loader->began || strcmp(header->format, DUMP_FORMAT) != 0)
		return BM_EDUMP;
	loader->began = true;
	return 0;
}

static int load_gallery(struct loader *loader, const Biomatch__V1__DumpGallery *from)
{
	struct gallery_change change = {.kind = GALLERY_CREATE};
	struct gallery_outcome outcome;
	char name[GALLERY_NAME_MAX + 1];
	int error = take_text(from->name, 1, GALLERY_NAME_MAX, name);

	if (!error)
		error = take_time(from->created_at, loader->now_ms, &change.now_ms);
	if (error)
		return error;
	change.gallery = name;
	error = apply(loader, &change, &outcome);
	if (error)
		return error;
	loader->gallery = outcome.gallery;
	loader->subject[0] = '\0';
	loader->stream.counts.galleries++;
	return from->dimension == outcome.gallery.dim &&
			       from->model_digest.len == sizeof(outcome.gallery.digest) &&
			       !memcmp(from->model_digest.data, outcome.gallery.digest,
				       sizeof(outcome.gallery.digest))
		       ? 0
		       : BM_EMODEL;
}

static int take_encounter(const Biomatch__V1__Encounter *from, int64_t now_ms,
			  struct gallery_encounter *to)
{
	int error =
		from ? take_text(from->encounter_id, 1, GALLERY_ENCOUNTER_MAX, to->id) : BM_EDUMP;

	if (!error)
		error = take_text(from->encounter_type, 0, GALLERY_TYPE_MAX, to->type);
	if (!error)
		error = take_text(from->site, 0, GALLERY_SITE_MAX, to->site);
	if (!error)
		error = take_time(from->captured_at, now_ms, &to->captured_ms);
	if (!error)
		error = take_time(from->enrolled_at, now_ms, &to->enrolled_ms);
	return error ? error : take_time(from->expires_at, GALLERY_NEVER, &to->expires_ms);
}

static int load_encounter(struct loader *loader, const char *subject,
			  const Biomatch__V1__DumpEncounter *from)
{
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = loader->gallery.name,
					.subject = subject,
					.embedding = loader->template,
					.dim = loader->gallery.dim,
					.now_ms = loader->now_ms};
	struct gallery_outcome outcome;
	int error = take_encounter(from->facts, loader->now_ms, &change.encounter);

	if (!error && from->template_.len != change.dim * sizeof(float))
		error = BM_EDUMP;
	if (error)
		return error;
	memcpy(loader->template, from->template_.data, from->template_.len);
	loader->stream.counts.encounters++;
	error = apply(loader, &change, &outcome);
	/* Not of unit length, twice the same name, or too many. */
	return error == BM_EINVAL || error == BM_EEXISTS || error == BM_ELIMIT ? BM_EDUMP : error;
}

static int load_hold(struct loader *loader, const char *subject,
		     const Biomatch__V1__LegalHold *from)
{
	struct gallery_change change = {
		.kind = GALLERY_HOLD, .gallery = loader->gallery.name, .subject = subject};
	struct gallery_outcome outcome;
	char matter[GALLERY_MATTER_MAX + 1];
	int error = take_text(from->matter, 1, GALLERY_MATTER_MAX, matter);

	if (!error)
		error = take_time(from->placed_at, loader->now_ms, &change.now_ms);
	if (error)
		return error;
	change.matter = matter;
	error = apply(loader, &change, &outcome);
	bytes_wipe(matter, sizeof(matter));
	return error == BM_EEXISTS || error == BM_ELIMIT ? BM_EDUMP : error;
}

static int load_subject(struct loader *loader, const Biomatch__V1__DumpSubject *from)
{
	int error = take_text(from->subject_id, 1, GALLERY_SUBJECT_MAX, loader->subject);

	if (!*loader->gallery.name || !from->n_encounters)
		return BM_EDUMP;
	for (size_t i = 0; !error && i < from->n_encounters; i++)
		error = load_encounter(loader, loader->subject, from->encounters[i]);
	for (size_t i = 0; !error && i < from->n_holds; i++)
		error = load_hold(loader, loader->subject, from->holds[i]);
	loader->stream.counts.subjects++;
	return error ? error : end_batch(loader);
}

static int load_image(struct loader *loader, const Biomatch__V1__DumpImage *from)
{
	struct gallery_change change = {
		.kind = GALLERY_KEEP_IMAGE,
		.gallery = loader->gallery.name,
		.subject = loader->subject,
		.image = {from->data.data, from->data.len},
		.now_ms = loader->now_ms,
	};
	struct gallery_outcome outcome;
	int error = take_text(from->encounter_id, 1, GALLERY_ENCOUNTER_MAX, change.encounter.id);

	if (!*loader->subject)
		error = BM_EDUMP;
	if (error)
		return error;
	loader->stream.counts.images++;
	loader->in_batch += PICTURE_COUNTS;
	error = apply(loader, &change, &outcome);
	if (error == BM_ENOENCOUNTER || error == BM_EEXISTS || error == BM_EIMGSIZE)
		error = BM_EDUMP;
	return error ? error : end_batch(loader);
}

/* The trace of where all this came from, in the transaction that completes it. */
static int leave_entry(struct loader *loader)
{
	Biomatch__V1__AuditEntry entry = BIOMATCH__V1__AUDIT_ENTRY__INIT;
	Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	ProtobufCBinaryData input = {sizeof(loader->digest), loader->digest};
	struct audit_receipt receipt;

	if (!loader->in_txn) {
		int error = db_begin_write(loader->db, &loader->txn);

		if (error)
			return error;
		loader->in_txn = true;
	}
	time.seconds = loader->now_ms / 1000;
	time.nanos = (int32_t)(loader->now_ms % 1000) * 1000000;
	entry.time = &time;
	entry.operation = (char *)(uintptr_t) "load";
	entry.outcome = (char *)(uintptr_t) "DONE";
	entry.inputs = &input;
	entry.n_inputs = 1;
	return audit_append(&loader->txn, &entry, &receipt);
}

static int load_end(struct loader *loader, const Biomatch__V1__DumpEnd *end)
{
	const struct dump_counts *counts = &loader->stream.counts;
	uint8_t more;
	int error;

	if (end->galleries != counts->galleries || end->subjects != counts->subjects ||
	    end->encounters != counts->encounters || end->images != counts->images ||
	    end->sha256.len != DUMP_DIGEST_LEN ||
	    memcmp(end->sha256.data, loader->digest, DUMP_DIGEST_LEN) != 0)
		return BM_EDUMP;
	/* Nothing follows the end. */
	if (!file_read_full(loader->stream.fd, &more, 1))
		return BM_EDUMP;
	loader->ended = true;
	error = leave_entry(loader);
	if (!error)
		error = commit(loader);
	return error ? error : maintain(loader);
}

static int load_record(struct loader *loader, const Biomatch__V1__DumpRecord *record)
{
	if (!loader->began && record->kind_case != BIOMATCH__V1__DUMP_RECORD__KIND_HEADER)
		return BM_EDUMP;
	switch (record->kind_case) {
	case BIOMATCH__V1__DUMP_RECORD__KIND_HEADER:
		return load_header(loader, record->header);
	case BIOMATCH__V1__DUMP_RECORD__KIND_GALLERY:
		return load_gallery(loader, record->gallery);
	case BIOMATCH__V1__DUMP_RECORD__KIND_SUBJECT:
		return load_subject(loader, record->subject);
	case BIOMATCH__V1__DUMP_RECORD__KIND_IMAGE:
		return load_image(loader, record->image);
	case BIOMATCH__V1__DUMP_RECORD__KIND_END:
		return load_end(loader, record->end);
	default:
		return BM_EDUMP;
	}
}

int dump_load(struct gallery_store *store, struct db *db, int64_t now_ms, int fd,
	      struct dump_counts *counts)
{
	struct loader *loader = calloc(1, sizeof(*loader));
	const Biomatch__V1__DumpRecord *record;
	int error;

	*counts = (struct dump_counts){0};
	if (!loader)
		return BM_ENOMEM;
	loader->store = store;
	loader->db = db;
	loader->now_ms = now_ms;
	arena_init(&loader->arena, DUMP_MEMORY);
	error = stream_open(&loader->stream, fd);
	while (!error && !loader->ended) {
		error = read_record(loader, &record);
		if (!error)
			error = load_record(loader, record);
	}
	if (loader->in_txn)
		db_abort(&loader->txn);
	*counts = loader->stream.counts;
	stream_close(&loader->stream);
	arena_deinit(&loader->arena);
	bytes_wipe(loader, sizeof(*loader));
	free(loader);
	return error;
}
