#include "entry.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "biomatch/file.h"
#include "biomatch/wire.h"

#define PEM_MAX 4096

int audit_hash(struct bytes data, uint8_t out[AUDIT_HASH_LEN])
{
	return SHA256(data.data, data.len, out) ? 0 : BM_ENOMEM;
}

int entry_unpack(struct bytes packed, struct arena *arena, Biomatch__V1__AuditEntry **out)
{
	ProtobufCMessage *message;
	int error = wire_unpack(&biomatch__v1__audit_entry__descriptor, arena, packed, &message);

	*out = (Biomatch__V1__AuditEntry *)message;
	return error && error != BM_ENOMEM ? BM_EAUDIT : error;
}

static bool signature_holds(const uint8_t public[AUDIT_KEY_LEN], const uint8_t *signature,
			    struct bytes text)
{
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public, AUDIT_KEY_LEN);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestVerify(ctx, signature, KEYS_SIGNATURE_LEN, text.data, text.len) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return ok;
}

bool entry_is_signed_by(struct bytes packed, const struct audit_trust *trust)
{
	struct bytes text = {packed.data, packed.len - ENTRY_SIGNATURE_LEN};
	const uint8_t *trailer = packed.data + text.len;

	if (packed.len < ENTRY_SIGNATURE_LEN ||
	    memcmp(trailer, ENTRY_SIGNATURE_TAG, ENTRY_SIGNATURE_TAG_LEN))
		return false;
	for (size_t i = 0; i < trust->n; i++) {
		if (signature_holds(trust->keys[i], trailer + ENTRY_SIGNATURE_TAG_LEN, text))
			return true;
	}
	return false;
}

int audit_read_key(const char *path, uint8_t out[AUDIT_KEY_LEN])
{
	size_t len, n = AUDIT_KEY_LEN;
	EVP_PKEY *key = NULL;
	uint8_t *data;
	BIO *bio;
	int error = file_read(path, PEM_MAX, &data, &len);

	if (error)
		return error;
	bio = BIO_new_mem_buf(data, (int)len);
	if (bio)
		key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
	if (!key || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 ||
	    EVP_PKEY_get_raw_public_key(key, out, &n) != 1)
		error = BM_EINVAL;
	EVP_PKEY_free(key);
	BIO_free(bio);
	free(data);
	return error;
}
