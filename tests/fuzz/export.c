/* An export of the audit log, which whoever had it in hands may have changed. */
#include "biomatch/audit.h"
#include "fuzz.h"

static struct fuzz_file file;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_file_open(&file);
	return 0;
}

/* The entries one by one, as the command line prints them. */
static void read_entries(void)
{
	struct audit_export *x;
	struct bytes entry;
	struct arena arena;
	struct audit_chain chain = {.next = 1};
	const Biomatch__V1__AuditEntry *unpacked;

	if (audit_export_open(file.path, &x))
		return;
	arena_init(&arena, 1 << 24);
	while (!audit_export_next(x, &entry) && entry.data) {
		REQUIRE(entry.len && entry.len <= AUDIT_ENTRY_MAX);
		if (audit_chain_take(&chain, entry, &arena, &unpacked))
			REQUIRE(chain.fault);
		arena_reset(&arena);
	}
	arena_deinit(&arena);
	audit_export_close(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t keys[1][AUDIT_KEY_LEN] = {{1}};
	const struct audit_trust trust = {keys, 1};
	struct audit_verdict verdict;
	int error;

	fuzz_file_set(&file, data, size);
	read_entries();
	error = audit_export_verify(file.path, &trust, 1, NULL, &verdict);
	/* Nobody has signed it with that key. */
	REQUIRE(error == BM_EAUDIT && verdict.chain.fault);
	return 0;
}
