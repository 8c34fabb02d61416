#include "store.h"

/* A segment with fewer live rows than this share of its rows is emptied. */
#define SPARSE(segment) ((segment)->head.live * 2 < (segment)->head.rows)

static bool find_sparse(struct db_txn *txn, const struct gallery_record *gallery,
			struct segment *out)
{
	uint64_t row = 0;

	while (segment_at_or_after(txn, gallery, row, out)) {
		if (SPARSE(out))
			return true;
		row = out->head.last_row + 1;
	}
	return false;
}

/* One step for one gallery; *did tells whether there was anything to do. */
static int maintain_gallery(struct gallery_store *store, struct db_txn *txn,
			    struct gallery_record *gallery, bool *did)
{
	struct segment segment;
	int error = 0;

	*did = true;
	if (reencode_wanted(store, txn, gallery)) {
		error = reencode_step(store, txn, gallery);
	} else if (gallery->tail_rows >= store->segment_rows) {
		error = segment_seal(txn, gallery, store->segment_rows);
	} else if (gallery->dead_rows * 2 > store->segment_rows &&
		   find_sparse(txn, gallery, &segment)) {
		error = segment_empty(store, txn, gallery, &segment);
	} else {
		*did = false;
		return txn->error;
	}
	if (!error)
		record_write(txn, gallery);
	return error ? error : txn->error;
}

int gallery_maintain(struct gallery_store *store, struct db_txn *txn, bool *more)
{
	uint8_t name[GALLERY_NAME_MAX] = "a";
	struct bytes from = {name, 1}, found, value;
	struct gallery_record gallery;
	struct db_cursor cursor;

	*more = false;
	while (!txn->error) {
		bool ok;
		int error;

		db_cursor_open(txn, DB_GALLERIES, &cursor);
		ok = db_cursor_seek(&cursor, from, &found, &value);
		db_cursor_close(&cursor);
		if (!ok)
			break;
		if (value.len != sizeof(gallery) || record_check(value, sizeof(gallery)))
			return BM_ECORRUPT;
		memcpy(&gallery, value.data, sizeof(gallery));
		error = maintain_gallery(store, txn, &gallery, more);
		if (error || *more)
			return error;
		/* The next name: the same with a NUL behind it sorts just after. */
		memcpy(name, found.data, found.len);
		from.len = found.len;
		if (from.len == sizeof(name))
			break;
		name[from.len++] = 0;
	}
	return txn->error;
}
