/*
 * Moves a gallery to a later generation of the key: its rows, oldest first, a few
 * in each transaction, become rows of the tail under the new rotation. What a row
 * is under is in its number, so whoever stops here goes on from there.
 */
#include <stdio.h>

#include "biomatch/log.h"
#include "store.h"

/* What tells a generation's key, noted with its first use. */
struct note_key {
	char text[32];
};

static struct bytes note_key(unsigned generation, struct note_key *key)
{
	snprintf(key->text, sizeof(key->text), "key-generation-%u", generation);
	return text_bytes(key->text);
}

/* Under another key than its own a gallery's scores would mean nothing. */
static int check_generation(struct gallery_store *store, struct db_txn *txn, unsigned generation)
{
	struct note_key key;
	uint8_t fingerprint[16];
	struct bytes noted;

	if (generation >= keys_generations(store->keys))
		return BM_EKEY;
	if (!db_get(txn, DB_META, note_key(generation, &key), &noted))
		return txn->error;
	keys_fingerprint(store->keys, generation, fingerprint);
	return noted.len == sizeof(fingerprint) &&
			       !memcmp(noted.data, fingerprint, sizeof(fingerprint))
		       ? 0
		       : BM_EKEY;
}

int reencode_check_keys(struct gallery_store *store, struct db_txn *txn,
			const struct gallery_record *gallery)
{
	int error = check_generation(store, txn, row_generation(gallery->next_row));

	return error ? error
		     : check_generation(store, txn, row_generation(rows_first(txn, gallery)));
}

int reencode_begin(struct gallery_store *store, struct db_txn *txn, struct gallery_record *gallery,
		   unsigned generation)
{
	uint8_t fingerprint[16];
	struct note_key key;
	int error = check_generation(store, txn, generation);

	if (!error)
		error = rotation_prepare(store, gallery->id, generation, gallery->dim);
	if (error)
		return error;
	keys_fingerprint(store->keys, generation, fingerprint);
	db_put(txn, DB_META, note_key(generation, &key),
	       (struct bytes){fingerprint, sizeof(fingerprint)});
	gallery->next_row = generation_first_row(generation);
	record_write(txn, gallery);
	return txn->error;
}

bool reencode_wanted(const struct gallery_store *store, struct db_txn *txn,
		     const struct gallery_record *gallery)
{
	unsigned generation = row_generation(gallery->next_row);
	struct record_key key = row_key(gallery->id, 0);
	struct bytes found, value;
	struct db_cursor cursor;
	bool tail_is_full = false;

	if (!generation || row_generation(rows_first(txn, gallery)) == generation)
		return false;
	/* Sealed first: rows that were moved must not pile up there. */
	db_cursor_open(txn, DB_TAIL, &cursor);
	if (db_cursor_seek(&cursor, key_bytes(&key), &found, &value) &&
	    key_in_gallery(found, gallery->id))
		tail_is_full = row_generation(key_row(found)) == generation &&
			       gallery->tail_rows >= store->segment_rows;
	db_cursor_close(&cursor);
	return !tail_is_full;
}

/* The oldest rows of the tail, as far as they are of another generation. */
static size_t old_tail_rows(struct db_txn *txn, const struct gallery_record *gallery,
			    uint64_t rows[STEP_ROWS])
{
	unsigned generation = row_generation(gallery->next_row);
	struct record_key key = row_key(gallery->id, 0);
	struct bytes found, value;
	struct db_cursor cursor;
	size_t n = 0;
	bool more;

	db_cursor_open(txn, DB_TAIL, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (; more && n < STEP_ROWS && key_in_gallery(found, gallery->id) &&
	       row_generation(key_row(found)) != generation;
	     more = db_cursor_next(&cursor, &found, &value))
		rows[n++] = key_row(found);
	db_cursor_close(&cursor);
	return n;
}

static int move_segment(struct gallery_store *store, struct db_txn *txn,
			struct gallery_record *gallery)
{
	struct segment oldest;

	if (!segment_at_or_after(txn, gallery, 0, &oldest))
		return txn->error ? txn->error : BM_ECORRUPT;
	return segment_empty(store, txn, gallery, &oldest);
}

int reencode_step(struct gallery_store *store, struct db_txn *txn, struct gallery_record *gallery)
{
	unsigned generation = row_generation(gallery->next_row);
	uint64_t rows[STEP_ROWS];
	char name[GALLERY_NAME_MAX + 1];
	size_t n = old_tail_rows(txn, gallery, rows);
	int error = n ? rows_move(store, txn, gallery, rows, n) : move_segment(store, txn, gallery);

	if (!error && row_generation(rows_first(txn, gallery)) == generation) {
		text_load(name, gallery->name, GALLERY_NAME_MAX);
		log_notice("gallery_reencoded", "gallery=%s key_generation=%u", name,
			   generation + 1);
	}
	return error ? error : txn->error;
}
