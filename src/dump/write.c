#include <stdlib.h>

#include "biomatch/file.h"
#include "biomatch/wire.h"
#include "dump.h"

/* What a subject's record is made in. */
struct writer {
	struct gallery_snapshot *snapshot;
	struct gallery_info gallery; /* whose subjects are written */
	struct dump_stream stream;
	struct arena arena;
};

static int write_bytes(struct dump_stream *stream, const void *data, size_t len)
{
	int error = stream_take(stream, data, len);

	return error ? error : file_write_full(stream->fd, data, len);
}

static int write_record(struct dump_stream *stream, const Biomatch__V1__DumpRecord *record)
{
	uint8_t *packed, head[4];
	size_t len;
	int error = wire_pack(&record->base, &packed, &len);

	if (error)
		return error;
	assert(len <= DUMP_RECORD_MAX);
	bytes_put_be32(head, (uint32_t)len);
	error = write_bytes(stream, head, sizeof(head));
	if (!error)
		error = write_bytes(stream, packed, len);
	bytes_wipe(packed, len);
	free(packed);
	return error;
}

static void set_time(Google__Protobuf__Timestamp *to, int64_t ms)
{
	google__protobuf__timestamp__init(to);
	to->seconds = ms / 1000;
	to->nanos = (int32_t)(ms % 1000) * 1000000;
}

static Google__Protobuf__Timestamp *new_time(struct arena *arena, int64_t ms)
{
	Google__Protobuf__Timestamp *out = arena_alloc(arena, sizeof(*out));

	if (out)
		set_time(out, ms);
	return out;
}

static int write_header(struct dump_stream *stream, int64_t now_ms)
{
	Biomatch__V1__DumpRecord record = BIOMATCH__V1__DUMP_RECORD__INIT;
	Biomatch__V1__DumpHeader header = BIOMATCH__V1__DUMP_HEADER__INIT;
	Google__Protobuf__Timestamp made_at;

	set_time(&made_at, now_ms);
	header.format = (char *)(uintptr_t)DUMP_FORMAT;
	header.made_at = &made_at;
	header.software = (char *)(uintptr_t)BIOMATCH_VERSION;
	record.kind_case = BIOMATCH__V1__DUMP_RECORD__KIND_HEADER;
	record.header = &header;
	return write_record(stream, &record);
}

static int write_gallery(struct dump_stream *stream, const struct gallery_info *info)
{
	Biomatch__V1__DumpRecord record = BIOMATCH__V1__DUMP_RECORD__INIT;
	Biomatch__V1__DumpGallery gallery = BIOMATCH__V1__DUMP_GALLERY__INIT;
	Google__Protobuf__Timestamp created_at;

	set_time(&created_at, info->created_ms);
	gallery.name = (char *)(uintptr_t)info->name;
	gallery.model = (char *)(uintptr_t)info->model;
	gallery.model_digest =
		(ProtobufCBinaryData){sizeof(info->digest), (uint8_t *)(uintptr_t)info->digest};
	gallery.dimension = info->dim;
	gallery.created_at = &created_at;
	record.kind_case = BIOMATCH__V1__DUMP_RECORD__KIND_GALLERY;
	record.gallery = &gallery;
	stream->counts.galleries++;
	return write_record(stream, &record);
}

static int fill_encounter(struct arena *arena, const struct gallery_dumped *from, size_t i,
			  uint32_t dim, Biomatch__V1__DumpEncounter **out)
{
	const struct gallery_encounter *encounter = &from->encounters[i];
	Biomatch__V1__DumpEncounter *to = arena_alloc(arena, sizeof(*to));
	Biomatch__V1__Encounter *facts = arena_alloc(arena, sizeof(*facts));

	if (!to || !facts)
		return BM_ENOMEM;
	biomatch__v1__dump_encounter__init(to);
	biomatch__v1__encounter__init(facts);
	facts->encounter_id = (char *)(uintptr_t)encounter->id;
	facts->encounter_type = (char *)(uintptr_t)encounter->type;
	facts->site = (char *)(uintptr_t)encounter->site;
	facts->captured_at = new_time(arena, encounter->captured_ms);
	facts->enrolled_at = new_time(arena, encounter->enrolled_ms);
	if (encounter->expires_ms != GALLERY_NEVER) {
		facts->expires_at = new_time(arena, encounter->expires_ms);
		if (!facts->expires_at)
			return BM_ENOMEM;
	}
	to->facts = facts;
	to->template_ = (ProtobufCBinaryData){dim * sizeof(float),
					      (uint8_t *)(uintptr_t)(from->templates + i * dim)};
	*out = to;
	return facts->captured_at && facts->enrolled_at ? 0 : BM_ENOMEM;
}

