#include "entry.h"

static int fault(struct audit_chain *chain, const char *what)
{
	chain->fault = what;
	return BM_EAUDIT;
}

static int check_place(struct audit_chain *chain, const Biomatch__V1__AuditEntry *entry)
{
	bool first = !chain->head.sequence;

	if (entry->sequence != chain->next)
		return fault(chain, "is missing, or out of its place");
	if (entry->previous.len != AUDIT_HASH_LEN)
		return fault(chain, "names no entry before it");
	if (!first && memcmp(entry->previous.data, chain->head.hash, AUDIT_HASH_LEN))
		return fault(chain,
			     "does not follow from the one before it; one of them was changed");
	if (first)
		memcpy(chain->log, entry->previous.data, AUDIT_HASH_LEN);
	return 0;
}

static int check_signature(struct audit_chain *chain, struct bytes packed,
			   const Biomatch__V1__AuditEntry *entry)
{
	if (!entry->signature.len && strcmp(entry->operation, AUDIT_CHECKPOINT))
		return 0;
	if (chain->trust && !entry_is_signed_by(packed, chain->trust))
		return fault(chain, "is a checkpoint that no trusted key has signed");
	chain->checkpoints++;
	return 0;
}

int audit_chain_take(struct audit_chain *chain, struct bytes packed, struct arena *arena,
		     const Biomatch__V1__AuditEntry **out)
{
	Biomatch__V1__AuditEntry *entry;
	int error = entry_unpack(packed, arena, &entry);

	if (error)
		return error == BM_EAUDIT ? fault(chain, "is no entry") : error;
	error = check_place(chain, entry);
	if (!error)
		error = check_signature(chain, packed, entry);
	if (!error)
		error = audit_hash(packed, chain->head.hash);
	if (error)
		return error;
	chain->head.sequence = entry->sequence;
	chain->next++;
	*out = entry;
	return 0;
}
