/*
 * Pictures that are kept of encounters, where a purpose says so.
 *
 *   images  gallery, pseudonym, encounter id -> struct image_record, sealed picture
 *
 * A picture is sealed to its key, so that none can be passed off as another's, and
 * it goes with its encounter.
 */
#include "store.h"

static struct record_key image_key(uint32_t gallery, const uint8_t *pseudonym,
				   const struct stored_encounter *encounter)
{
	struct record_key key = subject_key(gallery, pseudonym);
	char id[GALLERY_ENCOUNTER_MAX + 1];

	text_load(id, encounter->id, GALLERY_ENCOUNTER_MAX);
	memcpy(key.data + key.len, id, strlen(id));
	key.len += strlen(id);
	return key;
}

bool image_exists(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym,
		  const struct stored_encounter *encounter)
{
	struct record_key key = image_key(gallery, pseudonym, encounter);
	struct bytes value;

	return db_get(txn, DB_IMAGES, key_bytes(&key), &value);
}

int image_keep(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
	       const uint8_t *pseudonym, const struct stored_encounter *encounter,
	       struct bytes picture)
{
	struct record_key key = image_key(gallery, pseudonym, encounter);
	struct image_record record = {.version = STORE_VERSION};
	size_t len = sizeof(record) + KEYS_SEAL_OVERHEAD + picture.len;
	uint8_t *value;
	int error;

	if (!picture.len || picture.len > GALLERY_IMAGE_MAX)
		return BM_EIMGSIZE;
	if (image_exists(txn, gallery, pseudonym, encounter))
		return BM_EEXISTS;
	value = db_reserve(txn, DB_IMAGES, key_bytes(&key), len);
	if (!value)
		return txn->error;
	error = keys_seal(store->keys, KEYS_IMAGE, key_bytes(&key), picture,
			  value + sizeof(record));
	memcpy(value, &record, sizeof(record));
	record.sum = record_sum(value, len);
	memcpy(value, &record.sum, sizeof(record.sum));
	return error;
}

void image_drop(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym,
		const struct stored_encounter *encounter)
{
	struct record_key key = image_key(gallery, pseudonym, encounter);

	if (db_delete(txn, DB_IMAGES, key_bytes(&key)))
		db_want_scrub(txn->db);
}

int image_read(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
	       const uint8_t *pseudonym, const struct stored_encounter *encounter,
	       struct arena *arena, struct bytes *out)
{
	struct record_key key = image_key(gallery, pseudonym, encounter);
	struct bytes value, sealed;
	uint8_t *picture;
	int error;

	if (!db_get(txn, DB_IMAGES, key_bytes(&key), &value))
		return txn->error ? txn->error : BM_ENOIMAGE;
	if (record_check(value, sizeof(struct image_record) + KEYS_SEAL_OVERHEAD))
		return BM_ECORRUPT;
	sealed = (struct bytes){value.data + sizeof(struct image_record),
				value.len - sizeof(struct image_record)};
	picture = arena_alloc(arena, sealed.len - KEYS_SEAL_OVERHEAD);
	if (!picture)
		return BM_ENOMEM;
	error = keys_unseal(store->keys, KEYS_IMAGE, key_bytes(&key), sealed, picture);
	*out = (struct bytes){picture, sealed.len - KEYS_SEAL_OVERHEAD};
	return error == BM_ETEMPLATE ? BM_ECORRUPT : error;
}

int gallery_image(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		  const char *subject, const char *encounter, struct arena *arena,
		  struct bytes *out)
{
	const struct stored_encounter *at = NULL;
	struct subject found;
	int error = subject_read_named(snapshot, gallery->id, subject, &found);

	if (!error && !found.n)
		error = BM_ENOREFERENCE;
	if (!error)
		at = encounter_find(&found, encounter);
	if (!error && !at)
		error = BM_ENOENCOUNTER;
	return error ? error
		     : image_read(snapshot->store, &snapshot->txn, gallery->id, found.pseudonym, at,
				  arena, out);
}
