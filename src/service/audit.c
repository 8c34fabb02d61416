/* The audit log's own RPCs, and the checkpoints made without anybody asking. */
#include "biomatch/audit.h"

#include <stdlib.h>

#include "audit.h"
#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "biomatch/v1/admin_service.pb-c.h"

#define PAGE_MAX 1000
/* A page ends behind the entry that reaches this, far below what clients take at once. */
#define PAGE_BYTES ((size_t)1 << 20)
/* Entries removed at once: a few milliseconds of the writer's time. */
#define PRUNE_MAX 10000

static int checkpoint_prepare(struct service_call *call)
{
	const Biomatch__V1__CreateAuditCheckpointRequest *request = (const void *)call->request;
	int error = call_allow(call, request->purpose, NULL);

	return error ? error : call_check_request_id(call, request->request_id);
}

/* A copy in the call's memory; false when that is out. */
static bool copy_entry(struct service_call *call, struct bytes from, ProtobufCBinaryData *to)
{
	to->data = (uint8_t *)arena_strndup(&call->arena, (const char *)from.data, from.len);
	to->len = from.len;
	return to->data;
}

static int checkpoint(struct service_call *call, struct db_txn *txn)
{
	Biomatch__V1__CreateAuditCheckpointResponse *out =
		call_message(call, &biomatch__v1__create_audit_checkpoint_response__descriptor);
	struct audit_receipt head;
	struct bytes entry;
	int error;

	if (!out)
		return BM_ENOMEM;
	error = audit_checkpoint(txn, call->service->options.keys, clock_wall_ms(), &head);
	if (error)
		return error;
	if (!audit_get(txn, head.sequence, &entry))
		return txn->error ? txn->error : BM_ECORRUPT;
	call->response = &out->base;
	return copy_entry(call, entry, &out->checkpoint) ? 0 : BM_ENOMEM;
}

const struct rpc create_audit_checkpoint_rpc = {
	.path = "/biomatch.v1.AdminService/CreateAuditCheckpoint",
	.operation = POLICY_AUDIT,
	.request = &biomatch__v1__create_audit_checkpoint_request__descriptor,
	.response = &biomatch__v1__create_audit_checkpoint_response__descriptor,
	.receipt = offsetof(Biomatch__V1__CreateAuditCheckpointResponse, receipt),
	.prepare = checkpoint_prepare,
	.apply = checkpoint,
};

static int export_prepare(struct service_call *call)
{
	const Biomatch__V1__ExportAuditRequest *request = (const void *)call->request;

	if (request->page_size > PAGE_MAX)
		return call_failf(call, BM_EINVAL, "page_size", "at most %d entries a page",
				  PAGE_MAX);
	return call_allow(call, request->purpose, NULL);
}

static int read_page(struct service_call *call, struct db_txn *txn,
		     Biomatch__V1__ExportAuditResponse *out)
{
	const Biomatch__V1__ExportAuditRequest *request = (const void *)call->request;
	uint64_t first = request->first;
	size_t bytes = 0, max = request->page_size ? request->page_size : PAGE_MAX;
	struct bytes entry;
	int error = first ? 0 : audit_first(txn, &first);

	if (error)
		return error;
	out->entries = call_alloc(call, max * sizeof(*out->entries));
	if (!out->entries)
		return BM_ENOMEM;
	while (out->n_entries < max && bytes < PAGE_BYTES &&
	       audit_get(txn, first + out->n_entries, &entry)) {
		if (!copy_entry(call, entry, &out->entries[out->n_entries++]))
			return BM_ENOMEM;
		bytes += entry.len;
	}
	return txn->error;
}

static int export(struct service_call *call, struct faceworker *worker)
{
	Biomatch__V1__ExportAuditResponse *out =
		call_message(call, &biomatch__v1__export_audit_response__descriptor);
	struct db_txn txn;
	int error;

	(void)worker;
	if (!out)
		return BM_ENOMEM;
	error = db_begin_read(call->service->options.db, &txn);
	if (error)
		return error;
	error = read_page(call, &txn, out);
	db_abort(&txn);
	call->response = &out->base;
	return error;
}

