/*
 * A log in a throw-away store, and its keys.
 */
#ifndef TESTS_AUDIT_LOG_H
#define TESTS_AUDIT_LOG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "biomatch/audit.h"
#include "biomatch/file.h"
#include "biomatch/log.h"

struct test_log {
	char dir[64], path[96]; /* path: of an export */
	struct keys *keys;
	struct db *db;
	uint8_t public[AUDIT_KEY_LEN];
	struct audit_trust trust;
};

static inline void test_public_key(uint8_t fill, uint8_t out[AUDIT_KEY_LEN])
{
	uint8_t seed[KEYS_SIGNING_LEN];
	size_t len = AUDIT_KEY_LEN;
	EVP_PKEY *key;

	memset(seed, fill, sizeof(seed));
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof(seed));
	assert_non_null(key);
	assert_int_equal(EVP_PKEY_get_raw_public_key(key, out, &len), 1);
	EVP_PKEY_free(key);
}

static inline int test_log_setup(void **state)
{
	struct test_log *t = calloc(1, sizeof(*t));
	uint8_t seed[KEYS_SIGNING_LEN];
	char path[128], message[256] = "";

	log_set_level(LOG_LEVEL_ERROR);
	assert_non_null(t);
	strcpy(t->dir, "/dev/shm/biomatch-audit-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	snprintf(t->path, sizeof(t->path), "%s/export", t->dir);
	memset(seed, 5, sizeof(seed));
	snprintf(path, sizeof(path), "%s/key", t->dir);
	assert_int_equal(file_write_new(path, seed, sizeof(seed), 0600), 0);
	assert_int_equal(keys_open(path, &t->keys), 0);
	assert_int_equal(keys_open_signing(t->keys, path), 0);
	test_public_key(5, t->public);
	t->trust = (struct audit_trust){(const uint8_t(*)[AUDIT_KEY_LEN]) & t->public, 1};
	if (db_open(t->dir, 64 << 20, 16, &t->db, message))
		fail_msg("%s", message);
	*state = t;
	return 0;
}

static inline int test_log_teardown(void **state)
{
	struct test_log *t = *state;
	char command[128];

	db_close(t->db);
	keys_close(t->keys);
	snprintf(command, sizeof(command), "rm -r %s", t->dir);
	assert_int_equal(system(command), 0);
	free(t);
	return 0;
}

/* Appends n entries of various lengths, every seventh followed by a checkpoint. */
static inline void test_log_fill(struct test_log *t, unsigned n)
{
	static const char purposes[] = "a purpose whose name has any length";
	struct audit_receipt receipt;
	struct db_txn txn;

	assert_int_equal(db_begin_write(t->db, &txn), 0);
	for (unsigned i = 0; i < n; i++) {
		Biomatch__V1__AuditEntry entry = BIOMATCH__V1__AUDIT_ENTRY__INIT;

		entry.endpoint = (char *)(uintptr_t) "biomatch://test/hall/lane/1";
		entry.operation = (char *)(uintptr_t) "biomatch.v1.MatchingService/Verify";
		entry.purpose = (char *)(uintptr_t)(purposes + i % sizeof(purposes));
		entry.outcome = (char *)(uintptr_t) "MATCH";
		assert_int_equal(audit_append(&txn, &entry, &receipt), 0);
		if (i % 7 == 6)
			assert_int_equal(audit_checkpoint(&txn, t->keys, 1000 * i, &receipt), 0);
	}
	assert_int_equal(db_commit(&txn), 0);
}

/* Ends the log with a checkpoint and exports it from first on; gives its end. */
static inline struct audit_receipt test_log_export(struct test_log *t, uint64_t first)
{
	struct audit_receipt head;
	struct bytes entry;
	struct db_txn txn;
	FILE *file;

	assert_int_equal(db_begin_write(t->db, &txn), 0);
	assert_int_equal(audit_checkpoint(&txn, t->keys, 7000, &head), 0);
	unlink(t->path);
	file = fopen(t->path, "wbx");
	assert_non_null(file);
	assert_true(audit_get(&txn, head.sequence, &entry));
	assert_int_equal(audit_export_begin(file, entry), 0);
	for (uint64_t i = first; i <= head.sequence; i++) {
		assert_true(audit_get(&txn, i, &entry));
		assert_int_equal(audit_export_add(file, entry), 0);
	}
	assert_int_equal(fclose(file), 0);
	assert_int_equal(db_commit(&txn), 0);
	return head;
}

static inline int test_log_verify(struct test_log *t, uint64_t first,
				  const struct audit_receipt *receipt, struct audit_verdict *out)
{
	return audit_export_verify(t->path, &t->trust, first, receipt, out);
}

#endif
