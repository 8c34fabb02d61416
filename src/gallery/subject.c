#include "store.h"

/* The sealed id and the longest record of a subject. */
#define SEALED_MAX (GALLERY_SUBJECT_MAX + KEYS_SEAL_OVERHEAD)
#define SUBJECT_MAX                                                                                \
	(sizeof(struct subject_record) + SEALED_MAX +                                              \
	 GALLERY_MAX_ENCOUNTERS * sizeof(struct stored_encounter))

int subject_pseudonym(const struct gallery_store *store, uint32_t gallery, const char *subject,
		      uint8_t out[KEYS_PSEUDONYM_LEN])
{
	uint8_t id[4];
	struct bytes parts[2] = {{id, sizeof(id)}, text_bytes(subject)};

	bytes_put_be32(id, gallery);
	return keys_pseudonym(store->keys, KEYS_SUBJECT, parts, 2, out);
}

_Static_assert(REQUESTS_OWNER_LEN == 4 + KEYS_PSEUDONYM_LEN, "a subject's key is an owner");
_Static_assert(GALLERY_ENCOUNTER_MAX <= REQUESTS_TAG_MAX, "an encounter's id is an answer's tag");

int gallery_owner(const struct gallery_store *store, struct db_txn *txn, const char *gallery,
		  const char *subject, uint8_t out[REQUESTS_OWNER_LEN])
{
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
	struct gallery_record record;
	int error = record_find(txn, gallery, &record);

	if (!error)
		error = subject_pseudonym(store, record.id, subject, pseudonym);
	if (!error)
		memcpy(out, subject_key(record.id, pseudonym).data, REQUESTS_OWNER_LEN);
	return error;
}

static int find(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym, struct bytes *value,
		struct subject_record *head)
{
	struct record_key key = subject_key(gallery, pseudonym);

	if (!db_get(txn, DB_SUBJECTS, key_bytes(&key), value))
		return txn->error ? txn->error : BM_ENOREFERENCE;
	if (record_check(*value, sizeof(*head)))
		return BM_ECORRUPT;
	memcpy(head, value->data, sizeof(*head));
	if (!head->n)
		return value->len == sizeof(struct subject_mark) && !head->sealed_len ? 0
										      : BM_ECORRUPT;
	if (head->n > GALLERY_MAX_ENCOUNTERS ||
	    value->len !=
		    sizeof(*head) + head->sealed_len + head->n * sizeof(struct stored_encounter))
		return BM_ECORRUPT;
	return 0;
}

int subject_read(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym,
		 struct subject *out)
{
	struct record_key key = subject_key(gallery, pseudonym);
	struct subject_record head;
	struct bytes value;
	int error = find(txn, gallery, pseudonym, &value, &head);

	if (error)
		return error;
	memcpy(out->pseudonym, pseudonym, KEYS_PSEUDONYM_LEN);
	out->n = head.n;
	out->forget_ms = 0;
	if (!head.n)
		memcpy(&out->forget_ms, value.data + offsetof(struct subject_mark, forget_ms),
		       sizeof(out->forget_ms));
	memcpy(out->encounters, value.data + sizeof(head) + head.sealed_len,
	       head.n * sizeof(out->encounters[0]));
	out->is_held = db_get(txn, DB_HOLDS, key_bytes(&key), &value);
	return txn->error;
}

struct stored_encounter *encounter_find(struct subject *subject, const char *id)
{
	char stored[GALLERY_ENCOUNTER_MAX + 1];

	for (uint16_t i = 0; i < subject->n; i++) {
		text_load(stored, subject->encounters[i].id, GALLERY_ENCOUNTER_MAX);
		if (!strcmp(stored, id))
			return &subject->encounters[i];
	}
	return NULL;
}

int subject_read_named(struct gallery_snapshot *snapshot, uint32_t gallery, const char *name,
		       struct subject *out)
{
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
	int error = subject_pseudonym(snapshot->store, gallery, name, pseudonym);

	return error ? error : subject_read(&snapshot->txn, gallery, pseudonym, out);
}

int subject_name(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
		 const uint8_t *pseudonym, char out[GALLERY_SUBJECT_MAX + 1])
{
	struct bytes value, context = {pseudonym, KEYS_PSEUDONYM_LEN};
	struct subject_record head;
	int error = find(txn, gallery, pseudonym, &value, &head);

	if (error)
		return error;
	if (head.sealed_len < KEYS_SEAL_OVERHEAD || head.sealed_len > SEALED_MAX)
		return BM_ECORRUPT;
	out[head.sealed_len - KEYS_SEAL_OVERHEAD] = '\0';
	error = keys_unseal(store->keys, KEYS_SUBJECT, context,
			    (struct bytes){value.data + sizeof(head), head.sealed_len},
			    (uint8_t *)out);
	return error == BM_ETEMPLATE ? BM_ECORRUPT : error;
}

int subject_write(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
		  const struct subject *subject, const char *name)
{
	struct record_key key = subject_key(gallery, subject->pseudonym);
	struct bytes value, context = {subject->pseudonym, KEYS_PSEUDONYM_LEN};
	struct subject_record head = {.version = STORE_VERSION, .n = subject->n};
	uint8_t record[SUBJECT_MAX], *p = record + sizeof(head);
	int error;

	if (name) {
		head.sealed_len = (uint16_t)(strlen(name) + KEYS_SEAL_OVERHEAD);
		error = keys_seal(store->keys, KEYS_SUBJECT, context, text_bytes(name), p);
		if (error)
			return error;
	} else {
		struct subject_record old;

		error = find(txn, gallery, subject->pseudonym, &value, &old);
		if (error)
			return error;
		head.sealed_len = old.sealed_len;
		memcpy(p, value.data + sizeof(old), old.sealed_len);
	}
	p += head.sealed_len;
	memcpy(p, subject->encounters, subject->n * sizeof(subject->encounters[0]));
	p += subject->n * sizeof(subject->encounters[0]);
	memcpy(record, &head, sizeof(head));
	head.sum = record_sum(record, (size_t)(p - record));
	memcpy(record, &head, sizeof(head));
	db_put(txn, DB_SUBJECTS, key_bytes(&key), (struct bytes){record, (size_t)(p - record)});
	return txn->error;
}

void subject_write_mark(struct db_txn *txn, uint32_t gallery, const struct subject *subject)
{
	struct record_key key = subject_key(gallery, subject->pseudonym);
	struct subject_mark mark = {.head = {.version = STORE_VERSION},
				    .forget_ms = subject->forget_ms};

	mark.head.sum = record_sum(&mark, sizeof(mark));
	db_put(txn, DB_SUBJECTS, key_bytes(&key),
	       (struct bytes){(const uint8_t *)&mark, sizeof(mark)});
}