const struct rpc export_audit_rpc = {
	.path = "/biomatch.v1.AdminService/ExportAudit",
	.operation = POLICY_AUDIT,
	.request = &biomatch__v1__export_audit_request__descriptor,
	.response = &biomatch__v1__export_audit_response__descriptor,
	.receipt = offsetof(Biomatch__V1__ExportAuditResponse, receipt),
	.prepare = export_prepare,
	.steps = {{CALL_READ, export}},
};

static int prune_prepare(struct service_call *call)
{
	const Biomatch__V1__PruneAuditRequest *request = (const void *)call->request;
	int error = call_allow(call, request->purpose, NULL);

	if (!error && (!request->checkpoint || request->checkpoint->hash.len != AUDIT_HASH_LEN))
		error = call_fail(call, BM_EMISSING, "checkpoint", NULL);
	return error ? error : call_check_request_id(call, request->request_id);
}

static int prune(struct service_call *call, struct db_txn *txn)
{
	const Biomatch__V1__PruneAuditRequest *request = (const void *)call->request;
	Biomatch__V1__PruneAuditResponse *out =
		call_message(call, &biomatch__v1__prune_audit_response__descriptor);
	struct audit_receipt checkpoint = {.sequence = request->checkpoint->sequence};
	int error;

	if (!out)
		return BM_ENOMEM;
	memcpy(checkpoint.hash, request->checkpoint->hash.data, AUDIT_HASH_LEN);
	error = audit_prune(txn, &checkpoint, PRUNE_MAX, &out->pruned, &out->left);
	if (error == BM_EINVAL)
		return call_fail(call, error, "checkpoint",
				 "the log has no checkpoint of this number and hash");
	call->trail->erased = (uint32_t)out->pruned;
	call->response = &out->base;
	return error;
}

/* Not the auditors': who prunes is not who keeps the export. */
const struct rpc prune_audit_rpc = {
	.path = "/biomatch.v1.AdminService/PruneAudit",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__prune_audit_request__descriptor,
	.response = &biomatch__v1__prune_audit_response__descriptor,
	.receipt = offsetof(Biomatch__V1__PruneAuditResponse, receipt),
	.prepare = prune_prepare,
	.apply = prune,
};

struct checkpoint_job {
	struct writer_job job;
	const struct keys *keys;
	struct audit_receipt head;
};

static int apply_checkpoint(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	struct checkpoint_job *c = (void *)job;

	(void)store;
	return audit_checkpoint(txn, c->keys, clock_wall_ms(), &c->head);
}

/* The log of the daemon leaves this machine: there the checkpoint witnesses the chain. */
static void done_checkpoint(struct writer_job *job, int error)
{
	struct checkpoint_job *c = (void *)job;
	char hash[2 * AUDIT_HASH_LEN + 1];

	if (error) {
		log_error("audit_checkpoint_failed", "reason=%s", bm_error_reason(error));
	} else {
		bytes_to_hex(c->head.hash, AUDIT_HASH_LEN, hash);
		log_notice("audit_checkpoint", "sequence=%llu hash=%s",
			   (unsigned long long)c->head.sequence, hash);
	}
	free(c);
}

void audit_tick(struct service *service)
{
	int64_t now = clock_monotonic_ns();
	struct checkpoint_job *c;

	if (now < service->checkpoint_due_ns)
		return;
	service->checkpoint_due_ns = now + service->options.checkpoint_ms * CLOCK_NS_PER_MS;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->keys = service->options.keys;
	c->job = (struct writer_job){
		.apply = apply_checkpoint, .done = done_checkpoint, .deadline_ns = CLOCK_FOREVER};
	/* A full or ending writer has its checkpoint next time. */
	if (writer_submit(service->options.writer, &c->job))
		free(c);
}
