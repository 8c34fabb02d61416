#include "log.h"

static void append(struct test_log *t, const char *operation, struct audit_receipt *out)
{
	Biomatch__V1__AuditEntry entry = BIOMATCH__V1__AUDIT_ENTRY__INIT;
	struct db_txn txn;

	entry.operation = (char *)(uintptr_t)operation;
	assert_int_equal(db_begin_write(t->db, &txn), 0);
	assert_int_equal(audit_append(&txn, &entry, out), 0);
	assert_int_equal(db_commit(&txn), 0);
}

static struct audit_receipt head_of(struct test_log *t)
{
	struct audit_receipt head;
	struct db_txn txn;

	assert_int_equal(db_begin_read(t->db, &txn), 0);
	assert_int_equal(audit_head(&txn, &head), 0);
	db_abort(&txn);
	return head;
}

static void assert_same_receipt(const struct audit_receipt *a, const struct audit_receipt *b)
{
	assert_int_equal(a->sequence, b->sequence);
	assert_memory_equal(a->hash, b->hash, AUDIT_HASH_LEN);
}

/* Walks the stored log with the chain; gives its fault or NULL. */
static const char *walk(struct test_log *t, struct audit_chain *chain)
{
	const Biomatch__V1__AuditEntry *entry;
	struct arena arena;
	struct bytes packed;
	struct db_txn txn;
	int error = 0;

	*chain = (struct audit_chain){.trust = &t->trust, .next = 1};
	assert_int_equal(db_begin_read(t->db, &txn), 0);
	arena_init(&arena, 1 << 24);
	while (!error && audit_get(&txn, chain->next, &packed))
		error = audit_chain_take(chain, packed, &arena, &entry);
	arena_deinit(&arena);
	db_abort(&txn);
	assert_true(!error || error == BM_EAUDIT);
	return error ? chain->fault : NULL;
}

static void test_entries_form_a_chain(void **state)
{
	struct audit_receipt first, second, head;
	struct test_log *t = *state;
	struct audit_chain chain;

	head = head_of(t);
	assert_int_equal(head.sequence, 0);
	append(t, "one", &first);
	assert_int_equal(first.sequence, 1);
	append(t, "two", &second);
	assert_int_equal(second.sequence, 2);
	head = head_of(t);
	assert_same_receipt(&head, &second);
	assert_memory_not_equal(first.hash, second.hash, AUDIT_HASH_LEN);
	assert_null(walk(t, &chain));
	assert_same_receipt(&chain.head, &second);
}

/* An aborted transaction leaves no gap. */
static void test_what_is_not_committed_is_not_there(void **state)
{
	Biomatch__V1__AuditEntry entry = BIOMATCH__V1__AUDIT_ENTRY__INIT;
	struct test_log *t = *state;
	struct audit_receipt lost, kept, third;
	struct audit_chain chain;
	struct db_txn txn, nested;

	append(t, "one", &kept);
	assert_int_equal(db_begin_write(t->db, &txn), 0);
	assert_int_equal(db_begin_nested(&txn, &nested), 0);
	assert_int_equal(audit_append(&nested, &entry, &lost), 0);
	db_abort(&nested);
	assert_int_equal(db_begin_nested(&txn, &nested), 0);
	assert_int_equal(audit_append(&nested, &entry, &kept), 0);
	assert_int_equal(db_commit(&nested), 0);
	assert_int_equal(db_commit(&txn), 0);
	assert_int_equal(kept.sequence, 2);
	append(t, "three", &third);
	assert_int_equal(third.sequence, 3);
	assert_null(walk(t, &chain));
}

static void test_checkpoints(void **state)
{
	struct test_log *t = *state;
	struct audit_receipt first, again, third;
	struct audit_chain chain;
	struct db_txn txn;

	append(t, "one", &first);
	assert_int_equal(db_begin_write(t->db, &txn), 0);
	assert_int_equal(audit_checkpoint(&txn, t->keys, 1234, &first), 0);
	assert_int_equal(audit_checkpoint(&txn, t->keys, 5678, &again), 0);
	assert_int_equal(db_commit(&txn), 0);
	assert_int_equal(first.sequence, 2);
	assert_same_receipt(&first, &again);
	append(t, "two", &third);
	assert_null(walk(t, &chain));
	assert_int_equal(chain.checkpoints, 1);
	/* Another's key signs nothing here. */
	test_public_key(6, t->public);
	assert_string_equal(walk(t, &chain), "is a checkpoint that no trusted key has signed");
	assert_int_equal(chain.next, 2);
}

/* Of two keys that have signed a log, both are needed and either order does. */
static void test_key_change(void **state)
{
	struct test_log *t = *state;
	uint8_t both[2][AUDIT_KEY_LEN], seed[KEYS_SIGNING_LEN];
	struct audit_receipt receipt;
	struct audit_chain chain;
	char path[128];
	struct db_txn txn;

	test_log_fill(t, 7);
	memset(seed, 9, sizeof(seed));
	snprintf(path, sizeof(path), "%s/second", t->dir);
	assert_int_equal(file_write_new(path, seed, sizeof(seed), 0600), 0);
	assert_int_equal(keys_open_signing(t->keys, path), 0);
	append(t, "later", &receipt);
	assert_int_equal(db_begin_write(t->db, &txn), 0);
	assert_int_equal(audit_checkpoint(&txn, t->keys, 1, &receipt), 0);
	assert_int_equal(db_commit(&txn), 0);
	assert_non_null(walk(t, &chain));
	memcpy(both[1], t->public, AUDIT_KEY_LEN);
	test_public_key(9, both[0]);
	t->trust = (struct audit_trust){(const uint8_t(*)[AUDIT_KEY_LEN])both, 2};
	assert_null(walk(t, &chain));
	assert_int_equal(chain.checkpoints, 2);
}

