/* audit export, prune; verify, show, prove work on a file, with no service. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/audit.h"
#include "biomatch/parse.h"
#include "biomatch/wire.h"
#include "cli.h"

#define ENTRY_ARENA (64 * AUDIT_ENTRY_MAX)

static const struct method checkpoint_method = {
	"/biomatch.v1.AdminService/CreateAuditCheckpoint",
	&biomatch__v1__create_audit_checkpoint_response__descriptor, false};
static const struct method export_method = {"/biomatch.v1.AdminService/ExportAudit",
					    &biomatch__v1__export_audit_response__descriptor,
					    false};

static const struct method prune_method = {"/biomatch.v1.AdminService/PruneAudit",
					   &biomatch__v1__prune_audit_response__descriptor, false};

/* The entries of an export; first and next are 0 until the service has told its oldest. */
struct range {
	uint64_t first, next, last;
};

static struct bytes bytes_of(ProtobufCBinaryData data)
{
	return (struct bytes){data.data, data.len};
}

static uint64_t first_of(const struct cli *cli)
{
	return cli->options.first ? cli->options.first : 1;
}

/* Has the log signed; *last is the checkpoint's number, and the file begins with it. */
static int export_head(struct cli *cli, FILE *file, uint64_t *last)
{
	Biomatch__V1__CreateAuditCheckpointRequest request =
		BIOMATCH__V1__CREATE_AUDIT_CHECKPOINT_REQUEST__INIT;
	const Biomatch__V1__CreateAuditCheckpointResponse *response;
	ProtobufCMessage *reply, *head;
	char id[REQUEST_ID_LEN + 1];
	int error, result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	result = cli_call(cli, &checkpoint_method, &request.base, &reply);
	if (result)
		return result;
	response = (const Biomatch__V1__CreateAuditCheckpointResponse *)reply;
	error = wire_unpack(&biomatch__v1__audit_entry__descriptor, &cli->arena,
			    bytes_of(response->checkpoint), &head);
	if (!error) {
		*last = ((const Biomatch__V1__AuditEntry *)head)->sequence;
		error = audit_export_begin(file, bytes_of(response->checkpoint));
	}
	return error ? cli_fail_file(cli, "write the export's head", error) : EXIT_DONE;
}

/* The number of a page's first entry. */
static int page_first(struct cli *cli, const Biomatch__V1__ExportAuditResponse *page, uint64_t *out)
{
	ProtobufCMessage *entry;
	int error = page->n_entries ? wire_unpack(&biomatch__v1__audit_entry__descriptor,
						  &cli->arena, bytes_of(page->entries[0]), &entry)
				    : BM_EAUDIT;

	if (!error)
		*out = ((const Biomatch__V1__AuditEntry *)entry)->sequence;
	return error;
}

/* The entries that came after the checkpoint, this export's own among them, are left. */
static int add_page(struct cli *cli, FILE *file, const Biomatch__V1__ExportAuditResponse *page,
		    struct range *range)
{
	uint64_t sequence;
	int error = page_first(cli, page, &sequence);

	if (!error && !range->next)
		range->first = range->next = sequence;
	for (size_t i = 0; !error && i < page->n_entries && range->next <= range->last; i++) {
		error = audit_export_add(file, bytes_of(page->entries[i]));
		range->next++;
	}
	return error ? cli_fail_file(cli, "write the entries", error) : EXIT_DONE;
}

static int export_entries(struct cli *cli, FILE *file, struct range *range)
{
	Biomatch__V1__ExportAuditRequest request = BIOMATCH__V1__EXPORT_AUDIT_REQUEST__INIT;
	ProtobufCMessage *reply;
	int result = EXIT_DONE;

	request.purpose = (char *)cli->options.purpose;
	range->first = range->next = cli->options.first;
	if (range->first > range->last)
		return cli_fail(cli, EXIT_NO,
				&(struct failure){.message = "the log ends before --first"});
	while (!result && range->next <= range->last) {
		request.first = range->next;
		result = cli_call(cli, &export_method, &request.base, &reply);
		if (!result)
			result = add_page(cli, file,
					  (const Biomatch__V1__ExportAuditResponse *)reply, range);
		/* A long log does not fit into the memory of one reply. */
		arena_reset(&cli->arena);
	}
	return result;
}

static int tell_export(const struct cli *cli, const struct range *range)
{
	if (cli->options.json)
		printf("{\n  \"first\": %" PRIu64 ",\n  \"last\": %" PRIu64 "\n}\n", range->first,
		       range->last);
	else
		print_fact("exported", "entries %" PRIu64 " to %" PRIu64 ", which is signed",
			   range->first, range->last);
	return EXIT_DONE;
}

