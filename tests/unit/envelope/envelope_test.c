#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "biomatch/envelope.h"
#include "biomatch/file.h"

#define CHUNK  65536
#define HEADER 50
#define TAG    16

static char dir[64];

static const char *path_of(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void write_keys(const char *kind, const char *private, const char *public)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, kind);
	FILE *file = fopen(path_of(private), "wx");

	assert_true(key && file);
	assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(file);
	file = fopen(path_of(public), "wx");
	assert_non_null(file);
	assert_int_equal(PEM_write_PUBKEY(file, key), 1);
	fclose(file);
	EVP_PKEY_free(key);
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/dev/shm/biomatch-envelope-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	write_keys("X25519", "private", "public");
	write_keys("X25519", "other", "other.pub");
	write_keys("ED25519", "signing", "signing.pub");
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static void put(const char *name, const void *data, size_t len)
{
	unlink(path_of(name));
	assert_int_equal(file_write_new(path_of(name), data, len, 0600), 0);
}

static int convert(int (*how)(int, int, const char *), const char *from, const char *to,
		   const char *key)
{
	int in = open(path_of(from), O_RDONLY), out, error;

	unlink(path_of(to));
	out = open(path_of(to), O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(in >= 0 && out >= 0);
	error = how(in, out, path_of(key));
	close(in);
	close(out);
	return error;
}

static uint8_t *get(const char *name, size_t *len)
{
	uint8_t *data;

	assert_int_equal(file_read(path_of(name), 1 << 20, &data, len), 0);
	return data;
}

static void test_round_trip(void **state)
{
	static const size_t lengths[] = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK};

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint8_t *plain = malloc(lengths[i] + 1), *back;
		size_t len;

		assert_non_null(plain);
		for (size_t at = 0; at < lengths[i]; at++)
			plain[at] = (uint8_t)(at * 31 + at / CHUNK);
		put("plain", plain, lengths[i]);
		assert_int_equal(convert(envelope_seal, "plain", "sealed", "public"), 0);
		assert_int_equal(convert(envelope_open, "sealed", "back", "private"), 0);
		back = get("back", &len);
		assert_int_equal(len, lengths[i]);
		assert_memory_equal(back, plain, len);
		free(back);
		back = get("sealed", &len);
		assert_int_equal(len, HEADER + lengths[i] + (lengths[i] / CHUNK + 1) * TAG);
		assert_true(lengths[i] < 64 || !memmem(back, len, plain, 64));
		free(back);
		free(plain);
	}
}

static void test_wrong_keys(void **state)
{
	(void)state;
	put("plain", "secret", 6);
	assert_int_equal(convert(envelope_seal, "plain", "sealed", "public"), 0);
	assert_int_equal(convert(envelope_open, "sealed", "back", "other"), BM_EBACKUP);
	assert_int_equal(convert(envelope_open, "sealed", "back", "public"), BM_EKEY);
	assert_int_equal(convert(envelope_open, "sealed", "back", "signing"), BM_EKEY);
	assert_int_equal(convert(envelope_open, "sealed", "back", "missing"), BM_EIO);
	assert_int_equal(convert(envelope_seal, "plain", "sealed", "signing.pub"), BM_EKEY);
	assert_int_equal(convert(envelope_seal, "plain", "sealed", "private"), BM_EKEY);
}

/* Any bit, any cut, any order: nothing but the stream as it was made is taken. */
static void test_damage(void **state)
{
	uint8_t plain[2 * CHUNK + 100], *sealed, *bad;
	size_t len;

	(void)state;
	memset(plain, 7, sizeof(plain));
	put("plain", plain, sizeof(plain));
	assert_int_equal(convert(envelope_seal, "plain", "sealed", "public"), 0);
	sealed = get("sealed", &len);
	bad = malloc(len + CHUNK);
	assert_non_null(bad);
	for (size_t at = 0; at < len; at += at < HEADER + 20 ? 1 : 9973) {
		memcpy(bad, sealed, len);
		bad[at] ^= 0x40;
		put("bad", bad, len);
		assert_int_equal(convert(envelope_open, "bad", "back", "private"), BM_EBACKUP);
	}
	for (size_t cut = 0; cut < len; cut += cut % 100 ? 9973 : HEADER + CHUNK + TAG) {
		put("bad", sealed, cut);
		assert_int_equal(convert(envelope_open, "bad", "back", "private"), BM_EBACKUP);
	}
	/* The first two chunks change places. */
	memcpy(bad, sealed, len);
	memcpy(bad + HEADER, sealed + HEADER + CHUNK + TAG, CHUNK + TAG);
	memcpy(bad + HEADER + CHUNK + TAG, sealed + HEADER, CHUNK + TAG);
	put("bad", bad, len);
	assert_int_equal(convert(envelope_open, "bad", "back", "private"), BM_EBACKUP);
	/* Something stands behind the end. */
	memcpy(bad, sealed, len);
	bad[len] = 0;
	put("bad", bad, len + 1);
	assert_int_equal(convert(envelope_open, "bad", "back", "private"), BM_EBACKUP);
	free(bad);
	free(sealed);
}

/* The same stream from memory: what one seals the other opens, at every edge of a chunk. */
static void test_bytes(void **state)
{
	static const size_t lens[] = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK};
	static uint8_t plain[3 * CHUNK];
	uint8_t *pem, *sealed, *opened;
	size_t pem_len, len, opened_len;

	(void)state;
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(file_read(path_of("public"), 4096, &pem, &pem_len), 0);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		int in, out;

		assert_int_equal(envelope_seal_bytes((struct bytes){plain, lens[i]},
						     (struct bytes){pem, pem_len}, &sealed, &len),
				 0);
		unlink(path_of("sealed-bytes"));
		unlink(path_of("opened-bytes"));
		assert_int_equal(file_write_new(path_of("sealed-bytes"), sealed, len, 0600), 0);
		in = open(path_of("sealed-bytes"), O_RDONLY);
		out = open(path_of("opened-bytes"), O_RDWR | O_CREAT, 0600);
		assert_int_equal(envelope_open(in, out, path_of("private")), 0);
		assert_int_equal(
			file_read(path_of("opened-bytes"), sizeof(plain), &opened, &opened_len), 0);
		assert_int_equal(opened_len, lens[i]);
		assert_memory_equal(opened, plain, lens[i]);
		close(in);
		close(out);
		free(opened);
		free(sealed);
	}
	free(pem);
	assert_int_equal(file_read(path_of("signing.pub"), 4096, &pem, &pem_len), 0);
	assert_int_equal(envelope_seal_bytes((struct bytes){plain, 1}, (struct bytes){pem, pem_len},
					     &sealed, &len),
			 BM_EKEY);
	free(pem);
	assert_int_equal(envelope_seal_bytes((struct bytes){plain, 1}, (struct bytes){plain, 100},
					     &sealed, &len),
			 BM_EKEY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_wrong_keys),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_bytes),
	};

	return cmocka_run_group_tests_name("envelope", tests, setup, teardown);
}