static int fill_hold(struct arena *arena, const struct gallery_hold *from,
		     Biomatch__V1__LegalHold **out)
{
	Biomatch__V1__LegalHold *to = arena_alloc(arena, sizeof(*to));

	if (!to)
		return BM_ENOMEM;
	biomatch__v1__legal_hold__init(to);
	to->matter = (char *)(uintptr_t)from->matter;
	to->placed_at = new_time(arena, from->placed_ms);
	*out = to;
	return to->placed_at ? 0 : BM_ENOMEM;
}

static int write_image(struct writer *writer, const char *subject, const char *encounter)
{
	Biomatch__V1__DumpRecord record = BIOMATCH__V1__DUMP_RECORD__INIT;
	Biomatch__V1__DumpImage image = BIOMATCH__V1__DUMP_IMAGE__INIT;
	struct bytes picture;
	int error;

	arena_reset(&writer->arena);
	error = gallery_image(writer->snapshot, &writer->gallery, subject, encounter,
			      &writer->arena, &picture);
	if (error)
		return error;
	image.encounter_id = (char *)(uintptr_t)encounter;
	image.data = (ProtobufCBinaryData){picture.len, (uint8_t *)(uintptr_t)picture.data};
	record.kind_case = BIOMATCH__V1__DUMP_RECORD__KIND_IMAGE;
	record.image = &image;
	writer->stream.counts.images++;
	return write_record(&writer->stream, &record);
}

static int write_images(struct writer *writer, const struct gallery_dumped *from)
{
	int error = 0;

	for (size_t i = 0; !error && i < from->n; i++) {
		if (from->encounters[i].has_image)
			error = write_image(writer, from->id, from->encounters[i].id);
	}
	return error;
}

static int write_subject(void *ctx, const struct gallery_dumped *from)
{
	struct writer *writer = ctx;
	Biomatch__V1__DumpRecord record = BIOMATCH__V1__DUMP_RECORD__INIT;
	Biomatch__V1__DumpSubject subject = BIOMATCH__V1__DUMP_SUBJECT__INIT;
	Biomatch__V1__DumpEncounter *encounters[GALLERY_MAX_ENCOUNTERS];
	Biomatch__V1__LegalHold *holds[GALLERY_MAX_HOLDS];
	int error = 0;

	arena_reset(&writer->arena);
	for (size_t i = 0; !error && i < from->n; i++)
		error = fill_encounter(&writer->arena, from, i, writer->gallery.dim,
				       &encounters[i]);
	for (size_t i = 0; !error && i < from->n_holds; i++)
		error = fill_hold(&writer->arena, &from->holds[i], &holds[i]);
	if (error)
		return error;
	subject.subject_id = (char *)(uintptr_t)from->id;
	subject.encounters = encounters;
	subject.n_encounters = from->n;
	subject.holds = holds;
	subject.n_holds = from->n_holds;
	record.kind_case = BIOMATCH__V1__DUMP_RECORD__KIND_SUBJECT;
	record.subject = &subject;
	writer->stream.counts.subjects++;
	writer->stream.counts.encounters += from->n;
	error = write_record(&writer->stream, &record);
	return error ? error : write_images(writer, from);
}

static int write_end(struct dump_stream *stream)
{
	Biomatch__V1__DumpRecord record = BIOMATCH__V1__DUMP_RECORD__INIT;
	Biomatch__V1__DumpEnd end = BIOMATCH__V1__DUMP_END__INIT;
	uint8_t digest[DUMP_DIGEST_LEN];
	int error = stream_digest(stream, digest);

	if (error)
		return error;
	end.galleries = stream->counts.galleries;
	end.subjects = stream->counts.subjects;
	end.encounters = stream->counts.encounters;
	end.images = stream->counts.images;
	end.sha256 = (ProtobufCBinaryData){sizeof(digest), digest};
	record.kind_case = BIOMATCH__V1__DUMP_RECORD__KIND_END;
	record.end = &end;
	return write_record(stream, &record);
}

static int write_galleries(struct writer *writer)
{
	struct gallery_info *gallery = &writer->gallery;
	size_t n = 1;
	int error = 0;

	while (!error && n) {
		error = gallery_list(writer->snapshot, gallery->name, gallery, 1, &n);
		if (error || !n)
			break;
		error = write_gallery(&writer->stream, gallery);
		if (!error)
			error = gallery_dump(writer->snapshot, gallery, write_subject, writer);
	}
	return error;
}

int dump_write(struct gallery_store *store, int64_t now_ms, int fd, struct dump_counts *counts)
{
	struct writer writer = {0};
	int error = gallery_snapshot_open(store, &writer.snapshot);

	if (error)
		return error;
	arena_init(&writer.arena, DUMP_MEMORY);
	error = stream_open(&writer.stream, fd);
	if (!error)
		error = write_header(&writer.stream, now_ms);
	if (!error)
		error = write_galleries(&writer);
	if (!error)
		error = write_end(&writer.stream);
	*counts = writer.stream.counts;
	stream_close(&writer.stream);
	arena_deinit(&writer.arena);
	gallery_snapshot_close(writer.snapshot);
	return error;
}
