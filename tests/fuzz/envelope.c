/*
 * Sealed streams. Even first byte: the rest is opened as it is. Odd: it is sealed
 * first, then one byte is changed or the end cut off, as the second and third say.
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdbool.h>

#include "biomatch/envelope.h"
#include "fuzz.h"

#define ROOM ((size_t)1 << 20)

static struct fuzz_file key, in, sealed, out;
static EVP_PKEY *pair;
static uint8_t text[ROOM];

/* Both keys are one's own. They are read from a file each time, which takes longer than all the
 * rest; what a hostile file of keys does is the matter of `certificates`. */
EVP_PKEY *PEM_read_PrivateKey(FILE *file, EVP_PKEY **to, pem_password_cb *ask, void *arg)
{
	(void)file;
	(void)to;
	(void)ask;
	(void)arg;
	EVP_PKEY_up_ref(pair);
	return pair;
}

EVP_PKEY *PEM_read_PUBKEY(FILE *file, EVP_PKEY **to, pem_password_cb *ask, void *arg)
{
	return PEM_read_PrivateKey(file, to, ask, arg);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	uint8_t seed[32] = {9};

	(void)argc;
	(void)argv;
	pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, seed, sizeof(seed));
	REQUIRE(pair);
	fuzz_file_open(&key);
	fuzz_file_open(&in);
	fuzz_file_open(&sealed);
	fuzz_file_open(&out);
	return 0;
}

static void rewind_file(const struct fuzz_file *file)
{
	REQUIRE(lseek(file->fd, 0, SEEK_SET) == 0);
}

static int open_sealed(void)
{
	fuzz_file_set(&out, "", 0);
	rewind_file(&out);
	rewind_file(&sealed);
	return envelope_open(sealed.fd, out.fd, key.path);
}

static void require_prefix(const uint8_t *data, size_t size, bool whole)
{
	ssize_t n = pread(out.fd, text, ROOM, 0);

	REQUIRE(n >= 0 && (size_t)n <= size && (!whole || (size_t)n == size));
	REQUIRE(!memcmp(text, data, (size_t)n));
}

/* One changed byte, or a missing end, must be found, and what came out before must be true. */
static void damage(unsigned how, unsigned where, const uint8_t *data, size_t size)
{
	off_t len = lseek(sealed.fd, 0, SEEK_END), at = len * where / 256;
	uint8_t byte;

	if (how & 1) {
		REQUIRE(!ftruncate(sealed.fd, at));
	} else {
		REQUIRE(pread(sealed.fd, &byte, 1, at) == 1);
		byte ^= (uint8_t)(how | 1);
		REQUIRE(pwrite(sealed.fd, &byte, 1, at) == 1);
	}
	REQUIRE(open_sealed() == BM_EBACKUP);
	require_prefix(data, size, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3 || size > ROOM)
		return 0;
	if (!(data[0] & 1)) {
		fuzz_file_set(&sealed, data + 1, size - 1);
		REQUIRE(open_sealed() == BM_EBACKUP);
		return 0;
	}
	fuzz_file_set(&in, data + 3, size - 3);
	fuzz_file_set(&sealed, "", 0);
	rewind_file(&in);
	rewind_file(&sealed);
	REQUIRE(!envelope_seal(in.fd, sealed.fd, key.path));
	REQUIRE(!open_sealed());
	require_prefix(data + 3, size - 3, true);
	damage(data[1], data[2], data + 3, size - 3);
	return 0;
}
