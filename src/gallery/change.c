/*
 * Changes as they stand in the change log: what was decided here, so that another
 * store under the same keys comes to the same, without deciding again.
 */
#include <stdlib.h>

#include "change.h"

struct body_head {
	uint32_t kind, gallery, dim, text_len;
	uint32_t generation, reserved; /* of the key that the gallery is under */
	int64_t now_ms, captured_ms, expires_ms, enrolled_ms;
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
	uint8_t digest[PACK_SHA256_LEN];
	char model[GALLERY_MODEL_MAX];
	char name[GALLERY_NAME_MAX], encounter[GALLERY_ENCOUNTER_MAX];
	char type[GALLERY_TYPE_MAX], site[GALLERY_SITE_MAX];
	/*
	 * Of an encounter that was put the subject id and its floats as they are stored, of
	 * a hold and of its release the matter.
	 */
};

_Static_assert(sizeof(struct body_head) == 440, "no padding in stored structs");
_Static_assert(sizeof(struct body_head) + GALLERY_SUBJECT_MAX + PACK_MAX_DIM * sizeof(float) <=
		       CHANGES_BODY_MAX,
	       "every change can be logged");
_Static_assert(GALLERY_ENCOUNTER_MAX <= CHANGES_TAG_MAX, "an encounter's id is a change's tag");
_Static_assert(GALLERY_MATTER_MAX <= GALLERY_SUBJECT_MAX, "a body has room for either text");

#define BODY_MAX (sizeof(struct body_head) + GALLERY_SUBJECT_MAX + PACK_MAX_DIM * sizeof(float))

static void fill_head(const struct logged *l, struct body_head *head)
{
	const struct gallery_change *change = l->change;

	*head = (struct body_head){
		.kind = change->kind,
		.gallery = l->gallery->id,
		.dim = l->gallery->dim,
		.generation = row_generation(l->gallery->next_row),
		.now_ms = change->now_ms,
		.captured_ms = change->encounter.captured_ms,
		.expires_ms = change->encounter.expires_ms,
		.enrolled_ms = change->encounter.enrolled_ms,
	};
	memcpy(head->digest, l->gallery->digest, sizeof(head->digest));
	memcpy(head->model, l->gallery->model, sizeof(head->model));
	text_store(head->name, change->gallery, GALLERY_NAME_MAX);
	text_store(head->encounter, l->encounter, GALLERY_ENCOUNTER_MAX);
	text_store(head->type, change->encounter.type, GALLERY_TYPE_MAX);
	text_store(head->site, change->encounter.site, GALLERY_SITE_MAX);
	if (l->pseudonym)
		memcpy(head->pseudonym, l->pseudonym, KEYS_PSEUDONYM_LEN);
}

int change_log(const struct gallery_store *store, struct db_txn *txn, const struct logged *l)
{
	const uint32_t dim = l->gallery->dim;
	uint8_t body[BODY_MAX], *end = body + sizeof(struct body_head);
	struct changes_new change = {.time_ms = l->change->now_ms};
	const char *text = l->stored ? l->change->subject : l->change->matter;
	struct body_head head;
	struct record_key owner;
	int error;

	fill_head(l, &head);
	if (text) {
		head.text_len = (uint32_t)strlen(text);
		memcpy(end, text, head.text_len);
		end += head.text_len;
		owner = subject_key(l->gallery->id, l->pseudonym);
		change.owner = owner.data;
		change.tag = text_bytes(l->encounter);
	}
	if (l->stored) {
		memcpy(end, l->stored, dim * sizeof(float));
		end += dim * sizeof(float);
	}
	memcpy(body, &head, sizeof(head));
	change.body = (struct bytes){body, (size_t)(end - body)};
	error = changes_append(txn, store->keys, &change);
	bytes_wipe(body, change.body.len);
	return error;
}

/* A body taken apart; text with a NUL behind it. */
struct parsed {
	struct gallery_change change;
	struct gallery_replica replica;
	char name[GALLERY_NAME_MAX + 1], text[GALLERY_SUBJECT_MAX + 1];
	float stored[PACK_MAX_DIM];
};

