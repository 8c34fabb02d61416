#include <stdio.h>
#include <sys/random.h>

#include "change.h"

void record_write(struct db_txn *txn, struct gallery_record *record)
{
	char name[GALLERY_NAME_MAX + 1];

	text_load(name, record->name, GALLERY_NAME_MAX);
	record->sum = record_sum(record, sizeof(*record));
	db_put(txn, DB_GALLERIES, text_bytes(name),
	       (struct bytes){(const uint8_t *)record, sizeof(*record)});
}

static int log_gallery(const struct gallery_store *store, struct db_txn *txn,
		       const struct gallery_change *change, const struct gallery_record *record)
{
	const struct logged logged = {.change = change, .gallery = record, .encounter = ""};

	return txn->error ? txn->error : change_log(store, txn, &logged);
}

static int create(struct gallery_store *store, struct db_txn *txn,
		  const struct gallery_change *change, struct gallery_outcome *outcome)
{
	const struct gallery_replica *replica = change->replica;
	struct gallery_record record = {
		.version = STORE_VERSION,
		.dim = replica ? replica->dim : store->pack->dim,
		.created_ms = change->now_ms,
		.next_row = 1,
	};
	struct bytes value;
	int error;

	if (db_get(txn, DB_GALLERIES, text_bytes(change->gallery), &value))
		return BM_EEXISTS;
	error = store_take_gallery_id(txn, &record.id);
	if (!error && replica && replica->gallery != record.id)
		error = BM_EDIVERGED;
	if (error)
		return error;
	memcpy(record.digest, replica ? replica->digest : store->pack->digest,
	       sizeof(record.digest));
	text_store(record.model, replica ? replica->model : store->pack->model, GALLERY_MODEL_MAX);
	text_store(record.name, change->gallery, GALLERY_NAME_MAX);
	record_write(txn, &record);
	record_to_info(&record, &outcome->gallery);
	return log_gallery(store, txn, change, &record);
}

static int drop(struct gallery_store *store, struct db_txn *txn,
		const struct gallery_change *change)
{
	struct gallery_record record;
	int error = record_find(txn, change->gallery, &record);

	if (error)
		return error;
	if (record.subjects)
		return BM_ENOTEMPTY;
	segments_drop(txn, &record);
	db_delete(txn, DB_GALLERIES, text_bytes(change->gallery));
	return log_gallery(store, txn, change, &record);
}

/* A random UUID (RFC 9562, version 4). */
static int make_encounter_id(char out[GALLERY_ENCOUNTER_MAX + 1])
{
	uint8_t r[16];

	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		return BM_EIO;
	r[6] = (uint8_t)((r[6] & 0x0f) | 0x40);
	r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
	snprintf(out, GALLERY_ENCOUNTER_MAX + 1,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1],
		 r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14],
		 r[15]);
	return 0;
}

/* Adds the encounter to the subject in memory; its row is not known yet. */
static int add_encounter(struct subject *subject, const struct gallery_change *change,
			 struct gallery_outcome *outcome)
{
	const struct gallery_encounter *from = &change->encounter;
	struct stored_encounter *to;
	int error = 0;

	if (from->id[0])
		strcpy(outcome->encounter, from->id);
	else
		error = make_encounter_id(outcome->encounter);
	if (error)
		return error;
	if (encounter_find(subject, outcome->encounter))
		return BM_EEXISTS;
	if (subject->n == GALLERY_MAX_ENCOUNTERS)
		return BM_ELIMIT;
	to = &subject->encounters[subject->n++];
	to->captured_ms = from->captured_ms;
	to->expires_ms = from->expires_ms;
	to->enrolled_ms = from->enrolled_ms;
	text_store(to->id, outcome->encounter, GALLERY_ENCOUNTER_MAX);
	text_store(to->type, from->type, GALLERY_TYPE_MAX);
	text_store(to->site, from->site, GALLERY_SITE_MAX);
	return 0;
}

