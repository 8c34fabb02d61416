#include "log.h"

#define ENTRIES 40
#define DAMAGES 10000

/* A small generator, so that a failing run can be run again. */
static uint64_t random_state = 1;

static uint64_t random_below(uint64_t n)
{
	uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % n;
}

/* An export in memory, and where its fields begin. */
struct image {
	uint8_t *data;
	size_t len, n, at[2 * ENTRIES];
};

static void image_read(struct test_log *t, struct image *image)
{
	size_t p = 0;

	*image = (struct image){0};
	assert_int_equal(file_read(t->path, 1 << 20, &image->data, &image->len), 0);
	while (p < image->len) {
		size_t len = image->data[p + 1] & 0x7f, front = 2;

		if (image->data[p + 1] & 0x80)
			len |= (size_t)image->data[p + front++] << 7;
		assert_true(image->n < sizeof(image->at) / sizeof(image->at[0]) - 1);
		image->at[image->n++] = p;
		p += front + len;
	}
	image->at[image->n] = p;
	assert_int_equal(p, image->len);
}

static void image_write(struct test_log *t, const struct image *image, const char *what)
{
	unlink(t->path);
	if (file_write_new(t->path, image->data, image->len, 0600))
		fail_msg("%s", what);
}

/* One thing of each kind that might happen to a file; every one leaves it another. */
static const char *damage(const struct image *from, struct image *to)
{
	size_t a = random_below(from->n), b = random_below(from->n), p = random_below(from->len);

	to->len = from->len;
	memcpy(to->data, from->data, from->len);
	switch (random_below(6)) {
	case 0:
		to->data[p] ^= (uint8_t)(1 + random_below(255));
		return "an edit";
	case 1:
		to->len = p;
		return "a truncation";
	case 2: /* at the end of a field */
		to->len = from->at[a];
		return "a truncation between entries";
	case 3:
		to->len -= from->at[a + 1] - from->at[a];
		memcpy(to->data + from->at[a], from->data + from->at[a + 1],
		       from->len - from->at[a + 1]);
		return "a drop";
	case 4: { /* a before b; the same field twice is a repetition of it */
		size_t first = a < b ? a : b, second = a < b ? b : a;
		uint8_t *out = to->data + from->at[first];
		const size_t order[3][2] = {{second, second + 1},
					    {first + (first != second), second},
					    {first, first + 1}};

		for (int i = 0; i < 3; i++) {
			size_t len = from->at[order[i][1]] - from->at[order[i][0]];

			memcpy(out, from->data + from->at[order[i][0]], len);
			out += len;
		}
		to->len = (size_t)(out - to->data) + from->len - from->at[second + 1];
		memcpy(out, from->data + from->at[second + 1], from->len - from->at[second + 1]);
		return "a swap";
	}
	default:
		to->data[p] = (uint8_t)random_below(256);
		memmove(to->data + p + 1, from->data + p, from->len - p);
		to->len++;
		return "an insertion";
	}
}

static void test_every_damage_is_found(void **state)
{
	struct test_log *t = *state;
	struct audit_verdict verdict;
	struct image good, bad = {0};
	unsigned tried = 0;

	test_log_fill(t, ENTRIES);
	test_log_export(t, 1);
	image_read(t, &good);
	bad.data = malloc(2 * good.len);
	assert_non_null(bad.data);
	assert_int_equal(test_log_verify(t, 1, NULL, &verdict), 0);
	while (tried < DAMAGES) {
		const char *what = damage(&good, &bad);

		/* An insertion may happen to repeat what stands there at the very end. */
		if (bad.len == good.len && !memcmp(bad.data, good.data, good.len))
			continue;
		image_write(t, &bad, what);
		if (test_log_verify(t, 1, NULL, &verdict) != BM_EAUDIT)
			fail_msg("%s was not found, after %u", what, tried);
		tried++;
	}
	image_write(t, &good, "the whole");
	assert_int_equal(test_log_verify(t, 1, NULL, &verdict), 0);
	free(good.data);
	free(bad.data);
}

