#include <stdio.h>
#include <stdlib.h>

#include "store.h"

/* A check under way. */
struct check {
	struct gallery_store *store;
	struct db_txn *txn;
	struct arena arena; /* of a picture */
	void (*report)(void *ctx, const char *fault);
	void *ctx;
	uint64_t faults;
	bool has_expiry;   /* the store is of a version that has the order */
	uint64_t expiring; /* encounters that have a place in it */
};

static void fault(struct check *check, const char *gallery, const char *what)
{
	char text[160];

	snprintf(text, sizeof(text), "gallery %.64s: %s", gallery, what);
	check->faults++;
	check->report(check->ctx, text);
}

/* Reports what a reader stumbled over; the check goes on behind it. */
static void note_damage(struct check *check, const char *gallery, const char *what)
{
	if (check->txn->error != BM_ECORRUPT)
		return;
	check->txn->error = 0;
	fault(check, gallery, what);
}

/* Every encounter that expires has its place in the order, where no hold keeps it. */
static void check_expiry_of(struct check *check, const struct gallery_record *gallery,
			    const struct subject *subject)
{
	for (uint16_t i = 0; check->has_expiry && !subject->is_held && i < subject->n; i++) {
		if (subject->encounters[i].expires_ms == GALLERY_NEVER)
			continue;
		check->expiring++;
		if (!expiry_has(check->txn, gallery->id, subject, &subject->encounters[i]))
			fault(check, gallery->name, "an encounter is not in the order of expiry");
	}
}

/* What a gallery's record counts. */
struct counts {
	uint64_t subjects, encounters, held, images;
};

/* Every picture can be unsealed, as its encounter's. */
static void check_images(struct check *check, const struct gallery_record *gallery,
			 const struct subject *subject, struct counts *counts)
{
	for (uint16_t i = 0; i < subject->n; i++) {
		struct bytes picture;
		int error = image_read(check->store, check->txn, gallery->id, subject->pseudonym,
				       &subject->encounters[i], &check->arena, &picture);

		counts->images += error != BM_ENOIMAGE;
		if (error == BM_ECORRUPT)
			fault(check, gallery->name, "a kept picture is damaged");
		else if (error && error != BM_ENOIMAGE)
			check->txn->error = error;
		arena_reset(&check->arena);
	}
}

/* Every encounter's row is there, whole, and the subject's. */
static void check_subject(struct check *check, const struct gallery_record *gallery,
			  const uint8_t *pseudonym, struct counts *counts)
{
	struct subject subject;
	struct holds holds;
	struct row row;

	if (subject_read(check->txn, gallery->id, pseudonym, &subject)) {
		fault(check, gallery->name, "a subject record is damaged");
		return;
	}
	counts->subjects += subject.n > 0;
	counts->encounters += subject.n;
	counts->held += subject.is_held;
	if (holds_read(check->txn, gallery->id, pseudonym, &holds))
		fault(check, gallery->name, "a record of legal holds is damaged");
	check_expiry_of(check, gallery, &subject);
	check_images(check, gallery, &subject, counts);
	for (uint16_t i = 0; i < subject.n; i++) {
		int error = row_read(check->txn, gallery, subject.encounters[i].row, &row);

		if (error == BM_ECORRUPT) {
			check->txn->error = 0;
			fault(check, gallery->name, "a template is missing or damaged");
		} else if (!error && memcmp(row.facts.subject, pseudonym, KEYS_PSEUDONYM_LEN)) {
			fault(check, gallery->name, "a template belongs to another subject");
		}
	}
}

