#include <stdlib.h>

#include "store.h"

static bool segment_parse(struct db_txn *txn, const struct gallery_record *gallery,
			  struct bytes value, struct segment *out)
{
	struct record_key key;
	struct bytes facts;
	size_t words;

	txn->error = record_check(value, sizeof(out->head));
	if (txn->error)
		return false;
	memcpy(&out->head, value.data, sizeof(out->head));
	words = live_words(out->head.rows);
	key = plane_key(gallery->id, out->head.last_row, PLANE_FACTS, 0);
	if (out->head.rows > SEGMENT_ROWS ||
	    value.len != sizeof(out->head) + words * sizeof(uint64_t) ||
	    !db_get(txn, DB_SEGMENTS, key_bytes(&key), &facts) ||
	    facts.len != out->head.rows * sizeof(*out->facts)) {
		txn->error = txn->error ? txn->error : BM_ECORRUPT;
		return false;
	}
	memcpy(out->live, value.data + sizeof(out->head), words * sizeof(uint64_t));
	out->facts = (const struct row_facts *)(const void *)facts.data;
	return true;
}

void segment_write_head(struct db_txn *txn, uint32_t gallery, const struct segment *segment)
{
	struct record_key key = plane_key(gallery, segment->head.last_row, PLANE_HEAD, 0);
	size_t live_len = live_words(segment->head.rows) * sizeof(uint64_t);
	uint8_t value[sizeof(segment->head) + sizeof(segment->live)];
	struct segment_head head = segment->head;
	size_t len = sizeof(head) + live_len;

	memcpy(value, &head, sizeof(head));
	memcpy(value + sizeof(head), segment->live, live_len);
	head.sum = record_sum(value, len);
	memcpy(value, &head, sizeof(head));
	db_put(txn, DB_SEGMENTS, key_bytes(&key), (struct bytes){value, len});
}

bool segment_at_or_after(struct db_txn *txn, const struct gallery_record *gallery, uint64_t row,
			 struct segment *out)
{
	struct record_key key = plane_key(gallery->id, row, PLANE_HEAD, 0);
	struct db_cursor cursor;
	struct bytes found, head;
	bool ok;

	db_cursor_open(txn, DB_SEGMENTS, &cursor);
	ok = db_cursor_seek(&cursor, key_bytes(&key), &found, &head) &&
	     key_in_gallery(found, gallery->id);
	db_cursor_close(&cursor);
	return ok && segment_parse(txn, gallery, head, out);
}

const float *segment_part(struct db_txn *txn, const struct gallery_record *gallery,
			  const struct segment *segment, uint32_t part)
{
	struct record_key key = plane_key(gallery->id, segment->head.last_row, PLANE_F32, part);
	uint32_t rows = segment->head.rows - part * PART_ROWS;
	struct bytes value;

	if (rows > PART_ROWS)
		rows = PART_ROWS;
	if (!db_get(txn, DB_SEGMENTS, key_bytes(&key), &value) ||
	    value.len != VECTOR_OFFSET + (size_t)rows * gallery->dim * sizeof(float)) {
		txn->error = txn->error ? txn->error : BM_ECORRUPT;
		return NULL;
	}
	return (const float *)(const void *)(value.data + VECTOR_OFFSET);
}

static size_t codes_len(uint32_t rows, size_t dim)
{
	size_t len = VECTOR_OFFSET + code_sign_bytes(rows, dim) + code_nibble_bytes(rows, dim);

	return len < OWN_PAGES ? OWN_PAGES : len;
}

bool segment_codes(struct db_txn *txn, const struct gallery_record *gallery,
		   const struct segment *segment, struct code_segment *out)
{
	struct record_key key = plane_key(gallery->id, segment->head.last_row, PLANE_CODES, 0);
	struct bytes value;
	bool aligned;

	if (!db_get(txn, DB_SEGMENTS, key_bytes(&key), &value) ||
	    value.len != codes_len(segment->head.rows, gallery->dim)) {
		txn->error = txn->error ? txn->error : BM_ECORRUPT;
		return false;
	}
	aligned = (uintptr_t)(value.data + VECTOR_OFFSET) % CODE_ALIGN == 0;
	if (!aligned && !txn->writes)
		txn->error = BM_ECORRUPT;
	if (!aligned)
		return false;
	*out = (struct code_segment){
		.signs = value.data + VECTOR_OFFSET,
		.nibbles = value.data + VECTOR_OFFSET +
			   code_sign_bytes(segment->head.rows, gallery->dim),
		.live = segment->live,
		.rows = segment->head.rows,
	};
	return true;
}

/* A segment while it is made. */
struct seal {
	struct row_facts *facts;
	float *part;
	uint8_t *codes;   /* of all rows, from VECTOR_OFFSET on */
	uint8_t *nibbles; /* inside codes */
	uint32_t n;
	uint64_t last_row; /* that it will have: part of its keys */
};