/* Every bit of a file counts. */
static void test_every_bit_is_checked(void **state)
{
	struct test_log *t = *state;
	struct audit_verdict verdict;
	struct image image;

	test_log_fill(t, 2);
	test_log_export(t, 1);
	image_read(t, &image);
	for (size_t bit = 0; bit < 8 * image.len; bit++) {
		image.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		image_write(t, &image, "a bit");
		assert_int_equal(test_log_verify(t, 1, NULL, &verdict), BM_EAUDIT);
		image.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	free(image.data);
}

static void test_receipts(void **state)
{
	struct test_log *t = *state;
	struct audit_verdict verdict;
	struct audit_receipt receipt, head;
	struct bytes packed;
	struct db_txn txn;

	test_log_fill(t, ENTRIES);
	head = test_log_export(t, 1);
	assert_int_equal(test_log_verify(t, 1, &head, &verdict), 0);
	assert_true(verdict.receipt_found);
	assert_int_equal(verdict.chain.head.sequence, head.sequence);
	/* Of entry 3 the next one tells the hash. */
	assert_int_equal(db_begin_read(t->db, &txn), 0);
	assert_true(audit_get(&txn, 4, &packed));
	receipt.sequence = 3;
	memcpy(receipt.hash, packed.data + 4, AUDIT_HASH_LEN); /* behind two tags */
	db_abort(&txn);
	assert_int_equal(test_log_verify(t, 1, &receipt, &verdict), 0);
	assert_true(verdict.receipt_found);
	receipt.hash[0] ^= 1;
	assert_int_equal(test_log_verify(t, 1, &receipt, &verdict), 0);
	assert_false(verdict.receipt_found);
	receipt.sequence = head.sequence + 1;
	assert_int_equal(test_log_verify(t, 1, &receipt, &verdict), 0);
	assert_false(verdict.receipt_found);
}

static void test_an_export_of_the_rest(void **state)
{
	struct test_log *t = *state;
	struct audit_verdict verdict;

	test_log_fill(t, ENTRIES);
	test_log_export(t, 9);
	assert_int_equal(test_log_verify(t, 9, NULL, &verdict), 0);
	/* What is left out in front is not taken for the whole. */
	assert_int_equal(test_log_verify(t, 1, NULL, &verdict), BM_EAUDIT);
	assert_string_equal(verdict.chain.fault, "is missing, or out of its place");
	assert_int_equal(test_log_verify(t, 10, NULL, &verdict), BM_EAUDIT);
}

static void test_files_that_are_none(void **state)
{
	struct test_log *t = *state;
	struct audit_verdict verdict;

	assert_int_equal(test_log_verify(t, 1, NULL, &verdict), BM_EIO);
	assert_int_equal(file_write_new(t->path, "", 0, 0600), 0);
	assert_int_equal(test_log_verify(t, 1, NULL, &verdict), BM_EAUDIT);
	test_log_fill(t, 3);
	test_log_export(t, 1);
	/* Another's log, signed by another. */
	test_public_key(6, t->public);
	assert_int_equal(test_log_verify(t, 1, NULL, &verdict), BM_EAUDIT);
}

static void test_public_keys(void **state)
{
	struct test_log *t = *state;
	uint8_t read[AUDIT_KEY_LEN];
	char path[128];
	EVP_PKEY *key =
		EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, t->public, sizeof(t->public));
	FILE *file;

	snprintf(path, sizeof(path), "%s/key", t->dir);
	assert_int_equal(audit_read_key(path, read), BM_EINVAL);
	assert_int_equal(audit_read_key("/nonexistent", read), BM_EIO);
	snprintf(path, sizeof(path), "%s/public.pem", t->dir);
	file = fopen(path, "wx");
	assert_non_null(file);
	assert_int_equal(PEM_write_PUBKEY(file, key), 1);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(audit_read_key(path, read), 0);
	assert_memory_equal(read, t->public, sizeof(read));
	EVP_PKEY_free(key);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_log_setup, test_log_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_damage_is_found),
		TEST(test_every_bit_is_checked),
		TEST(test_receipts),
		TEST(test_an_export_of_the_rest),
		TEST(test_files_that_are_none),
		TEST(test_public_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
