/*
 * The order of expiry: a place for every encounter that expires, and for the mark
 * that is left of a subject whose last one was erased for that.
 *
 *   expiry  time, gallery, pseudonym, encounter id -> nothing; no id for a mark
 */
#include "store.h"

/* Marks removed on one look for what has expired, so that none takes long. */
#define MARKS_AT_ONCE 64
#define TIME_LEN      8
#define PLACE_MIN     (TIME_LEN + 4 + KEYS_PSEUDONYM_LEN)

struct place {
	uint8_t data[PLACE_MIN + GALLERY_ENCOUNTER_MAX];
	size_t len;
};

static struct bytes place_bytes(const struct place *place)
{
	return (struct bytes){place->data, place->len};
}

/* Times before 1970 come first, too. */
static struct place place_of(uint32_t gallery, const uint8_t pseudonym[KEYS_PSEUDONYM_LEN],
			     int64_t expires_ms, const char *id)
{
	struct record_key subject = subject_key(gallery, pseudonym);
	struct place place = {.len = PLACE_MIN + strlen(id)};

	bytes_put_be64(place.data, (uint64_t)expires_ms ^ UINT64_C(1) << 63);
	memcpy(place.data + TIME_LEN, subject.data, subject.len);
	memcpy(place.data + PLACE_MIN, id, strlen(id));
	return place;
}

static struct place place_of_encounter(uint32_t gallery, const struct subject *subject,
				       const struct stored_encounter *encounter)
{
	char id[GALLERY_ENCOUNTER_MAX + 1];

	text_load(id, encounter->id, GALLERY_ENCOUNTER_MAX);
	return place_of(gallery, subject->pseudonym, encounter->expires_ms, id);
}

/* A place taken apart. */
struct due {
	int64_t expires_ms;
	uint32_t gallery;
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
	char encounter[GALLERY_ENCOUNTER_MAX + 1]; /* "" for a mark */
};

static int parse_place(struct bytes key, struct due *out)
{
	if (key.len < PLACE_MIN || key.len > PLACE_MIN + GALLERY_ENCOUNTER_MAX)
		return BM_ECORRUPT;
	out->expires_ms = (int64_t)(bytes_get_be64(key.data) ^ UINT64_C(1) << 63);
	out->gallery = bytes_get_be32(key.data + TIME_LEN);
	memcpy(out->pseudonym, key.data + TIME_LEN + 4, KEYS_PSEUDONYM_LEN);
	memcpy(out->encounter, key.data + PLACE_MIN, key.len - PLACE_MIN);
	out->encounter[key.len - PLACE_MIN] = '\0';
	return 0;
}

static void put(struct db_txn *txn, const struct place *place)
{
	db_put(txn, DB_EXPIRY, place_bytes(place), (struct bytes){0});
}

static void drop(struct db_txn *txn, const struct place *place)
{
	db_want_scrub(txn->db);
	db_delete(txn, DB_EXPIRY, place_bytes(place));
}

void expiry_add(struct db_txn *txn, uint32_t gallery, const struct subject *subject,
		const struct stored_encounter *encounter)
{
	struct place place = place_of_encounter(gallery, subject, encounter);

	if (encounter->expires_ms != GALLERY_NEVER)
		put(txn, &place);
}

void expiry_remove(struct db_txn *txn, uint32_t gallery, const struct subject *subject,
		   const struct stored_encounter *encounter)
{
	struct place place = place_of_encounter(gallery, subject, encounter);

	if (encounter->expires_ms != GALLERY_NEVER)
		drop(txn, &place);
}

bool expiry_has(struct db_txn *txn, uint32_t gallery, const struct subject *subject,
		const struct stored_encounter *encounter)
{
	struct place place = place_of_encounter(gallery, subject, encounter);
	struct bytes nothing;

	return db_get(txn, DB_EXPIRY, place_bytes(&place), &nothing);
}

void expiry_mark(struct db_txn *txn, uint32_t gallery, const struct subject *subject)
{
	struct place place = place_of(gallery, subject->pseudonym, subject->forget_ms, "");

	put(txn, &place);
	subject_write_mark(txn, gallery, subject);
}

void expiry_unmark(struct db_txn *txn, uint32_t gallery, const struct subject *subject)
{
	struct record_key key = subject_key(gallery, subject->pseudonym);
	struct place place = place_of(gallery, subject->pseudonym, subject->forget_ms, "");

	drop(txn, &place);
	db_delete(txn, DB_SUBJECTS, key_bytes(&key));
}