static int append_row(struct gallery_store *store, struct db_txn *txn,
		      struct gallery_record *record, struct subject *subject,
		      const struct gallery_change *change)
{
	struct stored_encounter *encounter = &subject->encounters[subject->n - 1];
	char id[GALLERY_ENCOUNTER_MAX + 1];
	_Alignas(64) float rotated[PACK_MAX_DIM];
	const struct logged logged = {.change = change,
				      .gallery = record,
				      .pseudonym = subject->pseudonym,
				      .encounter = id,
				      .stored = rotated};
	struct row_facts facts = {
		.captured_ms = change->encounter.captured_ms,
		.expires_ms = change->encounter.expires_ms,
		.type = bytes_checksum(change->encounter.type, strlen(change->encounter.type)),
		.site = bytes_checksum(change->encounter.site, strlen(change->encounter.site)),
	};
	int error = 0;

	if (change->replica)
		memcpy(rotated, change->embedding, change->dim * sizeof(float));
	else
		error = rotation_apply(store, record->id, row_generation(record->next_row),
				       change->embedding, change->dim, rotated);
	if (error)
		return error;
	memcpy(facts.subject, subject->pseudonym, KEYS_PSEUDONYM_LEN);
	row_append(txn, record, &facts, rotated);
	encounter->row = facts.row;
	text_load(id, encounter->id, GALLERY_ENCOUNTER_MAX);
	error = txn->error ? txn->error : change_log(store, txn, &logged);
	bytes_wipe(rotated, change->dim * sizeof(float));
	return error;
}

static int fits(const struct gallery_store *store, const struct gallery_record *record,
		const struct gallery_change *change)
{
	const struct gallery_replica *replica = change->replica;

	if (!replica)
		return record_fits(store, record, change->dim);
	return replica->dim == record->dim &&
			       replica->generation == row_generation(record->next_row) &&
			       !memcmp(replica->digest, record->digest, sizeof(record->digest))
		       ? 0
		       : BM_EDIVERGED;
}

static int put(struct gallery_store *store, struct db_txn *txn, struct gallery_record *record,
	       struct subject *subject, const struct gallery_change *change,
	       struct gallery_outcome *outcome)
{
	bool is_new = !subject->n;
	int error = fits(store, record, change);

	if (is_new && subject->forget_ms)
		expiry_unmark(txn, record->id, subject);
	if (!error)
		error = add_encounter(subject, change, outcome);
	if (!error)
		error = append_row(store, txn, record, subject, change);
	if (!error)
		error = subject_write(store, txn, record->id, subject,
				      is_new ? change->subject : NULL);
	if (!error && !subject->is_held)
		expiry_add(txn, record->id, subject, &subject->encounters[subject->n - 1]);
	record->encounters++;
	record->subjects += is_new;
	return error;
}

/* What logs and answers tell of a subject, or of one encounter. */
static int erase_told(struct db_txn *txn, const struct record_key *key, struct bytes encounter)
{
	int error = changes_erase(txn, key->data, encounter);

	return error ? error : requests_erase(txn, key->data, encounter);
}

static int delete_subject(struct db_txn *txn, struct gallery_record *record,
			  const struct subject *subject, struct gallery_outcome *outcome)
{
	struct record_key key = subject_key(record->id, subject->pseudonym);
	int error = 0;

	for (uint16_t i = 0; !error && i < subject->n; i++) {
		expiry_remove(txn, record->id, subject, &subject->encounters[i]);
		image_drop(txn, record->id, subject->pseudonym, &subject->encounters[i]);
		error = row_remove(txn, record, subject->encounters[i].row);
	}
	if (error)
		return error;
	db_delete(txn, DB_SUBJECTS, key_bytes(&key));
	outcome->encounters = subject->n;
	record->encounters -= subject->n;
	record->subjects--;
	return erase_told(txn, &key, (struct bytes){0});
}

static int delete_encounter(struct gallery_store *store, struct db_txn *txn,
			    struct gallery_record *record, struct subject *subject, const char *id,
			    struct gallery_outcome *outcome)
{
	struct stored_encounter *encounter = encounter_find(subject, id);
	struct record_key key = subject_key(record->id, subject->pseudonym);
	size_t behind;
	int error;

	if (!encounter)
		return BM_ENOENCOUNTER;
	if (subject->n == 1) {
		error = delete_subject(txn, record, subject, outcome);
		outcome->encounters = 0;
		return error;
	}
	expiry_remove(txn, record->id, subject, encounter);
	image_drop(txn, record->id, subject->pseudonym, encounter);
	error = row_remove(txn, record, encounter->row);
	if (!error)
		error = erase_told(txn, &key, text_bytes(id));
	if (error)
		return error;
	behind = (size_t)(&subject->encounters[subject->n] - (encounter + 1));
	memmove(encounter, encounter + 1, behind * sizeof(*encounter));
	outcome->encounters = --subject->n;
	record->encounters--;
	return subject_write(store, txn, record->id, subject, NULL);
}