/* The number of the tail's row at this position. */
static int tail_row_at(struct db_txn *txn, const struct gallery_record *gallery, uint32_t position,
		       uint64_t *row)
{
	struct record_key key = row_key(gallery->id, 0);
	struct bytes found, value;
	struct db_cursor cursor;
	bool ok;

	db_cursor_open(txn, DB_TAIL, &cursor);
	ok = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (uint32_t i = 0; ok && i < position; i++)
		ok = db_cursor_next(&cursor, &found, &value);
	ok = ok && key_in_gallery(found, gallery->id);
	if (ok)
		*row = key_row(found);
	db_cursor_close(&cursor);
	return ok ? 0 : txn->error ? txn->error : BM_ECORRUPT;
}

/* Encodes and writes the rows gathered since the last part. */
static void write_part(struct db_txn *txn, const struct gallery_record *gallery, struct seal *seal)
{
	uint32_t part = (seal->n - 1) / PART_ROWS, rows = seal->n - part * PART_ROWS;
	struct record_key key = plane_key(gallery->id, seal->last_row, PLANE_F32, part);
	size_t len = (size_t)rows * gallery->dim * sizeof(float);
	uint8_t *value = db_reserve(txn, DB_SEGMENTS, key_bytes(&key), VECTOR_OFFSET + len);

	code_encode(seal->part, (size_t)part * PART_ROWS, rows, gallery->dim,
		    seal->codes + VECTOR_OFFSET, seal->nibbles);
	if (!value)
		return;
	memset(value, 0, VECTOR_OFFSET);
	memcpy(value + VECTOR_OFFSET, seal->part, len);
}

static void write_codes(struct db_txn *txn, const struct gallery_record *gallery,
			const struct seal *seal)
{
	struct record_key key = plane_key(gallery->id, seal->last_row, PLANE_CODES, 0);

	db_put(txn, DB_SEGMENTS, key_bytes(&key),
	       (struct bytes){seal->codes, codes_len(seal->n, gallery->dim)});
}

/* Copies the rows one part at a time: a write may move what a cursor has given. */
static int move_rows(struct db_txn *txn, struct gallery_record *gallery, uint32_t rows,
		     struct seal *seal)
{
	struct record_key key = row_key(gallery->id, 0);
	struct bytes found, value;
	struct db_cursor cursor;
	int error = 0;

	db_cursor_open(txn, DB_TAIL, &cursor);
	while (!error && seal->n < rows &&
	       db_cursor_seek(&cursor, key_bytes(&key), &found, &value)) {
		struct row row;

		error = tail_row_parse(value, gallery->dim, &row);
		if (!error)
			error = row_verify(&row.facts, row.floats, gallery->dim);
		if (error)
			break;
		memcpy(seal->part + (size_t)(seal->n % PART_ROWS) * gallery->dim, row.floats,
		       gallery->dim * sizeof(float));
		seal->facts[seal->n++] = row.facts;
		db_cursor_delete(&cursor);
		if (seal->n % PART_ROWS == 0 || seal->n == rows)
			write_part(txn, gallery, seal);
	}
	db_cursor_close(&cursor);
	if (!error && seal->n != rows)
		error = txn->error ? txn->error : BM_ECORRUPT;
	return error;
}

static void write_head(struct db_txn *txn, const struct gallery_record *gallery,
		       const struct seal *seal)
{
	struct segment segment = {
		.head =
			{
				.rows = seal->n,
				.live = seal->n,
				.first_row = seal->facts[0].row,
				.last_row = seal->last_row,
				.first_expiry_ms = INT64_MAX,
			},
	};

	for (uint32_t i = 0; i < seal->n; i++) {
		segment.live[i / 64] |= UINT64_C(1) << (i % 64);
		if (seal->facts[i].expires_ms < segment.head.first_expiry_ms)
			segment.head.first_expiry_ms = seal->facts[i].expires_ms;
	}
	segment_write_head(txn, gallery->id, &segment);
}

/* Zeroed, with the planes behind VECTOR_OFFSET on a boundary, as they are in the map. */
static uint8_t *aligned_codes(uint32_t rows, size_t dim)
{
	size_t len = CODE_ALIGN + codes_len(rows, dim), lead = CODE_ALIGN - VECTOR_OFFSET;
	uint8_t *memory =
		aligned_alloc(CODE_ALIGN, (len + CODE_ALIGN - 1) / CODE_ALIGN * CODE_ALIGN);

	if (!memory)
		return NULL;
	memset(memory, 0, len);
	return memory + lead;
}

static void free_codes(uint8_t *codes, uint32_t rows, size_t dim)
{
	bytes_wipe(codes, codes_len(rows, dim));
	free(codes - (CODE_ALIGN - VECTOR_OFFSET));
}

