#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "biomatch/file.h"
#include "biomatch/keys.h"

static char dir[64];

static void key_path(char out[128], const char *name)
{
	snprintf(out, 128, "%s/%s", dir, name);
}

static struct keys *open_key(const char *name, uint8_t fill)
{
	uint8_t key[KEYS_MASTER_LEN];
	struct keys *keys;
	char path[128];

	memset(key, fill, sizeof(key));
	key_path(path, name);
	assert_int_equal(file_write_new(path, key, sizeof(key), 0600), 0);
	assert_int_equal(keys_open(path, &keys), 0);
	return keys;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/biomatch-keys-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static void test_files_refused(void **state)
{
	uint8_t key[KEYS_MASTER_LEN] = {1};
	struct keys *keys;
	char path[128];

	(void)state;
	key_path(path, "absent");
	assert_int_equal(keys_open(path, &keys), BM_EKEY);
	key_path(path, "short");
	assert_int_equal(file_write_new(path, key, sizeof(key) - 1, 0600), 0);
	assert_int_equal(keys_open(path, &keys), BM_EKEY);
	key_path(path, "open");
	assert_int_equal(file_write_new(path, key, sizeof(key), 0600), 0);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(keys_open(path, &keys), BM_EKEY);
}

static void test_values_follow_key_use_and_input(void **state)
{
	struct bytes ab[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}};
	struct bytes joined[] = {{(const uint8_t *)"ab", 2}};
	struct keys *one = open_key("1", 1), *two = open_key("2", 2);
	uint8_t a[KEYS_PSEUDONYM_LEN], b[KEYS_PSEUDONYM_LEN], first[64], second[64];

