/*
 * Legal holds: while one stands on a subject, nothing of it is erased.
 *
 *   holds  gallery, pseudonym -> struct hold_record, struct stored_hold ...
 *
 * What a held subject's encounters had of places in the order of expiry is taken out,
 * and put back with the last release, so that whoever erases what is due finds
 * nothing to pass over.
 */
#include "store.h"

/* A matter is bound to its subject's record. */
static int seal(const struct gallery_store *store, const struct record_key *key, const char *matter,
		struct stored_hold *to)
{
	to->sealed_len = (uint32_t)(strlen(matter) + KEYS_SEAL_OVERHEAD);
	return keys_seal(store->keys, KEYS_SUBJECT, key_bytes(key), text_bytes(matter), to->sealed);
}

static int unseal(const struct gallery_store *store, const struct record_key *key,
		  const struct stored_hold *from, char out[GALLERY_MATTER_MAX + 1])
{
	int error;

	if (from->sealed_len < KEYS_SEAL_OVERHEAD || from->sealed_len > sizeof(from->sealed))
		return BM_ECORRUPT;
	error = keys_unseal(store->keys, KEYS_SUBJECT, key_bytes(key),
			    (struct bytes){from->sealed, from->sealed_len}, (uint8_t *)out);
	out[from->sealed_len - KEYS_SEAL_OVERHEAD] = '\0';
	return error == BM_ETEMPLATE ? BM_ECORRUPT : error;
}

int holds_read(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym, struct holds *out)
{
	struct record_key key = subject_key(gallery, pseudonym);
	struct hold_record head;
	struct bytes value;

	out->n = 0;
	if (!db_get(txn, DB_HOLDS, key_bytes(&key), &value))
		return txn->error;
	if (record_check(value, sizeof(head)))
		return BM_ECORRUPT;
	memcpy(&head, value.data, sizeof(head));
	if (!head.n || head.n > GALLERY_MAX_HOLDS ||
	    value.len != sizeof(head) + head.n * sizeof(out->holds[0]))
		return BM_ECORRUPT;
	out->n = head.n;
	memcpy(out->holds, value.data + sizeof(head), head.n * sizeof(out->holds[0]));
	return 0;
}

static void holds_write(struct db_txn *txn, const struct record_key *key, const struct holds *holds)
{
	struct {
		struct hold_record head;
		struct stored_hold holds[GALLERY_MAX_HOLDS];
	} record = {.head = {.version = STORE_VERSION, .n = holds->n}};
	size_t len = sizeof(record.head) + holds->n * sizeof(record.holds[0]);

	if (!holds->n) {
		db_want_scrub(txn->db);
		db_delete(txn, DB_HOLDS, key_bytes(key));
		return;
	}
	memcpy(record.holds, holds->holds, holds->n * sizeof(record.holds[0]));
	record.head.sum = record_sum(&record, len);
	db_put(txn, DB_HOLDS, key_bytes(key), (struct bytes){(const uint8_t *)&record, len});
}

/* Which of the holds is for the matter; their number for none. */
static int find(const struct gallery_store *store, const struct record_key *key,
		const struct holds *holds, const char *matter, uint32_t *at)
{
	char held[GALLERY_MATTER_MAX + 1];
	int error = 0;

	for (*at = 0; *at < holds->n; ++*at) {
		error = unseal(store, key, &holds->holds[*at], held);
		if (error || !strcmp(held, matter))
			break;
	}
	bytes_wipe(held, sizeof(held));
	return error;
}

int hold_place(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
	       const uint8_t *pseudonym, struct holds *holds, const struct gallery_change *change)
{
	struct record_key key = subject_key(gallery, pseudonym);
	struct stored_hold *hold = &holds->holds[holds->n];
	uint32_t at;
	int error = find(store, &key, holds, change->matter, &at);

	if (!error && at < holds->n)
		error = BM_EEXISTS;
	if (!error && holds->n == GALLERY_MAX_HOLDS)
		error = BM_ELIMIT;
	if (error)
		return error;
	memset(hold, 0, sizeof(*hold));
	hold->placed_ms = change->now_ms;
	error = seal(store, &key, change->matter, hold);
	if (error)
		return error;
	holds->n++;
	holds_write(txn, &key, holds);
	return txn->error;
}

int hold_release(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
		 const uint8_t *pseudonym, struct holds *holds, const struct gallery_change *change)
{
	struct record_key key = subject_key(gallery, pseudonym);
	uint32_t at;
	int error = find(store, &key, holds, change->matter, &at);

	if (!error && at == holds->n)
		error = BM_ENOHOLD;
	if (error)
		return error;
	holds->n--;
	memmove(&holds->holds[at], &holds->holds[at + 1],
		(holds->n - at) * sizeof(holds->holds[0]));
	holds_write(txn, &key, holds);
	return txn->error;
}

int gallery_holds(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		  const char *subject, struct gallery_hold out[GALLERY_MAX_HOLDS], size_t *n)
{
	struct record_key key;
	struct subject found;
	struct holds holds;
	int error = subject_read_named(snapshot, gallery->id, subject, &found);

	*n = 0;
	if (!error && !found.n)
		error = BM_ENOREFERENCE;
	if (!error)
		error = holds_read(&snapshot->txn, gallery->id, found.pseudonym, &holds);
	if (error)
		return error;
	key = subject_key(gallery->id, found.pseudonym);
	for (; !error && *n < holds.n; ++*n) {
		out[*n].placed_ms = holds.holds[*n].placed_ms;
		error = unseal(snapshot->store, &key, &holds.holds[*n], out[*n].matter);
	}
	return error;
}