int segment_seal(struct db_txn *txn, struct gallery_record *gallery, uint32_t rows)
{
	size_t part_len = (size_t)PART_ROWS * gallery->dim * sizeof(float);
	struct seal seal = {
		.facts = malloc(rows * sizeof(*seal.facts)),
		.part = malloc(part_len),
		.codes = aligned_codes(rows, gallery->dim),
	};
	struct record_key key;
	int error = BM_ENOMEM;

	if (!seal.facts || !seal.part || !seal.codes)
		goto out;
	seal.nibbles = seal.codes + VECTOR_OFFSET + code_sign_bytes(rows, gallery->dim);
	error = tail_row_at(txn, gallery, rows - 1, &seal.last_row);
	if (!error)
		error = move_rows(txn, gallery, rows, &seal);
	if (error)
		goto out;
	key = plane_key(gallery->id, seal.last_row, PLANE_FACTS, 0);
	db_put(txn, DB_SEGMENTS, key_bytes(&key),
	       (struct bytes){(const uint8_t *)seal.facts, rows * sizeof(*seal.facts)});
	write_codes(txn, gallery, &seal);
	write_head(txn, gallery, &seal);
	gallery->tail_rows -= rows;
	gallery->segments++;
	error = txn->error;
out:
	if (seal.part)
		bytes_wipe(seal.part, part_len);
	if (seal.codes)
		free_codes(seal.codes, rows, gallery->dim);
	free(seal.part);
	free(seal.facts);
	return error;
}

/* Tells the subject that its row has another number now. */
static int renumber(struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
		    const uint8_t *pseudonym, uint64_t from, uint64_t to)
{
	struct subject subject;
	int error = subject_read(txn, gallery, pseudonym, &subject);

	if (error)
		return error == BM_ENOREFERENCE ? BM_ECORRUPT : error;
	for (uint16_t i = 0; i < subject.n; i++) {
		if (subject.encounters[i].row == from) {
			subject.encounters[i].row = to;
			return subject_write(store, txn, gallery, &subject, NULL);
		}
	}
	return BM_ECORRUPT;
}

/* To the tail, under the key that rows get there; the old one is left. */
static int row_move(struct gallery_store *store, struct db_txn *txn, struct gallery_record *gallery,
		    uint64_t row)
{
	unsigned old = row_generation(row), new = row_generation(gallery->next_row);
	_Alignas(64) float floats[PACK_MAX_DIM];
	struct row from;
	int error = row_read(txn, gallery, row, &from);

	if (!error && old != new)
		error = rotation_turn(store, gallery->id, old, new, from.floats, gallery->dim,
				      floats);
	else if (!error)
		memcpy(floats, from.floats, gallery->dim * sizeof(float));
	if (error)
		return error;
	row_append(txn, gallery, &from.facts, floats);
	bytes_wipe(floats, gallery->dim * sizeof(float));
	return txn->error
		       ? txn->error
		       : renumber(store, txn, gallery->id, from.facts.subject, row, from.facts.row);
}

int rows_move(struct gallery_store *store, struct db_txn *txn, struct gallery_record *gallery,
	      const uint64_t *rows, size_t n)
{
	int error = 0;

	for (size_t i = 0; !error && i < n; i++) {
		error = row_move(store, txn, gallery, rows[i]);
		if (!error)
			error = row_remove(txn, gallery, rows[i]);
	}
	return error;
}

static void drop_segment(struct db_txn *txn, uint32_t gallery, uint64_t last_row)
{
	struct record_key key = plane_key(gallery, last_row, PLANE_HEAD, 0);
	struct bytes found, value;
	struct db_cursor cursor;

	db_cursor_open(txn, DB_SEGMENTS, &cursor);
	while (db_cursor_seek(&cursor, key_bytes(&key), &found, &value) &&
	       key_in_gallery(found, gallery) && key_row(found) == last_row)
		db_cursor_delete(&cursor);
	db_cursor_close(&cursor);
}

static void segment_drop(struct db_txn *txn, struct gallery_record *gallery,
			 const struct segment *segment)
{
	drop_segment(txn, gallery->id, segment->head.last_row);
	gallery->segments--;
	gallery->dead_rows -= segment->head.rows - segment->head.live;
}

static size_t live_rows(const struct segment *segment, uint64_t rows[STEP_ROWS])
{
	size_t n = 0;

	for (uint32_t i = 0; i < segment->head.rows && n < STEP_ROWS; i++) {
		if (segment->live[i / 64] >> (i % 64) & 1)
			rows[n++] = segment->facts[i].row;
	}
	return n;
}

int segment_empty(struct gallery_store *store, struct db_txn *txn, struct gallery_record *gallery,
		  const struct segment *segment)
{
	uint64_t rows[STEP_ROWS];
	struct segment left;
	int error = rows_move(store, txn, gallery, rows, live_rows(segment, rows));

	if (error)
		return error;
	/* Its values may have moved with the first write. */
	if (!segment_at_or_after(txn, gallery, segment->head.last_row, &left))
		return txn->error ? txn->error : BM_ECORRUPT;
	if (!left.head.live)
		segment_drop(txn, gallery, &left);
	return txn->error;
}

void segments_drop(struct db_txn *txn, const struct gallery_record *gallery)
{
	struct segment segment;

	while (segment_at_or_after(txn, gallery, 0, &segment))
		drop_segment(txn, gallery->id, segment.head.last_row);
}
