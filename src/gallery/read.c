#include "store.h"

int record_find(struct db_txn *txn, const char *name, struct gallery_record *out)
{
	struct bytes value;

	if (!db_get(txn, DB_GALLERIES, text_bytes(name), &value))
		return txn->error ? txn->error : BM_ENOGALLERY;
	if (value.len != sizeof(*out) || record_check(value, sizeof(*out)))
		return BM_ECORRUPT;
	memcpy(out, value.data, sizeof(*out));
	return 0;
}

void record_to_info(const struct gallery_record *record, struct gallery_info *info)
{
	*info = (struct gallery_info){
		.id = record->id,
		.dim = record->dim,
		.created_ms = record->created_ms,
		.subjects = record->subjects,
		.encounters = record->encounters,
		.held = record->held,
		.segments = record->segments,
		.tail_rows = record->tail_rows,
		.next_row = record->next_row,
		.key_generation = row_generation(record->next_row),
	};
	memcpy(info->digest, record->digest, sizeof(info->digest));
	text_load(info->name, record->name, GALLERY_NAME_MAX);
	text_load(info->model, record->model, GALLERY_MODEL_MAX);
}

struct gallery_record record_of(const struct gallery_info *info)
{
	struct gallery_record record = {
		.id = info->id, .dim = info->dim, .next_row = info->next_row};

	memcpy(record.digest, info->digest, sizeof(record.digest));
	return record;
}

int record_fits(const struct gallery_store *store, const struct gallery_record *record, size_t dim)
{
	return dim == record->dim &&
			       !memcmp(record->digest, store->pack->digest, sizeof(record->digest))
		       ? 0
		       : BM_EMODEL;
}

int gallery_find(struct gallery_snapshot *snapshot, const char *name, struct gallery_info *out)
{
	struct gallery_record record;
	int error = record_find(&snapshot->txn, name, &record);

	if (!error)
		record_to_info(&record, out);
	return error;
}

int gallery_list(struct gallery_snapshot *snapshot, const char *after, struct gallery_info *out,
		 size_t max, size_t *n)
{
	struct bytes from = text_bytes(*after ? after : "a"), found, value;
	struct gallery_record record;
	struct db_cursor cursor;
	int error = 0;
	bool more;

	*n = 0;
	db_cursor_open(&snapshot->txn, DB_GALLERIES, &cursor);
	more = db_cursor_seek(&cursor, from, &found, &value);
	if (more && *after && found.len == from.len && !memcmp(found.data, from.data, from.len))
		more = db_cursor_next(&cursor, &found, &value);
	for (; more && *n < max; more = db_cursor_next(&cursor, &found, &value)) {
		error = value.len == sizeof(record) ? record_check(value, sizeof(record))
						    : BM_ECORRUPT;
		if (error)
			break;
		memcpy(&record, value.data, sizeof(record));
		record_to_info(&record, &out[(*n)++]);
	}
	db_cursor_close(&cursor);
	return error ? error : snapshot->txn.error;
}

void encounter_load(const struct stored_encounter *from, struct gallery_encounter *to)
{
	text_load(to->id, from->id, GALLERY_ENCOUNTER_MAX);
	text_load(to->type, from->type, GALLERY_TYPE_MAX);
	text_load(to->site, from->site, GALLERY_SITE_MAX);
	to->captured_ms = from->captured_ms;
	to->expires_ms = from->expires_ms;
	to->enrolled_ms = from->enrolled_ms;
	to->has_image = false;
}

int gallery_subject(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		    const char *subject, struct arena *arena, struct gallery_subject *out)
{
	struct subject found;
	int error = subject_read_named(snapshot, gallery->id, subject, &found);

	if (!error && !found.n)
		error = BM_ENOREFERENCE;
	if (error)
		return error;
	out->encounters = arena_alloc(arena, found.n * sizeof(*out->encounters));
	if (!out->encounters)
		return BM_ENOMEM;
	out->is_held = found.is_held;
	for (out->n = 0; out->n < found.n; out->n++) {
		encounter_load(&found.encounters[out->n], &out->encounters[out->n]);
		out->encounters[out->n].has_image = image_exists(
			&snapshot->txn, gallery->id, found.pseudonym, &found.encounters[out->n]);
	}
	return snapshot->txn.error;
}

int gallery_rows_to_reencode(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
			     uint64_t *rows)
{
	const struct gallery_record record = record_of(gallery);
	uint64_t from = rows_first(&snapshot->txn, &record),
		 end = generation_first_row(gallery->key_generation);
	struct record_key key = row_key(record.id, from);
	struct segment segment;
	struct db_cursor cursor;
	struct bytes found, value;
	bool more;

	*rows = 0;
	while (from < end && segment_at_or_after(&snapshot->txn, &record, from, &segment) &&
	       segment.head.last_row < end) {
		*rows += segment.head.live;
		from = segment.head.last_row + 1;
	}
	db_cursor_open(&snapshot->txn, DB_TAIL, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (; more && key_in_gallery(found, record.id) && key_row(found) < end;
	     more = db_cursor_next(&cursor, &found, &value))
		++*rows;
	db_cursor_close(&cursor);
	return snapshot->txn.error;
}

void gallery_identify(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		      struct gallery_search *const *searches, size_t m,
		      const struct gallery_crew *crew)
{
	struct gallery_record record = record_of(gallery);

	search_rows(snapshot->store, &snapshot->txn, &record, searches, m, crew);
}

void gallery_identify_in(struct gallery_store *store, struct db_txn *txn, const char *gallery,
			 struct gallery_search *search)
{
	struct gallery_record record;

	search->error = record_find(txn, gallery, &record);
	if (!search->error)
		search_rows(store, txn, &record, &search, 1, NULL);
}
