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
	 * a hold and of its release the matter, of a kept picture the picture.
	 */
};

_Static_assert(sizeof(struct body_head) == 440, "no padding in stored structs");
_Static_assert(sizeof(struct body_head) + GALLERY_SUBJECT_MAX + PACK_MAX_DIM * sizeof(float) +
			       GALLERY_IMAGE_MAX <=
		       CHANGES_BODY_MAX,
	       "every change can be logged");
_Static_assert(GALLERY_ENCOUNTER_MAX <= CHANGES_TAG_MAX, "an encounter's id is a change's tag");
_Static_assert(GALLERY_MATTER_MAX <= GALLERY_SUBJECT_MAX, "a body has room for either text");

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

/* A body of its head and what follows it, to be wiped and freed; NULL when memory is out. */
static uint8_t *join(struct bytes head, const struct bytes *parts, size_t n, struct bytes *out)
{
	size_t len = head.len;
	uint8_t *body, *end;

	for (size_t i = 0; i < n; i++)
		len += parts[i].len;
	body = malloc(len);
	if (!body)
		return NULL;
	memcpy(body, head.data, head.len);
	end = body + head.len;
	for (size_t i = 0; i < n; end += parts[i].len, i++) {
		if (parts[i].len)
			memcpy(end, parts[i].data, parts[i].len);
	}
	*out = (struct bytes){body, len};
	return body;
}

int change_log(const struct gallery_store *store, struct db_txn *txn, const struct logged *l)
{
	const char *text = l->stored ? l->change->subject : l->change->matter;
	const struct bytes parts[] = {
		text_bytes(text ? text : ""),
		{(const uint8_t *)l->stored, l->stored ? l->gallery->dim * sizeof(float) : 0},
		l->change->kind == GALLERY_KEEP_IMAGE ? l->change->image : (struct bytes){0},
	};
	struct changes_new change = {.time_ms = l->change->now_ms};
	struct body_head head;
	struct record_key owner;
	uint8_t *body;
	int error;

	fill_head(l, &head);
	head.text_len = (uint32_t)parts[0].len;
	body = join((struct bytes){(const uint8_t *)&head, sizeof(head)}, parts, 3, &change.body);
	if (!body)
		return BM_ENOMEM;
	if (change.body.len > sizeof(head)) {
		owner = subject_key(l->gallery->id, l->pseudonym);
		change.owner = owner.data;
		change.tag = text_bytes(l->encounter);
	}
	error = changes_append(txn, store->keys, &change);
	bytes_wipe(body, change.body.len);
	free(body);
	return error;
}

/* A body taken apart; text with a NUL behind it, the picture borrowed from it. */
struct parsed {
	struct gallery_change change;
	struct gallery_replica replica;
	char name[GALLERY_NAME_MAX + 1], text[GALLERY_SUBJECT_MAX + 1];
	float stored[PACK_MAX_DIM];
};

static int parse_body(struct bytes body, struct parsed *out)
{
	size_t template_len, image_len;
	struct body_head head;

	if (body.len < sizeof(head))
		return BM_ECORRUPT;
	memcpy(&head, body.data, sizeof(head));
	body = (struct bytes){body.data + sizeof(head), body.len - sizeof(head)};
	template_len = head.kind == GALLERY_PUT ? head.dim * sizeof(float) : 0;
	if (head.dim > PACK_MAX_DIM || head.text_len > GALLERY_SUBJECT_MAX ||
	    body.len < head.text_len + template_len)
		return BM_ECORRUPT;
	image_len = body.len - head.text_len - template_len;
	if (image_len && head.kind != GALLERY_KEEP_IMAGE)
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
		.image = {body.data + body.len - image_len, image_len},
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