static uint64_t count_records(struct check *check, enum db_table table, uint32_t gallery)
{
	struct record_key key = row_key(gallery, 0);
	struct bytes found, value;
	struct db_cursor cursor;
	uint64_t n = 0;
	bool more;

	db_cursor_open(check->txn, table, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (; more && key_in_gallery(found, gallery);
	     more = db_cursor_next(&cursor, &found, &value))
		n++;
	db_cursor_close(&cursor);
	return n;
}

static void check_subjects(struct check *check, const struct gallery_record *gallery)
{
	static const uint8_t first[KEYS_PSEUDONYM_LEN];
	struct record_key key = subject_key(gallery->id, first);
	struct counts counts = {0};
	struct bytes found, value;
	struct db_cursor cursor;
	bool more;

	db_cursor_open(check->txn, DB_SUBJECTS, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (; more && key_in_gallery(found, gallery->id);
	     more = db_cursor_next(&cursor, &found, &value)) {
		check_subject(check, gallery, found.data + 4, &counts);
	}
	db_cursor_close(&cursor);
	if (counts.subjects != gallery->subjects)
		fault(check, gallery->name, "the number of subjects is wrong");
	if (counts.encounters != gallery->encounters)
		fault(check, gallery->name, "the number of encounters is wrong");
	if (counts.held != gallery->held ||
	    counts.held != count_records(check, DB_HOLDS, gallery->id))
		fault(check, gallery->name, "the number of subjects under legal hold is wrong");
	if (counts.images != count_records(check, DB_IMAGES, gallery->id))
		fault(check, gallery->name, "a kept picture belongs to no encounter");
}

static bool all_zero(const void *p, size_t len)
{
	const uint8_t *bytes = p;

	return !len || (!bytes[0] && !memcmp(bytes, bytes + 1, len - 1));
}

/* Nothing is left of a deleted row but its number. */
static bool is_erased(const struct row_facts *facts, const float *floats, size_t dim)
{
	struct row_facts left = {.row = facts->row};

	return !memcmp(facts, &left, sizeof(left)) && all_zero(floats, dim * sizeof(*floats));
}

/* Writes the codes that the rows should have, and looks at the deleted ones. */
static void encode_rows(struct check *check, const struct gallery_record *gallery,
			const struct segment *segment, uint8_t *signs, uint8_t *nibbles)
{
	for (uint32_t at = 0; at < segment->head.rows; at++) {
		const float *part = segment_part(check->txn, gallery, segment, at / PART_ROWS);
		const float *floats;

		if (!part)
			return;
		floats = part + (size_t)(at % PART_ROWS) * gallery->dim;
		if (at && segment->facts[at].row <= segment->facts[at - 1].row)
			fault(check, gallery->name, "the rows of a segment are out of order");
		if (segment->live[at / 64] >> (at % 64) & 1)
			code_encode(floats, at, 1, gallery->dim, signs, nibbles);
		else if (!is_erased(&segment->facts[at], floats, gallery->dim))
			fault(check, gallery->name, "a deleted template is still there");
	}
}

/* Codes have no checksum: they follow from the rows, and so do the damaged ones. */
static void check_planes(struct check *check, const struct gallery_record *gallery,
			 const struct segment *segment)
{
	size_t n_signs = code_sign_bytes(segment->head.rows, gallery->dim);
	size_t n_nibbles = code_nibble_bytes(segment->head.rows, gallery->dim);
	uint8_t *planes = calloc(1, n_signs + n_nibbles);
	struct code_segment codes;

	if (!planes) {
		check->txn->error = BM_ENOMEM;
		return;
	}
	encode_rows(check, gallery, segment, planes, planes + n_signs);
	if (segment_codes(check->txn, gallery, segment, &codes) &&
	    (memcmp(codes.signs, planes, n_signs) ||
	     memcmp(codes.nibbles, planes + n_signs, n_nibbles)))
		fault(check, gallery->name, "codes and templates do not agree");
	note_damage(check, gallery->name, "a plane of a segment is missing or damaged");
	bytes_wipe(planes, n_signs + n_nibbles);
	free(planes);
}

/* The rows of tail and segments are as many as the encounters. */
static void check_rows(struct check *check, const struct gallery_record *gallery)
{
	uint64_t row = 0, live = 0, dead = 0, segments = 0,
		 tail = count_records(check, DB_TAIL, gallery->id);
	struct segment segment;

	while (segment_at_or_after(check->txn, gallery, row, &segment)) {
		uint32_t bits = 0;

		for (size_t w = 0; w < live_words(segment.head.rows); w++)
			bits += (uint32_t)__builtin_popcountll(segment.live[w]);
		if (bits != segment.head.live)
			fault(check, gallery->name, "a segment's count of live rows is wrong");
		check_planes(check, gallery, &segment);
		live += bits;
		dead += segment.head.rows - bits;
		segments++;
		row = segment.head.last_row + 1;
	}
	note_damage(check, gallery->name, "a segment's head is damaged");
	if (tail != gallery->tail_rows || segments != gallery->segments ||
	    dead != gallery->dead_rows)
		fault(check, gallery->name, "the gallery's counters are wrong");
	if (tail + live != gallery->encounters)
		fault(check, gallery->name, "templates and encounters do not agree");
}

/* And no other has one. */
static void check_expiry(struct check *check)
{
	uint64_t places = 0, faults = 0;

	if (!check->has_expiry || expiry_check(check->txn, &places, &faults))
		return;
	if (faults || places != check->expiring)
		fault(check, "", "the order of expiry is damaged");
}

int gallery_check(struct gallery_snapshot *snapshot,
		  void (*report)(void *ctx, const char *fault_text), void *ctx, uint64_t *faults)
{
	struct check check = {.store = snapshot->store,
			      .txn = &snapshot->txn,
			      .report = report,
			      .ctx = ctx,
			      .has_expiry = snapshot->store->version >= 3};
	struct bytes found, value, first = {(const uint8_t *)"a", 1};
	struct db_cursor cursor;
	bool more;

	arena_init(&check.arena, GALLERY_IMAGE_MAX + 64);
	db_cursor_open(&snapshot->txn, DB_GALLERIES, &cursor);
	more = db_cursor_seek(&cursor, first, &found, &value);
	for (; more; more = db_cursor_next(&cursor, &found, &value)) {
		struct gallery_record gallery;

		if (value.len != sizeof(gallery) || record_check(value, sizeof(gallery))) {
			fault(&check, "", "a gallery record is damaged");
			continue;
		}
		memcpy(&gallery, value.data, sizeof(gallery));
		check_subjects(&check, &gallery);
		check_rows(&check, &gallery);
	}
	db_cursor_close(&cursor);
	check_expiry(&check);
	arena_deinit(&check.arena);
	*faults = check.faults;
	return snapshot->txn.error;
}