/* The same for one whose time is over; of the last one a mark is left. */
static int expire_encounter(struct gallery_store *store, struct db_txn *txn,
			    struct gallery_record *record, struct subject *subject,
			    const struct gallery_change *change, struct gallery_outcome *outcome)
{
	struct stored_encounter *encounter = encounter_find(subject, change->encounter.id);
	int error;

	if (encounter && encounter->expires_ms > change->now_ms)
		return BM_EINVAL;
	error = delete_encounter(store, txn, record, subject, change->encounter.id, outcome);
	if (error || outcome->encounters)
		return error;
	subject->forget_ms = change->now_ms + GALLERY_MARK_MS;
	expiry_mark(txn, record->id, subject);
	return txn->error;
}

static int remove_from_subject(struct gallery_store *store, struct db_txn *txn,
			       struct gallery_record *record, struct subject *subject,
			       const struct gallery_change *change, struct gallery_outcome *outcome)
{
	const char *encounter = change->kind == GALLERY_DELETE_SUBJECT ? "" : change->encounter.id;
	const struct logged logged = {.change = change,
				      .gallery = record,
				      .pseudonym = subject->pseudonym,
				      .encounter = encounter};
	int error = 0;

	if (!subject->n)
		error = BM_ENOREFERENCE;
	else if (subject->is_held)
		error = BM_EHELD;
	else if (change->kind == GALLERY_DELETE_SUBJECT)
		error = delete_subject(txn, record, subject, outcome);
	else if (change->kind == GALLERY_EXPIRE)
		error = expire_encounter(store, txn, record, subject, change, outcome);
	else
		error = delete_encounter(store, txn, record, subject, encounter, outcome);
	/* A followed log holds no more of what was erased there than that it was erased. */
	if (change->replica && (error == BM_ENOREFERENCE || error == BM_ENOENCOUNTER))
		error = 0;
	return error ? error : change_log(store, txn, &logged);
}

/* The order of expiry has no place for what a hold keeps. */
static void change_places(struct db_txn *txn, struct gallery_record *record,
			  const struct subject *subject, bool is_held)
{
	if (is_held == subject->is_held)
		return;
	for (uint16_t i = 0; i < subject->n; i++) {
		if (is_held)
			expiry_remove(txn, record->id, subject, &subject->encounters[i]);
		else
			expiry_add(txn, record->id, subject, &subject->encounters[i]);
	}
	record->held += is_held ? 1 : -1u;
}

static int change_holds(const struct gallery_store *store, struct db_txn *txn,
			struct gallery_record *record, const struct subject *subject,
			const struct gallery_change *change, struct gallery_outcome *outcome)
{
	const struct logged logged = {.change = change,
				      .gallery = record,
				      .pseudonym = subject->pseudonym,
				      .encounter = ""};
	struct holds holds = {0};
	int error = subject->n ? holds_read(txn, record->id, subject->pseudonym, &holds)
			       : BM_ENOREFERENCE;

	if (!error && change->kind == GALLERY_HOLD)
		error = hold_place(store, txn, record->id, subject->pseudonym, &holds, change);
	else if (!error)
		error = hold_release(store, txn, record->id, subject->pseudonym, &holds, change);
	/* A followed log may have lost what it was placed on, which was erased there since. */
	if (change->replica && (error == BM_ENOREFERENCE || error == BM_ENOHOLD))
		error = 0;
	else if (!error)
		change_places(txn, record, subject, holds.n);
	outcome->holds = holds.n;
	return error ? error : change_log(store, txn, &logged);
}

/* The encounter was put by a change before this one. */
static int keep_image(const struct gallery_store *store, struct db_txn *txn,
		      const struct gallery_record *record, struct subject *subject,
		      const struct gallery_change *change)
{
	const struct stored_encounter *encounter = encounter_find(subject, change->encounter.id);
	const struct logged logged = {.change = change,
				      .gallery = record,
				      .pseudonym = subject->pseudonym,
				      .encounter = change->encounter.id};
	int error = !subject->n ? BM_ENOREFERENCE : !encounter ? BM_ENOENCOUNTER : 0;

	if (!error)
		error = image_keep(store, txn, record->id, subject->pseudonym, encounter,
				   change->image);
	return error ? error : change_log(store, txn, &logged);
}

/* Each former encounter of the new one's type goes as a deletion of its own, so that it is
 * followed. */
static int supersede(struct gallery_store *store, struct db_txn *txn, struct gallery_record *record,
		     struct subject *subject, const struct gallery_change *change,
		     struct gallery_outcome *outcome)
{
	struct gallery_change former = {.kind = GALLERY_DELETE_ENCOUNTER,
					.gallery = change->gallery,
					.subject = change->subject,
					.now_ms = change->now_ms};
	struct gallery_outcome left;
	int error = 0;

