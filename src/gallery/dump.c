/*
 * Galleries as they can be read without the store's key.
 */
#include <stdlib.h>

#include "biomatch/score.h"
#include "store.h"

/* A subject as it is shown. */
struct show {
	struct gallery_snapshot *snapshot;
	const struct gallery_info *gallery;
	struct gallery_record record;
	struct subject subject;
	struct gallery_dumped dumped;
	struct gallery_encounter encounters[GALLERY_MAX_ENCOUNTERS];
	_Alignas(64) float templates[];
};

static int take_encounter(struct show *show, uint16_t i)
{
	const struct stored_encounter *encounter = &show->subject.encounters[i];
	size_t dim = show->record.dim;
	float *to = show->templates + i * dim;
	struct row row;
	int error = row_read(&show->snapshot->txn, &show->record, encounter->row, &row);

	if (!error && memcmp(row.facts.subject, show->subject.pseudonym, KEYS_PSEUDONYM_LEN))
		error = BM_ECORRUPT;
	if (!error)
		error = rotation_undo(show->snapshot->store, show->record.id,
				      row_generation(encounter->row), row.floats, dim, to);
	/* What turning there and back has taken or added. */
	if (!error)
		error = score_normalise(to, dim);
	encounter_load(encounter, &show->encounters[i]);
	show->encounters[i].has_image = image_exists(&show->snapshot->txn, show->record.id,
						     show->subject.pseudonym, encounter);
	return error ? error : show->snapshot->txn.error;
}

static int take_subject(struct show *show, const uint8_t *pseudonym)
{
	struct gallery_dumped *out = &show->dumped;
	int error = subject_read(&show->snapshot->txn, show->record.id, pseudonym, &show->subject);

	out->n = error ? 0 : show->subject.n;
	if (error || !out->n)
		return error;
	error = subject_name(show->snapshot->store, &show->snapshot->txn, show->record.id,
			     pseudonym, out->id);
	if (!error)
		error = gallery_holds(show->snapshot, show->gallery, out->id, out->holds,
				      &out->n_holds);
	for (uint16_t i = 0; !error && i < show->subject.n; i++)
		error = take_encounter(show, i);
	return error;
}

static int show_all(struct show *show, int (*visit)(void *ctx, const struct gallery_dumped *),
		    void *ctx)
{
	static const uint8_t first[KEYS_PSEUDONYM_LEN];
	struct record_key key = subject_key(show->record.id, first);
	struct bytes found, value;
	struct db_cursor cursor;
	int error = 0;
	bool more;

	db_cursor_open(&show->snapshot->txn, DB_SUBJECTS, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (; more && !error && key_in_gallery(found, show->record.id);
	     more = db_cursor_next(&cursor, &found, &value)) {
		error = take_subject(show, found.data + 4);
		if (!error && show->dumped.n)
			error = visit(ctx, &show->dumped);
	}
	db_cursor_close(&cursor);
	return error ? error : show->snapshot->txn.error;
}

int gallery_dump(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		 int (*visit)(void *ctx, const struct gallery_dumped *subject), void *ctx)
{
	size_t len =
		(sizeof(struct show) + GALLERY_MAX_ENCOUNTERS * gallery->dim * sizeof(float) + 63) &
		~(size_t)63;
	struct show *show = aligned_alloc(64, len);
	int error;

	if (!show)
		return BM_ENOMEM;
	memset(show, 0, len);
	show->snapshot = snapshot;
	show->gallery = gallery;
	show->record = record_of(gallery);
	show->dumped.encounters = show->encounters;
	show->dumped.templates = show->templates;
	error = show_all(show, visit, ctx);
	bytes_wipe(show, len);
	free(show);
	return error;
}
