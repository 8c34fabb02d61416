#include "store.h"

int facts_verify(const struct row_facts *facts)
{
	return facts->sum == record_sum(facts, sizeof(*facts)) ? 0 : BM_ECORRUPT;
}

void row_seal(struct row_facts *facts, const float *floats, size_t dim)
{
	facts->template_sum = bytes_checksum(floats, dim * sizeof(float));
	facts->sum = record_sum(facts, sizeof(*facts));
}

int row_verify(const struct row_facts *facts, const float *floats, size_t dim)
{
	if (facts_verify(facts))
		return BM_ECORRUPT;
	return facts->template_sum == bytes_checksum(floats, dim * sizeof(float)) ? 0 : BM_ECORRUPT;
}

static size_t tail_len(size_t dim)
{
	return VECTOR_OFFSET + dim * sizeof(float) + sizeof(struct row_facts);
}

int tail_row_parse(struct bytes value, size_t dim, struct row *out)
{
	if (value.len != tail_len(dim))
		return BM_ECORRUPT;
	out->floats = (const float *)(const void *)(value.data + VECTOR_OFFSET);
	if ((uintptr_t)out->floats % _Alignof(float)) {
		memcpy(out->copy, out->floats, dim * sizeof(float));
		out->floats = out->copy;
	}
	memcpy(&out->facts, value.data + VECTOR_OFFSET + dim * sizeof(float), sizeof(out->facts));
	return 0;
}

/* The position of a row in a segment; false when it is not there. */
static bool position_of(const struct segment *segment, uint64_t row, uint32_t *out)
{
	uint32_t low = 0, high = segment->head.rows;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (segment->facts[middle].row < row)
			low = middle + 1;
		else
			high = middle;
	}
	*out = low;
	return low < segment->head.rows && segment->facts[low].row == row;
}

static int find_in_segment(struct db_txn *txn, const struct gallery_record *gallery, uint64_t row,
			   struct segment *segment, uint32_t *at)
{
	if (!segment_at_or_after(txn, gallery, row, segment))
		return txn->error ? txn->error : BM_ECORRUPT;
	if (!position_of(segment, row, at) || !(segment->live[*at / 64] >> (*at % 64) & 1))
		return BM_ECORRUPT;
	return 0;
}

int row_read(struct db_txn *txn, const struct gallery_record *gallery, uint64_t row,
	     struct row *out)
{
	struct record_key key = row_key(gallery->id, row);
	struct segment segment;
	struct bytes value;
	uint32_t at;
	int error;

	if (db_get(txn, DB_TAIL, key_bytes(&key), &value)) {
		error = tail_row_parse(value, gallery->dim, out);
	} else {
		error = find_in_segment(txn, gallery, row, &segment, &at);
		if (!error) {
			const float *part = segment_part(txn, gallery, &segment, at / PART_ROWS);

			if (!part)
				return txn->error;
			out->facts = segment.facts[at];
			out->floats = part + (size_t)(at % PART_ROWS) * gallery->dim;
		}
	}
	if (!error && out->facts.row != row)
		error = BM_ECORRUPT;
	return error ? error : row_verify(&out->facts, out->floats, gallery->dim);
}

uint64_t rows_first(struct db_txn *txn, const struct gallery_record *gallery)
{
	struct record_key key = row_key(gallery->id, 0);
	uint64_t first = gallery->next_row;
	struct segment segment;
	struct db_cursor cursor;
	struct bytes found, value;

	db_cursor_open(txn, DB_TAIL, &cursor);
	if (db_cursor_seek(&cursor, key_bytes(&key), &found, &value) &&
	    key_in_gallery(found, gallery->id))
		first = key_row(found);
	db_cursor_close(&cursor);
	if (segment_at_or_after(txn, gallery, 0, &segment) && segment.head.first_row < first)
		first = segment.head.first_row;
	return first;
}

void row_append(struct db_txn *txn, struct gallery_record *gallery, struct row_facts *facts,
		const float *floats)
{
	struct record_key key = row_key(gallery->id, gallery->next_row);
	uint8_t *value = db_reserve(txn, DB_TAIL, key_bytes(&key), tail_len(gallery->dim));

	if (!value)
		return;
	facts->row = gallery->next_row++;
	row_seal(facts, floats, gallery->dim);
	memset(value, 0, VECTOR_OFFSET);
	memcpy(value + VECTOR_OFFSET, floats, gallery->dim * sizeof(float));
	memcpy(value + VECTOR_OFFSET + gallery->dim * sizeof(float), facts, sizeof(*facts));
	gallery->tail_rows++;
}

/* A copy of a value in its place, to be changed; NULL with the transaction's error set. */
static uint8_t *rewrite(struct db_txn *txn, struct record_key key, size_t min)
{
	struct bytes old;
	uint8_t *value;

	if (!db_get(txn, DB_SEGMENTS, key_bytes(&key), &old) || old.len < min) {
		txn->error = txn->error ? txn->error : BM_ECORRUPT;
		return NULL;
	}
	/* The old bytes stay readable: LMDB reuses no page within a transaction. */
	value = db_reserve(txn, DB_SEGMENTS, key_bytes(&key), old.len);
	return value && value != old.data ? memmove(value, old.data, old.len) : value;
}

/* No copy stays: neither the template nor its codes nor whose it was. */
static void erase_in_segment(struct db_txn *txn, const struct gallery_record *gallery,
			     const struct segment *segment, uint32_t at)
{
	size_t vector = gallery->dim * sizeof(float);
	size_t from = VECTOR_OFFSET + (at % PART_ROWS) * vector;
	uint64_t last = segment->head.last_row, row = segment->facts[at].row;
	size_t signs = code_sign_bytes(segment->head.rows, gallery->dim);
	size_t codes = VECTOR_OFFSET + signs + code_nibble_bytes(segment->head.rows, gallery->dim);
	struct row_facts *facts;
	uint8_t *value;

	value = rewrite(txn, plane_key(gallery->id, last, PLANE_F32, at / PART_ROWS),
			from + vector);
	if (value)
		memset(value + from, 0, vector);
	value = rewrite(txn, plane_key(gallery->id, last, PLANE_CODES, 0), codes);
	if (value)
		code_erase(at, gallery->dim, value + VECTOR_OFFSET, value + VECTOR_OFFSET + signs);
	facts = (void *)rewrite(txn, plane_key(gallery->id, last, PLANE_FACTS, 0),
				(at + 1) * sizeof(*facts));
	if (facts) /* the order of rows stays, for the search of others */
		facts[at] = (struct row_facts){.row = row};
}

static int remove_from_segment(struct db_txn *txn, struct gallery_record *gallery, uint64_t row)
{
	struct segment segment;
	uint32_t at;
	int error = find_in_segment(txn, gallery, row, &segment, &at);

	if (error)
		return error;
	erase_in_segment(txn, gallery, &segment, at);
	segment.live[at / 64] &= ~(UINT64_C(1) << (at % 64));
	segment.head.live--;
	segment_write_head(txn, gallery->id, &segment);
	gallery->dead_rows++;
	return txn->error;
}

int row_remove(struct db_txn *txn, struct gallery_record *gallery, uint64_t row)
{
	struct record_key key = row_key(gallery->id, row);

	db_want_scrub(txn->db);
	if (db_delete(txn, DB_TAIL, key_bytes(&key))) {
		gallery->tail_rows--;
		return 0;
	}
	return txn->error ? txn->error : remove_from_segment(txn, gallery, row);
}