	outcome->encounters = 0;
	for (uint16_t i = 0; !error && i + 1 < subject->n;) {
		const struct stored_encounter *old = &subject->encounters[i];

		if (memcmp(old->type, old[subject->n - 1 - i].type, sizeof(old->type)) != 0) {
			i++;
			continue;
		}
		text_load(former.encounter.id, old->id, GALLERY_ENCOUNTER_MAX);
		error = remove_from_subject(store, txn, record, subject, &former, &left);
		outcome->encounters++;
	}
	return error;
}

/* Whose change it is: found by the id here, by the pseudonym where another store tells. */
static int find_subject(struct gallery_store *store, struct db_txn *txn,
			const struct gallery_change *change, uint32_t gallery,
			struct subject *subject)
{
	const struct gallery_replica *replica = change->replica;
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
	int error = 0;

	if (replica && replica->gallery != gallery)
		return BM_EDIVERGED;
	if (replica)
		memcpy(pseudonym, replica->pseudonym, sizeof(pseudonym));
	else
		error = subject_pseudonym(store, gallery, change->subject, pseudonym);
	if (!error)
		error = subject_read(txn, gallery, pseudonym, subject);
	if (error == BM_ENOREFERENCE) {
		memcpy(subject->pseudonym, pseudonym, sizeof(pseudonym));
		subject->n = 0;
		subject->forget_ms = 0;
		subject->is_held = false;
		error = 0;
	}
	return error;
}

/* The changes to a subject share their way in and the gallery's counters. */
static int change_subject(struct gallery_store *store, struct db_txn *txn,
			  const struct gallery_change *change, struct gallery_outcome *outcome)
{
	struct gallery_record record;
	struct subject subject;
	int error = record_find(txn, change->gallery, &record);

	if (!error)
		error = find_subject(store, txn, change, record.id, &subject);
	if (error)
		return error;
	if (change->kind == GALLERY_PUT)
		error = put(store, txn, &record, &subject, change, outcome);
	else if (change->kind == GALLERY_KEEP_IMAGE)
		error = keep_image(store, txn, &record, &subject, change);
	else if (change->kind == GALLERY_HOLD || change->kind == GALLERY_RELEASE)
		error = change_holds(store, txn, &record, &subject, change, outcome);
	else
		error = remove_from_subject(store, txn, &record, &subject, change, outcome);
	if (!error && change->supersede && !subject.is_held)
		error = supersede(store, txn, &record, &subject, change, outcome);
	if (!error)
		record_write(txn, &record);
	return error ? error : txn->error;
}

/* One that moves already is brought to the end where it follows one that has come there. */
static int end_reencoding(struct gallery_store *store, struct db_txn *txn,
			  struct gallery_record *record, bool must_end)
{
	unsigned generation = row_generation(record->next_row);
	int error = 0;

	while (!error && row_generation(rows_first(txn, record)) != generation)
		error = must_end ? reencode_step(store, txn, record) : BM_EREENCODING;
	return error;
}

static int rotate(struct gallery_store *store, struct db_txn *txn,
		  const struct gallery_change *change, struct gallery_outcome *outcome)
{
	const struct gallery_replica *replica = change->replica;
	unsigned generation = replica ? replica->generation : keys_generations(store->keys) - 1;
	struct gallery_record record;
	int error = record_find(txn, change->gallery, &record);

	if (!error)
		error = end_reencoding(store, txn, &record, replica);
	if (!error && generation <= row_generation(record.next_row))
		error = replica ? BM_EDIVERGED : BM_EKEYNEWEST;
	if (!error)
		error = reencode_begin(store, txn, &record, generation);
	if (error)
		return error;
	record_to_info(&record, &outcome->gallery);
	return log_gallery(store, txn, change, &record);
}

/* Changes made here are for the daemon that leads. */
int store_may_change(const struct gallery_store *store, struct db_txn *txn)
{
	enum changes_role role = changes_role(txn);

	if (txn->error)
		return txn->error;
	if (store->following)
		return role == CHANGES_PROMOTED ? 0 : BM_EFOLLOWER;
	return role == CHANGES_SUPERSEDED ? BM_ESUPERSEDED : 0;
}

int gallery_apply(struct gallery_store *store, struct db_txn *txn,
		  const struct gallery_change *change, struct gallery_outcome *outcome)
{
	int error = change->replica ? 0 : store_may_change(store, txn);

	if (error)
		return error;
	switch (change->kind) {
	case GALLERY_CREATE:
		return create(store, txn, change, outcome);
	case GALLERY_DROP:
		return drop(store, txn, change);
	case GALLERY_ROTATE:
		return rotate(store, txn, change, outcome);
	default:
		return change_subject(store, txn, change, outcome);
	}
}