static int parse_body(struct bytes body, struct parsed *out)
{
	size_t template_len;
	struct body_head head;

	if (body.len < sizeof(head))
		return BM_ECORRUPT;
	memcpy(&head, body.data, sizeof(head));
	body = (struct bytes){body.data + sizeof(head), body.len - sizeof(head)};
	template_len = head.kind == GALLERY_PUT ? head.dim * sizeof(float) : 0;
	if (head.dim > PACK_MAX_DIM || head.text_len > GALLERY_SUBJECT_MAX ||
	    body.len != head.text_len + template_len)
		return BM_ECORRUPT;
	memcpy(out->text, body.data, head.text_len);
	out->text[head.text_len] = '\0';
	memcpy(out->stored, body.data + head.text_len, template_len);
	text_load(out->name, head.name, GALLERY_NAME_MAX);
	out->replica = (struct gallery_replica){
		.gallery = head.gallery, .dim = head.dim, .generation = head.generation};
	memcpy(out->replica.pseudonym, head.pseudonym, KEYS_PSEUDONYM_LEN);
	memcpy(out->replica.digest, head.digest, sizeof(head.digest));
	text_load(out->replica.model, head.model, GALLERY_MODEL_MAX);
	out->change = (struct gallery_change){
		.kind = (enum gallery_change_kind)head.kind,
		.gallery = out->name,
		.subject = out->text,
		.encounter = {.captured_ms = head.captured_ms,
			      .expires_ms = head.expires_ms,
			      .enrolled_ms = head.enrolled_ms},
		.embedding = out->stored,
		.dim = head.dim,
		.now_ms = head.now_ms,
		.replica = &out->replica,
	};
	if (head.kind == GALLERY_HOLD || head.kind == GALLERY_RELEASE)
		out->change.matter = out->text;
	text_load(out->change.encounter.id, head.encounter, GALLERY_ENCOUNTER_MAX);
	text_load(out->change.encounter.type, head.type, GALLERY_TYPE_MAX);
	text_load(out->change.encounter.site, head.site, GALLERY_SITE_MAX);
	return 0;
}

static int apply_body(struct gallery_store *store, struct db_txn *txn, struct bytes body)
{
	struct parsed *parsed = malloc(sizeof(*parsed));
	struct gallery_outcome outcome;
	int error;

	if (!parsed)
		return BM_ENOMEM;
	error = parse_body(body, parsed);
	if (!error && parsed->change.kind >= GALLERY_CHANGE_KINDS)
		error = BM_ESTORENEW;
	if (!error)
		error = gallery_apply(store, txn, &parsed->change, &outcome);
	bytes_wipe(parsed, sizeof(*parsed));
	free(parsed);
	return error;
}

static int apply_sealed(struct gallery_store *store, struct db_txn *txn,
			const struct changes_entry *entry, uint64_t epoch)
{
	size_t len = entry->sealed.len - KEYS_SEAL_OVERHEAD;
	uint8_t *body;
	int error;

	if (entry->sealed.len < KEYS_SEAL_OVERHEAD || len > CHANGES_BODY_MAX)
		return BM_ECORRUPT;
	body = malloc(len + 1);
	if (!body)
		return BM_ENOMEM;
	error = changes_unseal(store->keys, entry, body);
	if (!error && entry->place.epoch > epoch)
		error = changes_raise_epoch(txn, store->keys, entry->time_ms);
	else if (!error)
		error = apply_body(store, txn, (struct bytes){body, len});
	bytes_wipe(body, len);
	free(body);
	return error;
}

int gallery_follow(struct gallery_store *store, struct db_txn *txn,
		   const struct changes_entry *entry)
{
	struct changes_place head;
	int error = changes_head(txn, &head);

	if (error)
		return error;
	if (entry->place.sequence != head.sequence + 1)
		return BM_EDIVERGED;
	if (!entry->sealed.len)
		return changes_append_erased(txn, entry);
	error = apply_sealed(store, txn, entry, head.epoch);
	if (!error)
		error = changes_head(txn, &head);
	if (error)
		return error;
	/* The hash holds the number, the epoch, the body and all that came before. */
	return memcmp(&head, &entry->place, sizeof(head)) ? BM_EDIVERGED : 0;
}