int run_audit_export(struct cli *cli)
{
	const char *path = cli->options.args[0];
	FILE *file = fopen(path, "wbxe");
	struct range range = {0};
	int result;

	if (!file)
		return cli_fail_file(cli, "write the export", BM_EIO);
	result = export_head(cli, file, &range.last);
	if (!result)
		result = export_entries(cli, file, &range);
	if (!result && (fflush(file) || fsync(fileno(file))))
		result = cli_fail_file(cli, "write the export", BM_EIO);
	fclose(file);
	if (result)
		unlink(path);
	return result ? result : tell_export(cli, &range);
}

static int read_trust(const struct cli *cli, uint8_t keys[CLI_MAX_LIST][AUDIT_KEY_LEN],
		      struct audit_trust *trust)
{
	const struct list *files = &cli->options.public_keys;

	*trust = (struct audit_trust){(const uint8_t(*)[AUDIT_KEY_LEN])keys, files->n};
	if (!files->n)
		return cli_fail(cli, EXIT_USAGE,
				&(struct failure){
					.message = "name the public key of the log: --public-key"});
	for (size_t i = 0; i < files->n; i++) {
		int error = audit_read_key(files->items[i], keys[i]);

		if (error == BM_EINVAL)
			return cli_fail(cli, EXIT_LOCAL,
					&(struct failure){.message = "--public-key is no Ed25519 "
								     "public key in PEM"});
		if (error)
			return cli_fail_file(cli, "read the public key", error);
	}
	return EXIT_DONE;
}

static int fail_broken(const struct cli *cli, const struct audit_chain *chain)
{
	char message[160];

	snprintf(message, sizeof(message), "entry %" PRIu64 " %s", chain->next, chain->fault);
	return cli_fail(
		cli, EXIT_NO,
		&(struct failure){.reason = bm_error_reason(BM_EAUDIT), .message = message});
}

/* Checks the whole file; prints what is wrong. */
static int verify(const struct cli *cli, const struct audit_receipt *receipt,
		  struct audit_verdict *verdict)
{
	uint8_t keys[CLI_MAX_LIST][AUDIT_KEY_LEN];
	struct audit_trust trust;
	int error, result = read_trust(cli, keys, &trust);

	if (result)
		return result;
	error = audit_export_verify(cli->options.args[0], &trust, first_of(cli), receipt, verdict);
	if (error == BM_EAUDIT)
		return fail_broken(cli, &verdict->chain);
	return error ? cli_fail_file(cli, "read the export", error) : EXIT_DONE;
}

static int print_verdict(const struct cli *cli, const struct audit_chain *chain)
{
	char log[2 * AUDIT_HASH_LEN + 1], head[2 * AUDIT_HASH_LEN + 1];
	uint64_t n = chain->head.sequence - first_of(cli) + 1;

	bytes_to_hex(chain->log, AUDIT_HASH_LEN, log);
	bytes_to_hex(chain->head.hash, AUDIT_HASH_LEN, head);
	if (cli->options.json) {
		printf("{\n  \"entries\": %" PRIu64 ",\n  \"checkpoints\": %" PRIu64
		       ",\n  \"before\": \"%s\",\n  \"head\": \"%" PRIu64 ":%s\"\n}\n",
		       n, chain->checkpoints, log, chain->head.sequence, head);
		return EXIT_DONE;
	}
	print_fact("holds", "%" PRIu64 " entries in one chain, %" PRIu64 " of them signed", n,
		   chain->checkpoints);
	print_fact("before", "%s", log);
	print_fact("head", "%" PRIu64 ":%s", chain->head.sequence, head);
	return EXIT_DONE;
}

int run_audit_verify(struct cli *cli)
{
	struct audit_verdict verdict;
	int result = verify(cli, NULL, &verdict);

	return result ? result : print_verdict(cli, &verdict.chain);
}

/* SEQUENCE:HASH, as receipts are printed. */
static int parse_receipt(const char *text, struct audit_receipt *out)
{
	const char *colon = strchr(text, ':');
	char number[24];

	if (!colon || (size_t)(colon - text) >= sizeof(number) ||
	    strlen(colon + 1) != 2 * AUDIT_HASH_LEN)
		return BM_EINVAL;
	memcpy(number, text, (size_t)(colon - text));
	number[colon - text] = '\0';
	return parse_uint(number, 1, UINT64_MAX, &out->sequence) ||
			       bytes_from_hex(colon + 1, out->hash, AUDIT_HASH_LEN)
		       ? BM_EINVAL
		       : 0;
}

static int fail_receipt(const struct cli *cli)
{
	return cli_fail(cli, EXIT_USAGE,
			&(struct failure){.message = "RECEIPT is not SEQUENCE:HASH"});
}

