#include "trail.h"

#include <assert.h>

#include "biomatch/clock.h"
#include "biomatch/v1/common.pb-c.h"
#include "times.h"

/* Memory of the call; NULL ends the entry. */
static void *note(struct service_call *call, size_t size)
{
	void *p = call_alloc(call, size);

	if (!p)
		call->trail_error = BM_ENOMEM;
	return p;
}

/* Room for one more element behind n; lists are short, and an old copy is the arena's. */
static void *grow(struct service_call *call, const void *list, size_t n, size_t size)
{
	void *larger = note(call, (n + 1) * size);

	if (larger && n)
		memcpy(larger, list, n * size);
	return larger;
}

static void add_text(struct service_call *call, char ***list, size_t *n, const char *text)
{
	char **larger = grow(call, *list, *n, sizeof(*larger));

	if (!larger)
		return;
	larger[*n] = (char *)(uintptr_t)text;
	*list = larger;
	(*n)++;
}

void trail_begin(struct service_call *call, const char *purpose, const char *gallery)
{
	if (!call->trail) {
		Biomatch__V1__AuditEntry *entry =
			call_message(call, &biomatch__v1__audit_entry__descriptor);

		if (!entry)
			return;
		entry->endpoint = call->uri;
		entry->purpose = (char *)(uintptr_t)purpose;
		entry->operation = (char *)(uintptr_t)(call->rpc->path + 1);
		entry->policy_version = (char *)(uintptr_t)policy_version(call->policy->policy);
		entry->outcome = (char *)(uintptr_t) "DONE";
		call->trail = entry;
	}
	if (gallery)
		add_text(call, &call->trail->galleries, &call->trail->n_galleries, gallery);
}

static struct bytes bytes_of_text(const char *text)
{
	return (struct bytes){(const uint8_t *)text, strlen(text)};
}

int trail_pseudonym(const struct keys *keys, const char *gallery, const char *subject,
		    const char *encounter, uint8_t out[KEYS_PSEUDONYM_LEN])
{
	struct bytes parts[3] = {bytes_of_text(gallery), bytes_of_text(subject)};

	if (encounter)
		parts[2] = bytes_of_text(encounter);
	return keys_pseudonym(keys, KEYS_AUDIT, parts, encounter ? 3 : 2, out);
}

static void pseudonym(struct service_call *call, const char *gallery, const char *subject,
		      const char *encounter, ProtobufCBinaryData *out)
{
	uint8_t *text = note(call, KEYS_PSEUDONYM_LEN);

	if (!text)
		return;
	if (trail_pseudonym(call->service->options.keys, gallery, subject, encounter, text))
		call->trail_error = BM_ENOMEM;
	*out = (ProtobufCBinaryData){KEYS_PSEUDONYM_LEN, text};
}

void trail_subject(struct service_call *call, const char *gallery, const char *subject,
		   const char *encounter)
{
	pseudonym(call, gallery, subject, NULL, &call->trail->subject);
	if (encounter)
		pseudonym(call, gallery, subject, encounter, &call->trail->encounter);
}

void trail_input(struct service_call *call, struct bytes data)
{
	Biomatch__V1__AuditEntry *entry = call->trail;
	ProtobufCBinaryData *larger =
		grow(call, entry->inputs, entry->n_inputs, sizeof(*entry->inputs));
	uint8_t *hash = note(call, AUDIT_HASH_LEN);

	if (!larger || !hash)
		return;
	if (audit_hash(data, hash))
		call->trail_error = BM_ENOMEM;
	larger[entry->n_inputs++] = (ProtobufCBinaryData){AUDIT_HASH_LEN, hash};
	entry->inputs = larger;
}

void trail_score(struct service_call *call, const char *gallery, const char *subject, float score)
{
	Biomatch__V1__AuditEntry *entry = call->trail;
	Biomatch__V1__AuditScore *added = note(call, sizeof(*added)), **larger;

	larger = grow(call, entry->scores, entry->n_scores, sizeof(Biomatch__V1__AuditScore *));
	if (!added || !larger)
		return;
	biomatch__v1__audit_score__init(added);
	added->score = score;
	if (subject) {
		added->gallery = (char *)(uintptr_t)gallery;
		pseudonym(call, gallery, subject, NULL, &added->subject);
	}
	larger[entry->n_scores++] = added;
	entry->scores = larger;
}

void trail_liveness(struct service_call *call, float score, float threshold)
{
	Biomatch__V1__AuditLiveness *added;

	if (call->trail->liveness && call->trail->liveness->score <= score)
		return;
	added = note(call, sizeof(*added));
	if (!added)
		return;
	biomatch__v1__audit_liveness__init(added);
	added->score = score;
	added->threshold = threshold;
	call->trail->liveness = added;
}

void trail_document(struct service_call *call, const char *verdict)
{
	call->trail->document = (char *)(uintptr_t)verdict;
}

void trail_outcome(struct service_call *call, const char *outcome, int reason)
{
	call->trail->outcome = (char *)(uintptr_t)outcome;
	call->trail->n_reasons = 0;
	if (reason)
		add_text(call, &call->trail->reasons, &call->trail->n_reasons,
			 bm_error_reason(reason));
}

/* Every response of an audited RPC has its receipt at the offset that the RPC names. */
static int give_receipt(struct service_call *call, const struct audit_receipt *from)
{
	Biomatch__V1__Receipt *receipt = call_message(call, &biomatch__v1__receipt__descriptor);
	char *hash = arena_strndup(&call->arena, (const char *)from->hash, AUDIT_HASH_LEN);

	if (!receipt || !hash)
		return BM_ENOMEM;
	receipt->sequence = from->sequence;
	receipt->hash = (ProtobufCBinaryData){AUDIT_HASH_LEN, (uint8_t *)hash};
	*(Biomatch__V1__Receipt **)(void *)((char *)call->response + call->rpc->receipt) = receipt;
	return 0;
}

int trail_append(struct service_call *call, struct db_txn *txn)
{
	struct audit_receipt receipt;
	int error;

	assert(call->trail);
	call->trail->time = time_to_wire(call, clock_wall_ms());
	if (call->trail_error || !call->trail->time)
		return BM_ENOMEM;
	error = audit_append(txn, call->trail, &receipt);
	return error || !call->response ? error : give_receipt(call, &receipt);
}