static int add_all(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym)
{
	struct subject subject;
	int error = subject_read(txn, gallery, pseudonym, &subject);

	for (uint16_t i = 0; !error && !subject.is_held && i < subject.n; i++)
		expiry_add(txn, gallery, &subject, &subject.encounters[i]);
	return error;
}

int expiry_build(struct db_txn *txn)
{
	struct bytes first = {(const uint8_t *)"", 1}, found, value;
	struct db_cursor cursor;
	int error = 0;
	bool more;

	db_cursor_open(txn, DB_SUBJECTS, &cursor);
	more = db_cursor_seek(&cursor, first, &found, &value);
	for (; more && !error; more = db_cursor_next(&cursor, &found, &value))
		error = found.len == 4 + KEYS_PSEUDONYM_LEN
				? add_all(txn, bytes_get_be32(found.data), found.data + 4)
				: BM_ECORRUPT;
	db_cursor_close(&cursor);
	return error ? error : txn->error;
}

/* The place that comes first, where its time has come; false where there is none. */
static bool first_due(struct db_txn *txn, int64_t now_ms, struct due *out, int *error)
{
	struct bytes first = {(const uint8_t *)"", 1}, found, value;
	struct db_cursor cursor;
	bool any;

	*out = (struct due){.expires_ms = GALLERY_NEVER};
	db_cursor_open(txn, DB_EXPIRY, &cursor);
	any = db_cursor_seek(&cursor, first, &found, &value);
	*error = any ? parse_place(found, out) : txn->error;
	db_cursor_close(&cursor);
	return any && !*error && out->expires_ms <= now_ms;
}

/* The name of a gallery of this number; galleries are few. */
static int name_gallery(struct db_txn *txn, uint32_t id, char out[GALLERY_NAME_MAX + 1])
{
	struct bytes first = {(const uint8_t *)"a", 1}, found, value;
	struct gallery_record record;
	int error = BM_ECORRUPT;
	struct db_cursor cursor;
	bool more;

	db_cursor_open(txn, DB_GALLERIES, &cursor);
	more = db_cursor_seek(&cursor, first, &found, &value);
	for (; more && error; more = db_cursor_next(&cursor, &found, &value)) {
		if (value.len != sizeof(record) || record_check(value, sizeof(record)))
			break;
		memcpy(&record, value.data, sizeof(record));
		if (record.id != id)
			continue;
		text_load(out, record.name, GALLERY_NAME_MAX);
		error = 0;
	}
	db_cursor_close(&cursor);
	return txn->error ? txn->error : error;
}

bool gallery_has_expired(struct gallery_snapshot *snapshot, int64_t now_ms)
{
	struct due due;
	int error;

	if (!first_due(&snapshot->txn, now_ms, &due, &error))
		return error != 0;
	return !due.encounter[0] || !store_may_change(snapshot->store, &snapshot->txn);
}

int gallery_next_expired(struct gallery_store *store, struct db_txn *txn, int64_t now_ms,
			 struct gallery_expired *out)
{
	struct subject marked;
	struct due due;
	int error;

	for (int i = 0; first_due(txn, now_ms, &due, &error) && !due.encounter[0]; i++) {
		if (i == MARKS_AT_ONCE)
			return BM_ENOREFERENCE;
		memcpy(marked.pseudonym, due.pseudonym, sizeof(marked.pseudonym));
		marked.forget_ms = due.expires_ms;
		expiry_unmark(txn, due.gallery, &marked);
	}
	if (error || txn->error)
		return error ? error : txn->error;
	if (due.expires_ms > now_ms || store_may_change(store, txn))
		return BM_ENOREFERENCE;
	strcpy(out->encounter, due.encounter);
	error = name_gallery(txn, due.gallery, out->gallery);
	if (!error)
		error = subject_name(store, txn, due.gallery, due.pseudonym, out->subject);
	return error == BM_ENOREFERENCE ? BM_ECORRUPT : error;
}

int expiry_check(struct db_txn *txn, uint64_t *places, uint64_t *faults)
{
	struct bytes first = {(const uint8_t *)"", 1}, found, value;
	struct db_cursor cursor;
	bool more;

	db_cursor_open(txn, DB_EXPIRY, &cursor);
	more = db_cursor_seek(&cursor, first, &found, &value);
	for (; more; more = db_cursor_next(&cursor, &found, &value)) {
		struct due due;

		if (parse_place(found, &due))
			++*faults;
		else
			*places += due.encounter[0] != '\0';
	}
	db_cursor_close(&cursor);
	return txn->error;
}