	(void)state;
	assert_int_equal(keys_pseudonym(one, KEYS_SUBJECT, ab, 2, a), 0);
	assert_int_equal(keys_pseudonym(one, KEYS_SUBJECT, ab, 2, b), 0);
	assert_memory_equal(a, b, sizeof(a));
	assert_int_equal(keys_pseudonym(two, KEYS_SUBJECT, ab, 2, b), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_int_equal(keys_pseudonym(one, KEYS_REQUEST, ab, 2, b), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_int_equal(keys_pseudonym(one, KEYS_SUBJECT, joined, 1, b), 0);
	assert_memory_not_equal(a, b, sizeof(a));

	keys_fingerprint(one, 0, first);
	keys_fingerprint(two, 0, second);
	assert_memory_not_equal(first, second, 16);
	assert_int_equal(keys_stream(one, 0, 1, first, sizeof(first)), 0);
	assert_int_equal(keys_stream(one, 0, 1, second, sizeof(second)), 0);
	assert_memory_equal(first, second, sizeof(first));
	assert_int_equal(keys_stream(one, 0, 2, second, sizeof(second)), 0);
	assert_memory_not_equal(first, second, sizeof(first));
	keys_close(one);
	keys_close(two);
}

static void assert_hex(const uint8_t *data, size_t len, const char *expected)
{
	char hex[2 * 64 + 1];

	bytes_to_hex(data, len, hex);
	assert_string_equal(hex, expected);
}

/* Computed by another program: a store must open under its key for ever. */
static void test_values_are_pinned(void **state)
{
	struct bytes ab[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}};
	struct keys *keys = open_key("pinned", 1);
	uint8_t out[32];

	(void)state;
	keys_fingerprint(keys, 0, out);
	assert_hex(out, 16, "cbcec32c6a63f5513bbf13d41a5f6de4");
	assert_int_equal(keys_pseudonym(keys, KEYS_SUBJECT, ab, 2, out), 0);
	assert_hex(out, 32, "4efdcdb13fa33bdf6f363c9c497cde536b1eab0dc681b0dd90bb3f166919093e");
	assert_int_equal(keys_stream(keys, 0, 1, out, sizeof(out)), 0);
	assert_hex(out, 32, "94bd59866ea2e04d2a151f6aac69f14aa0c4111c4edcc6864f7f836f8bdd94b5");
	keys_close(keys);
}

/* Generations are added behind the first, and only there. */
static void test_generations(void **state)
{
	uint8_t masters[3][KEYS_MASTER_LEN], first[32], second[32], again[32];
	struct keys *keys = open_key("generations", 5);
	char path[128], longer[128];

	(void)state;
	memset(masters[0], 5, sizeof(masters[0]));
	memset(masters[1], 6, sizeof(masters[1]));
	memset(masters[2], 7, sizeof(masters[2]));
	assert_int_equal(keys_generations(keys), 1);
	assert_int_equal(keys_stream(keys, 0, 1, first, sizeof(first)), 0);
	assert_int_equal(keys_stream(keys, 1, 1, second, sizeof(second)), BM_EKEY);
	key_path(longer, "longer");
	assert_int_equal(file_write_new(longer, masters, sizeof(masters), 0600), 0);
	assert_int_equal(keys_reload(keys, longer), 0);
	assert_int_equal(keys_generations(keys), 3);
	assert_int_equal(keys_stream(keys, 0, 1, again, sizeof(again)), 0);
	assert_memory_equal(first, again, sizeof(first));
	assert_int_equal(keys_stream(keys, 1, 1, second, sizeof(second)), 0);
	assert_memory_not_equal(first, second, sizeof(first));
	keys_fingerprint(keys, 0, first);
	keys_fingerprint(keys, 2, again);
	assert_memory_not_equal(first, again, 16);
	key_path(path, "generations");
	assert_int_equal(keys_reload(keys, path), BM_EKEY);
	masters[1][0] ^= 1;
	key_path(path, "changed");
	assert_int_equal(file_write_new(path, masters, sizeof(masters), 0600), 0);
	assert_int_equal(keys_reload(keys, path), BM_EKEY);
	assert_int_equal(keys_generations(keys), 3);
	key_path(path, "odd");
	assert_int_equal(file_write_new(path, masters, sizeof(masters) - 1, 0600), 0);
	assert_int_equal(keys_reload(keys, path), BM_EKEY);
	keys_close(keys);
}

static void test_seal(void **state)
{
	struct bytes context = {(const uint8_t *)"here", 4},
		     elsewhere = {(const uint8_t *)"there", 5};
	struct bytes plain = {(const uint8_t *)"K1234567", 8};
	uint8_t sealed[8 + KEYS_SEAL_OVERHEAD], again[sizeof(sealed)], out[8];
	struct bytes in = {sealed, sizeof(sealed)};
	struct keys *keys = open_key("3", 3), *other = open_key("4", 4);

	(void)state;
	assert_int_equal(keys_seal(keys, KEYS_SUBJECT, context, plain, sealed), 0);
	assert_int_equal(keys_seal(keys, KEYS_SUBJECT, context, plain, again), 0);
	assert_memory_not_equal(sealed, again, sizeof(sealed));
	assert_int_equal(keys_unseal(keys, KEYS_SUBJECT, context, in, out), 0);
	assert_memory_equal(out, plain.data, sizeof(out));
	assert_int_equal(keys_unseal(keys, KEYS_SUBJECT, elsewhere, in, out), BM_ETEMPLATE);
	assert_int_equal(keys_unseal(keys, KEYS_TEMPLATE, context, in, out), BM_ETEMPLATE);
	assert_int_equal(keys_unseal(other, KEYS_SUBJECT, context, in, out), BM_ETEMPLATE);
	for (size_t i = 0; i < sizeof(sealed); i++) {
		sealed[i] ^= 1;
		assert_int_equal(keys_unseal(keys, KEYS_SUBJECT, context, in, out), BM_ETEMPLATE);
		sealed[i] ^= 1;
	}
	in.len = KEYS_SEAL_OVERHEAD - 1;
	assert_int_equal(keys_unseal(keys, KEYS_SUBJECT, context, in, out), BM_ETEMPLATE);
	keys_close(keys);
	keys_close(other);
}

/* RFC 8032, 7.1, test 2. */
static void test_signatures(void **state)
{
	static const char seed_hex[] =
		"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
	struct keys *keys = open_key("signing", 1);
	struct bytes text = {(const uint8_t *)"\x72", 1};
	uint8_t seed[KEYS_SIGNING_LEN], out[KEYS_SIGNATURE_LEN];
	char path[128];

	(void)state;
	assert_int_equal(keys_sign(keys, text, out), BM_EKEY);
	assert_int_equal(bytes_from_hex(seed_hex, seed, sizeof(seed)), 0);
	key_path(path, "seed");
	assert_int_equal(file_write_new(path, seed, sizeof(seed), 0600), 0);
	assert_int_equal(keys_open_signing(keys, path), 0);
	assert_int_equal(keys_sign(keys, text, out), 0);
	assert_hex(out, sizeof(out),
		   "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
		   "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
	keys_close(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_values_follow_key_use_and_input, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_values_are_pinned, setup, teardown),
		cmocka_unit_test_setup_teardown(test_generations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signatures, setup, teardown),
	};

	return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