static void test_no_signing_key(void **state)
{
	struct test_log *t = *state;
	struct audit_receipt receipt;
	struct keys *keys;
	struct db_txn txn;
	char path[128];

	snprintf(path, sizeof(path), "%s/key", t->dir);
	assert_int_equal(keys_open(path, &keys), 0);
	assert_int_equal(db_begin_write(t->db, &txn), 0);
	assert_int_equal(audit_checkpoint(&txn, keys, 1, &receipt), BM_EKEY);
	db_abort(&txn);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(keys_open_signing(keys, path), BM_EKEY);
	keys_close(keys);
}

/* Somebody with the store's file in hand, and no key. */
static void test_tampering_in_the_store(void **state)
{
	struct test_log *t = *state;
	struct audit_chain chain;
	uint8_t key[8], copy[512];
	struct bytes packed;
	struct db_txn txn;

	test_log_fill(t, 20);
	bytes_put_be64(key, 4);
	assert_int_equal(db_begin_write(t->db, &txn), 0);
	assert_true(audit_get(&txn, 4, &packed));
	assert_true(packed.len < sizeof(copy));
	memcpy(copy, packed.data, packed.len);
	copy[packed.len - 1] ^= 1;
	db_put(&txn, DB_AUDIT, (struct bytes){key, sizeof(key)}, (struct bytes){copy, packed.len});
	assert_int_equal(db_commit(&txn), 0);
	assert_string_equal(walk(t, &chain),
			    "does not follow from the one before it; one of them was changed");
	assert_int_equal(chain.next, 5);
}

static int prune(struct test_log *t, const struct audit_receipt *to, uint64_t max, uint64_t *pruned,
		 uint64_t *left)
{
	struct db_txn txn;
	int error;

	assert_int_equal(db_begin_write(t->db, &txn), 0);
	error = audit_prune(&txn, to, max, pruned, left);
	if (error)
		db_abort(&txn);
	else
		assert_int_equal(db_commit(&txn), 0);
	return error;
}

static uint64_t first_of(struct test_log *t)
{
	struct db_txn txn;
	uint64_t first;

	assert_int_equal(db_begin_read(t->db, &txn), 0);
	assert_int_equal(audit_first(&txn, &first), 0);
	db_abort(&txn);
	return first;
}

/* Only up to a checkpoint, only for who knows it. */
static void test_pruning_needs_a_checkpoint(void **state)
{
	struct test_log *t = *state;
	struct audit_receipt head, wrong;
	uint64_t pruned, left;

	assert_int_equal(first_of(t), 0);
	test_log_fill(t, 20);
	wrong = head_of(t); /* of an entry that is none */
	assert_int_equal(prune(t, &wrong, 100, &pruned, &left), BM_EINVAL);
	head = wrong = test_log_export(t, 1);
	wrong.hash[31] ^= 1;
	assert_int_equal(prune(t, &wrong, 100, &pruned, &left), BM_EINVAL);
	wrong = head;
	wrong.sequence++;
	assert_int_equal(prune(t, &wrong, 100, &pruned, &left), BM_EINVAL);
	assert_int_equal(first_of(t), 1);
}

/* What is left is a chain that goes on. */
static void test_pruning(void **state)
{
	struct test_log *t = *state;
	struct audit_verdict verdict;
	struct audit_receipt head, later;
	uint64_t pruned, left;

	test_log_fill(t, 20);
	head = test_log_export(t, 1);
	assert_int_equal(prune(t, &head, 5, &pruned, &left), 0);
	assert_int_equal(pruned, 5);
	assert_int_equal(left, head.sequence - 6);
	assert_int_equal(first_of(t), 6);
	assert_int_equal(prune(t, &head, 100, &pruned, &left), 0);
	assert_int_equal(pruned, head.sequence - 6);
	assert_int_equal(left, 0);
	assert_int_equal(prune(t, &head, 100, &pruned, &left), 0);
	assert_int_equal(pruned, 0);
	assert_int_equal(first_of(t), head.sequence);

	append(t, "later", &later);
	assert_int_equal(later.sequence, head.sequence + 1);
	test_log_export(t, head.sequence);
	assert_int_equal(test_log_verify(t, head.sequence, &head, &verdict), 0);
	assert_true(verdict.receipt_found);
	assert_int_equal(test_log_verify(t, 1, NULL, &verdict), BM_EAUDIT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_log_setup, test_log_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_entries_form_a_chain),
		TEST(test_what_is_not_committed_is_not_there),
		TEST(test_checkpoints),
		TEST(test_key_change),
		TEST(test_no_signing_key),
		TEST(test_tampering_in_the_store),
		TEST(test_pruning_needs_a_checkpoint),
		TEST(test_pruning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
