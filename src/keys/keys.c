#include "biomatch/keys.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "biomatch/file.h"
#include "biomatch/log.h"

#define KEY_LEN   32
#define NONCE_LEN 12
#define TAG_LEN   16

/* What is derived of a generation's key for rotations; its fingerprint. */
struct generation {
	uint8_t rotation[KEY_LEN];
	uint8_t fingerprint[16];
};

/* One key for each use and end. */
struct keys {
	uint8_t hmac[KEYS_USES][KEY_LEN];
	uint8_t aead[KEYS_USES][KEY_LEN];
	struct generation generations[KEYS_GENERATIONS];
	atomic_uint n_generations; /* grows behind what it counts */
	uint8_t signing[KEYS_SIGNING_LEN];
	bool can_sign;
};

static int derive(const uint8_t master[KEYS_MASTER_LEN], const char *end, int use, uint8_t *out,
		  size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	char info[64];
	int ok, n = snprintf(info, sizeof(info), "biomatch store v1 %s %d", end, use);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)master,
						  KEYS_MASTER_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, (size_t)n),
		OSSL_PARAM_construct_end(),
	};

	ok = ctx && EVP_KDF_derive(ctx, out, len, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok ? 0 : BM_ENOMEM;
}

static int derive_generation(const uint8_t master[KEYS_MASTER_LEN], struct generation *out)
{
	int error = derive(master, "fingerprint", 0, out->fingerprint, sizeof(out->fingerprint));

	return error ? error : derive(master, "hmac", KEYS_ROTATION, out->rotation, KEY_LEN);
}

static int derive_uses(const uint8_t master[KEYS_MASTER_LEN], struct keys *keys)
{
	int error = 0;

	for (int use = 0; !error && use < KEYS_USES; use++) {
		error = derive(master, "hmac", use, keys->hmac[use], KEY_LEN);
		if (!error)
			error = derive(master, "aead", use, keys->aead[use], KEY_LEN);
	}
	return error;
}

static size_t mapped_len(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (sizeof(struct keys) + page - 1) / page * page;
}

/* A file of keys as it was read; wiped by whoever has it. */
struct masters {
	uint8_t keys[KEYS_GENERATIONS][KEYS_MASTER_LEN];
	size_t n;
};

/* Adds the generations that are new; those that are known must be the same. */
static int take_generations(struct keys *keys, const struct masters *masters)
{
	unsigned known = keys_generations(keys);
	int error = masters->n < known ? BM_EKEY : 0;

	for (unsigned i = 0; !error && i < masters->n; i++) {
		struct generation made;

		error = derive_generation(masters->keys[i], &made);
		if (!error && i >= known)
			keys->generations[i] = made;
		else if (!error && memcmp(&made, &keys->generations[i], sizeof(made)))
			error = BM_EKEY;
		bytes_wipe(&made, sizeof(made));
	}
	if (!error)
		atomic_store(&keys->n_generations, (unsigned)masters->n);
	return error;
}

static int read_masters(const char *path, struct masters *out)
{
	return file_read_secrets(path, out->keys[0], KEYS_MASTER_LEN, KEYS_GENERATIONS, &out->n)
		       ? BM_EKEY
		       : 0;
}

int keys_reload(struct keys *keys, const char *path)
{
	struct masters masters;
	int error = read_masters(path, &masters);

	if (!error)
		error = take_generations(keys, &masters);
	bytes_wipe(&masters, sizeof(masters));
	return error;
}

unsigned keys_generations(const struct keys *keys)
{
	return atomic_load(&keys->n_generations);
}

int keys_open(const char *path, struct keys **out)
{
	struct masters masters;
	struct keys *keys;
	int error = read_masters(path, &masters);

	if (error)
		goto out;
	keys = mmap(NULL, mapped_len(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (keys == MAP_FAILED) {
		error = BM_ENOMEM;
		goto out;
	}
	/* Without the right to lock, the key may reach swap: say so, go on. */
	if (mlock(keys, mapped_len()))
		log_warning("key_not_locked", "hint=%s", "raise LimitMEMLOCK");
	if (madvise(keys, mapped_len(), MADV_DONTDUMP))
		log_warning("key_in_core_dumps", NULL);
	error = derive_uses(masters.keys[0], keys);
	if (!error)
		error = take_generations(keys, &masters);
	if (error)
		keys_close(keys);
	else
		*out = keys;
out:
	bytes_wipe(&masters, sizeof(masters));
	return error;
}

void keys_close(struct keys *keys)
{
	if (!keys)
		return;
	bytes_wipe(keys, sizeof(*keys));
	munmap(keys, mapped_len());
}

int keys_open_signing(struct keys *keys, const char *path)
{
	if (file_read_secret(path, keys->signing, sizeof(keys->signing)))
		return BM_EKEY;
	keys->can_sign = true;
	return 0;
}

int keys_sign(const struct keys *keys, struct bytes in, uint8_t out[KEYS_SIGNATURE_LEN])
{
	size_t len = KEYS_SIGNATURE_LEN;
	EVP_MD_CTX *ctx;
	EVP_PKEY *key;
	int ok;

	if (!keys->can_sign)
		return BM_EKEY;
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, keys->signing,
					   sizeof(keys->signing));
	ctx = EVP_MD_CTX_new();
	ok = key && ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
	     EVP_DigestSign(ctx, out, &len, in.data, in.len) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return ok ? 0 : BM_ENOMEM;
}

void keys_fingerprint(const struct keys *keys, unsigned generation, uint8_t out[16])
{
	memcpy(out, keys->generations[generation].fingerprint, 16);
}

static int hmac(const uint8_t key[KEY_LEN], const struct bytes *parts, size_t n,
		uint8_t out[KEYS_PSEUDONYM_LEN])
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	size_t len;
	int ok = ctx && EVP_MAC_init(ctx, key, KEY_LEN, params);

	for (size_t i = 0; ok && i < n; i++) {
		uint8_t prefix[8];

		bytes_put_be64(prefix, parts[i].len);
		ok = EVP_MAC_update(ctx, prefix, sizeof(prefix)) &&
		     EVP_MAC_update(ctx, parts[i].data, parts[i].len);
	}
	ok = ok && EVP_MAC_final(ctx, out, &len, KEYS_PSEUDONYM_LEN);
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(mac);
	return ok ? 0 : BM_ENOMEM;
}

