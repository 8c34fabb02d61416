#include <stdio.h>

#include "store.h"

/* A check under way. */
struct check {
	struct db_txn *txn;
	void (*report)(void *ctx, const char *fault);
	void *ctx;
	uint64_t faults;
};

static void fault(struct check *check, const char *gallery, const char *what)
{
	char text[160];

	snprintf(text, sizeof(text), "gallery %.64s: %s", gallery, what);
	check->faults++;
	check->report(check->ctx, text);
}

/* Every encounter's row is there, whole, and the subject's. */
static void check_subject(struct check *check, const struct gallery_record *gallery,
			  const uint8_t *pseudonym, uint64_t *encounters)
{
	struct subject subject;
	struct row row;

	if (subject_read(check->txn, gallery->id, pseudonym, &subject)) {
		fault(check, gallery->name, "a subject record is damaged");
		return;
	}
	*encounters += subject.n;
	for (uint16_t i = 0; i < subject.n; i++) {
		if (row_read(check->txn, gallery, subject.encounters[i].row, &row))
			fault(check, gallery->name, "a template is missing or damaged");
		else if (memcmp(row.facts.subject, pseudonym, KEYS_PSEUDONYM_LEN))
			fault(check, gallery->name, "a template belongs to another subject");
	}
}

static void check_subjects(struct check *check, const struct gallery_record *gallery)
{
	static const uint8_t first[KEYS_PSEUDONYM_LEN];
	struct record_key key = subject_key(gallery->id, first);
	uint64_t subjects = 0, encounters = 0;
	struct bytes found, value;
	struct db_cursor cursor;
	bool more;

	db_cursor_open(check->txn, DB_SUBJECTS, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (; more && key_in_gallery(found, gallery->id);
	     more = db_cursor_next(&cursor, &found, &value)) {
		subjects++;
		check_subject(check, gallery, found.data + 4, &encounters);
	}
	db_cursor_close(&cursor);
	if (subjects != gallery->subjects)
		fault(check, gallery->name, "the number of subjects is wrong");
	if (encounters != gallery->encounters)
		fault(check, gallery->name, "the number of encounters is wrong");
}

static uint64_t count_tail(struct check *check, const struct gallery_record *gallery)
{
	struct record_key key = row_key(gallery->id, 0);
	struct bytes found, value;
	struct db_cursor cursor;
	uint64_t n = 0;
	bool more;

	db_cursor_open(check->txn, DB_TAIL, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (; more && key_in_gallery(found, gallery->id);
	     more = db_cursor_next(&cursor, &found, &value))
		n++;
	db_cursor_close(&cursor);
	return n;
}

/* The rows of tail and segments are as many as the encounters. */
static void check_rows(struct check *check, const struct gallery_record *gallery)
{
	uint64_t row = 0, live = 0, dead = 0, segments = 0, tail = count_tail(check, gallery);
	struct segment segment;

	while (segment_at_or_after(check->txn, gallery, row, &segment)) {
		uint32_t bits = 0;

		for (size_t w = 0; w < live_words(segment.head.rows); w++)
			bits += (uint32_t)__builtin_popcountll(segment.live[w]);
		if (bits != segment.head.live)
			fault(check, gallery->name, "a segment's count of live rows is wrong");
		live += bits;
		dead += segment.head.rows - bits;
		segments++;
		row = segment.head.last_row + 1;
	}
	if (tail != gallery->tail_rows || segments != gallery->segments ||
	    dead != gallery->dead_rows)
		fault(check, gallery->name, "the gallery's counters are wrong");
	if (tail + live != gallery->encounters)
		fault(check, gallery->name, "templates and encounters do not agree");
}

int gallery_check(struct gallery_snapshot *snapshot,
		  void (*report)(void *ctx, const char *fault_text), void *ctx, uint64_t *faults)
{
	struct check check = {.txn = &snapshot->txn, .report = report, .ctx = ctx};
	struct bytes found, value, first = {(const uint8_t *)"a", 1};
	struct db_cursor cursor;
	bool more;

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
	*faults = check.faults;
	return snapshot->txn.error;
}