int run_audit_prove(struct cli *cli)
{
	struct audit_verdict verdict;
	struct audit_receipt receipt;
	int result;

	if (parse_receipt(cli->options.args[1], &receipt))
		return fail_receipt(cli);
	result = verify(cli, &receipt, &verdict);
	if (result)
		return result;
	if (!verdict.receipt_found)
		return cli_fail(cli, EXIT_NO,
				&(struct failure){.reason = bm_error_reason(BM_EAUDIT),
						  .message = "the log holds, and no entry of it "
							     "has this receipt"});
	if (!cli->options.json)
		print_fact("proven", "the receipt is of entry %" PRIu64, receipt.sequence);
	return print_verdict(cli, &verdict.chain);
}

/* Each call removes so many, so that nobody waits long for the writer. */
static int prune(struct cli *cli, Biomatch__V1__Receipt *checkpoint, uint64_t *pruned)
{
	const Biomatch__V1__PruneAuditResponse *response;
	ProtobufCMessage *reply;
	uint64_t left;

	do {
		Biomatch__V1__PruneAuditRequest request = BIOMATCH__V1__PRUNE_AUDIT_REQUEST__INIT;
		char id[REQUEST_ID_LEN + 1];
		int result = cli_request_id(cli, id, &request.request_id);

		request.purpose = (char *)cli->options.purpose;
		request.checkpoint = checkpoint;
		if (!result)
			result = cli_call(cli, &prune_method, &request.base, &reply);
		if (result)
			return result;
		response = (const Biomatch__V1__PruneAuditResponse *)reply;
		*pruned += response->pruned;
		left = response->left;
		arena_reset(&cli->arena);
	} while (left);
	return EXIT_DONE;
}

int run_audit_prune(struct cli *cli)
{
	Biomatch__V1__Receipt checkpoint = BIOMATCH__V1__RECEIPT__INIT;
	struct audit_receipt receipt;
	uint64_t pruned = 0;
	int result;

	if (parse_receipt(cli->options.args[0], &receipt))
		return fail_receipt(cli);
	checkpoint.sequence = receipt.sequence;
	checkpoint.hash = (ProtobufCBinaryData){AUDIT_HASH_LEN, receipt.hash};
	result = prune(cli, &checkpoint, &pruned);
	if (result)
		return result;
	if (cli->options.json)
		printf("{\n  \"pruned\": %" PRIu64 "\n}\n", pruned);
	else
		print_fact("pruned", "%" PRIu64 " entries; the log begins with %" PRIu64, pruned,
			   receipt.sequence);
	return EXIT_DONE;
}

static void print_line(const Biomatch__V1__AuditEntry *e)
{
	char line[512], clean[512], time[32];
	const char *reason = e->n_reasons ? e->reasons[0] : "";

	time_format(e->time, time);
	snprintf(line, sizeof(line), "%s  %s  %s  %s  %s %s", time, e->operation,
		 *e->endpoint ? e->endpoint : "-", *e->purpose ? e->purpose : "-", e->outcome,
		 reason);
	text_clean(line, clean, sizeof(clean));
	printf("%-10" PRIu64 "%s\n", e->sequence, clean);
}

static int show_entry(const struct cli *cli, struct bytes packed, uint64_t wanted, bool *shown)
{
	ProtobufCMessage *message;
	struct arena arena;
	int error, result = EXIT_DONE;

	arena_init(&arena, ENTRY_ARENA);
	error = wire_unpack(&biomatch__v1__audit_entry__descriptor, &arena, packed, &message);
	if (error) {
		result = cli_fail(cli, EXIT_NO,
				  &(struct failure){.reason = bm_error_reason(BM_EAUDIT),
						    .message = "the file holds what is no entry"});
	} else {
		const Biomatch__V1__AuditEntry *entry = (const void *)message;

		if (!wanted || entry->sequence == wanted) {
			*shown = true;
			if (cli->options.json || wanted)
				result = print_json(message);
			else
				print_line(entry);
		}
	}
	arena_deinit(&arena);
	return result;
}

int run_audit_show(struct cli *cli)
{
	const struct options *o = &cli->options;
	struct audit_export *file;
	struct bytes entry = {0};
	uint64_t wanted = 0;
	bool shown = false;
	int error, result = EXIT_DONE;

	if (o->n_args > 1 && parse_uint(o->args[1], 1, UINT64_MAX, &wanted))
		return cli_fail(cli, EXIT_USAGE,
				&(struct failure){.message = "SEQUENCE is not a number from 1"});
	error = audit_export_open(o->args[0], &file);
	if (error)
		return cli_fail_file(cli, "read the export", error);
	while (!result && !(error = audit_export_next(file, &entry)) && entry.len)
		result = show_entry(cli, entry, wanted, &shown);
	audit_export_close(file);
	if (error)
		return cli_fail_file(cli, "read the export", error);
	if (!result && !shown)
		return cli_fail(cli, EXIT_NO,
				&(struct failure){.message = "the export has no such entry"});
	return result;
}