int keys_pseudonym(const struct keys *keys, enum keys_use use, const struct bytes *parts, size_t n,
		   uint8_t out[KEYS_PSEUDONYM_LEN])
{
	return hmac(keys->hmac[use], parts, n, out);
}

static int seal(EVP_CIPHER_CTX *ctx, const uint8_t *key, struct bytes context, struct bytes in,
		uint8_t *out)
{
	uint8_t *nonce = out, *text = out + NONCE_LEN, *tag = text + in.len;
	int n;

	return RAND_bytes(nonce, NONCE_LEN) == 1 &&
	       EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce) &&
	       EVP_EncryptUpdate(ctx, NULL, &n, context.data, (int)context.len) &&
	       EVP_EncryptUpdate(ctx, text, &n, in.data, (int)in.len) &&
	       EVP_EncryptFinal_ex(ctx, text + n, &n) &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, tag);
}

int keys_seal(const struct keys *keys, enum keys_use use, struct bytes context, struct bytes in,
	      uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int ok = ctx && in.len <= INT32_MAX && seal(ctx, keys->aead[use], context, in, out);

	EVP_CIPHER_CTX_free(ctx);
	return ok ? 0 : BM_ENOMEM;
}

/* Only the tag, at the end, judges the text: what fails before lacks memory. */
static int unseal(EVP_CIPHER_CTX *ctx, const uint8_t *key, struct bytes context, struct bytes in,
		  uint8_t *out)
{
	const uint8_t *nonce = in.data, *text = in.data + NONCE_LEN;
	size_t len = in.len - KEYS_SEAL_OVERHEAD;
	int n;

	if (!EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce) ||
	    !EVP_DecryptUpdate(ctx, NULL, &n, context.data, (int)context.len) ||
	    !EVP_DecryptUpdate(ctx, out, &n, text, (int)len) ||
	    !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_LEN,
				 (void *)(uintptr_t)(text + len)))
		return BM_ENOMEM;
	return EVP_DecryptFinal_ex(ctx, out + n, &n) == 1 ? 0 : BM_ETEMPLATE;
}

int keys_unseal(const struct keys *keys, enum keys_use use, struct bytes context, struct bytes in,
		uint8_t *out)
{
	EVP_CIPHER_CTX *ctx;
	int error;

	if (in.len < KEYS_SEAL_OVERHEAD || in.len > INT32_MAX)
		return BM_ETEMPLATE;
	ctx = EVP_CIPHER_CTX_new();
	if (!ctx)
		return BM_ENOMEM;
	error = unseal(ctx, keys->aead[use], context, in, out);
	EVP_CIPHER_CTX_free(ctx);
	if (error)
		bytes_wipe(out, in.len - KEYS_SEAL_OVERHEAD);
	return error;
}

int keys_stream(const struct keys *keys, unsigned generation, uint64_t label, uint8_t *out,
		size_t len)
{
	uint8_t seed[KEYS_PSEUDONYM_LEN], input[8], iv[16] = {0};
	struct bytes part = {input, sizeof(input)};
	EVP_CIPHER_CTX *ctx;
	int n, ok, error = BM_ENOMEM;

	if (generation >= keys_generations(keys))
		return BM_EKEY;
	ctx = EVP_CIPHER_CTX_new();
	bytes_put_be64(input, label);
	if (ctx && len <= INT32_MAX &&
	    !hmac(keys->generations[generation].rotation, &part, 1, seed)) {
		memset(out, 0, len);
		ok = EVP_EncryptInit_ex(ctx, EVP_chacha20(), NULL, seed, iv) &&
		     EVP_EncryptUpdate(ctx, out, &n, out, (int)len);
		error = ok ? 0 : BM_ENOMEM;
	}
	bytes_wipe(seed, sizeof(seed));
	EVP_CIPHER_CTX_free(ctx);
	return error;
}
