#include "biomatch/envelope.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/crypto.h"
#include "biomatch/file.h"

#define KEY_LEN   32
#define NONCE_LEN 12
#define TAG_LEN   16
#define CHUNK     65536

static const char magic[18] = "biomatch-backup-1\n";

struct header {
	char magic[sizeof(magic)];
	uint8_t ephemeral[KEY_LEN];
};

/* A stream on its way, between descriptors or, where they are negative, in memory. */
struct stream {
	int in, out;
	struct bytes from_memory;
	uint8_t *to_memory; /* where the next byte goes */
	EVP_CIPHER_CTX *cipher;
	uint8_t key[KEY_LEN];
	uint64_t chunk;
	uint8_t from[CHUNK + TAG_LEN], to[CHUNK + TAG_LEN];
};

static int check_kind(EVP_PKEY **key)
{
	bool is_key = *key;

	if (is_key && EVP_PKEY_get_id(*key) == EVP_PKEY_X25519)
		return 0;
	EVP_PKEY_free(*key);
	*key = NULL;
	return !is_key && crypto_ran_out() ? BM_ENOMEM : BM_EKEY;
}

static int read_pem(const char *path, bool private, EVP_PKEY **out)
{
	FILE *file = fopen(path, "re");

	if (!file)
		return BM_EIO;
	(void)crypto_ran_out();
	*out = private ? PEM_read_PrivateKey(file, NULL, NULL, NULL)
		       : PEM_read_PUBKEY(file, NULL, NULL, NULL);
	fclose(file);
	return check_kind(out);
}

static int parse_pem(struct bytes pem, EVP_PKEY **out)
{
	BIO *bio;

	(void)crypto_ran_out();
	bio = BIO_new_mem_buf(pem.data, pem.len > INT32_MAX ? 0 : (int)pem.len);
	if (!bio)
		return BM_ENOMEM;
	*out = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
	BIO_free(bio);
	return check_kind(out);
}

static int public_of(const EVP_PKEY *key, uint8_t out[KEY_LEN])
{
	size_t len = KEY_LEN;

	return EVP_PKEY_get_raw_public_key(key, out, &len) == 1 ? 0 : BM_ENOMEM;
}

/* Between keys of X25519 only memory can be missing, but for a peer of low order, which gives no
 * secret. */
static int agree(EVP_PKEY *ours, EVP_PKEY *theirs, uint8_t out[KEY_LEN])
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(ours, NULL);
	size_t len = KEY_LEN;
	int error = BM_ENOMEM;

	if (ctx && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, theirs) == 1)
		error = EVP_PKEY_derive(ctx, out, &len) == 1 ? 0 : BM_EKEY;
	EVP_PKEY_CTX_free(ctx);
	return error;
}

static int derive(const uint8_t secret[KEY_LEN], const uint8_t salt[2 * KEY_LEN],
		  uint8_t out[KEY_LEN])
{
	static const char info[] = "biomatch backup v1";
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret,
						  KEY_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt,
						  2 * KEY_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info,
						  sizeof(info) - 1),
		OSSL_PARAM_construct_end(),
	};
	bool ok = ctx && EVP_KDF_derive(ctx, out, KEY_LEN, params) == 1;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok ? 0 : BM_ENOMEM;
}

/* The stream's key; salt is the ephemeral public key, then the recipient's. */
static int make_key(EVP_PKEY *ours, EVP_PKEY *theirs, const uint8_t salt[2 * KEY_LEN],
		    uint8_t out[KEY_LEN])
{
	uint8_t secret[KEY_LEN];
	int error = agree(ours, theirs, secret);

	if (!error)
		error = derive(secret, salt, out);
	bytes_wipe(secret, sizeof(secret));
	return error;
}

static int stream_new(int in, int out, struct stream **stream)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return BM_ENOMEM;
	s->in = in;
	s->out = out;
	s->cipher = EVP_CIPHER_CTX_new();
	*stream = s;
	return s->cipher ? 0 : BM_ENOMEM;
}

static void stream_free(struct stream *stream)
{
	if (!stream)
		return;
	EVP_CIPHER_CTX_free(stream->cipher);
	bytes_wipe(stream, sizeof(*stream));
	free(stream);
}

/* Fills a chunk as far as there is input. */
static int read_chunk(int fd, uint8_t *data, size_t max, size_t *len)
{
	*len = 0;
	while (*len < max) {
		ssize_t n = read(fd, data + *len, max - *len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return BM_EIO;
		if (!n)
			break;
		*len += (size_t)n;
	}
	return 0;
}

static size_t take_memory(struct stream *stream, uint8_t *to, size_t max)
{
	size_t len = stream->from_memory.len < max ? stream->from_memory.len : max;

	if (len)
		memcpy(to, stream->from_memory.data, len);
	stream->from_memory.data += len;
	stream->from_memory.len -= len;
	return len;
}

static int put(struct stream *stream, const void *data, size_t len)
{
	if (stream->out >= 0)
		return file_write_full(stream->out, data, len);
	memcpy(stream->to_memory, data, len);
	stream->to_memory += len;
	return 0;
}

static void make_nonce(const struct stream *stream, bool last, uint8_t nonce[NONCE_LEN])
{
	memset(nonce, 0, NONCE_LEN);
	bytes_put_be64(nonce + 3, stream->chunk);
	nonce[NONCE_LEN - 1] = last;
}

static int seal_chunk(struct stream *s, size_t len, bool last)
{
	uint8_t nonce[NONCE_LEN];
	int n, end;

	make_nonce(s, last, nonce);
	if (!EVP_EncryptInit_ex(s->cipher, EVP_aes_256_gcm(), NULL, s->key, nonce) ||
	    !EVP_EncryptUpdate(s->cipher, s->to, &n, s->from, (int)len) ||
	    !EVP_EncryptFinal_ex(s->cipher, s->to + n, &end) ||
	    !EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, s->to + len))
		return BM_ENOMEM;
	s->chunk++;
	return put(s, s->to, len + TAG_LEN);
}

static int open_chunk(struct stream *s, size_t len, bool last)
{
	uint8_t nonce[NONCE_LEN];
	int n, end;

	make_nonce(s, last, nonce);
	if (!EVP_DecryptInit_ex(s->cipher, EVP_aes_256_gcm(), NULL, s->key, nonce) ||
	    !EVP_DecryptUpdate(s->cipher, s->to, &n, s->from, (int)len) ||
	    !EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, s->from + len))
		return BM_ENOMEM;
	if (EVP_DecryptFinal_ex(s->cipher, s->to + n, &end) != 1)
		return BM_EBACKUP;
	s->chunk++;
	return file_write_full(s->out, s->to, len);
}

/* A chunk that is not full is the last one: the input is at its end. */
static int seal_chunks(struct stream *stream)
{
	size_t len = CHUNK;
	int error = 0;

	while (!error && len == CHUNK) {
		if (stream->in < 0)
			len = take_memory(stream, stream->from, CHUNK);
		else
			error = read_chunk(stream->in, stream->from, CHUNK, &len);
		if (!error)
			error = seal_chunk(stream, len, len < CHUNK);
	}
	return error;
}

static int open_chunks(struct stream *stream)
{
	size_t len = CHUNK + TAG_LEN;
	int error = 0;

	while (!error && len == CHUNK + TAG_LEN) {
		error = read_chunk(stream->in, stream->from, CHUNK + TAG_LEN, &len);
		if (!error && len < TAG_LEN)
			error = BM_EBACKUP;
		if (!error)
			error = open_chunk(stream, len - TAG_LEN, len < CHUNK + TAG_LEN);
	}
	return error;
}

static int begin_seal(struct stream *stream, EVP_PKEY *recipient)
{
	EVP_PKEY *ephemeral = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	struct header header;
	uint8_t salt[2 * KEY_LEN];
	int error = ephemeral ? public_of(ephemeral, salt) : BM_ENOMEM;

	if (!error)
		error = public_of(recipient, salt + KEY_LEN);
	if (!error)
		error = make_key(ephemeral, recipient, salt, stream->key);
	if (!error) {
		memcpy(header.magic, magic, sizeof(magic));
		memcpy(header.ephemeral, salt, KEY_LEN);
		error = put(stream, &header, sizeof(header));
	}
	EVP_PKEY_free(ephemeral);
	return error;
}

static int begin_open(struct stream *stream, EVP_PKEY *recipient)
{
	EVP_PKEY *ephemeral;
	struct header header;
	uint8_t salt[2 * KEY_LEN];
	size_t len;
	int error = read_chunk(stream->in, (uint8_t *)&header, sizeof(header), &len);

	if (error)
		return error;
	if (len < sizeof(header) || memcmp(header.magic, magic, sizeof(magic)))
		return BM_EBACKUP;
	ephemeral = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, header.ephemeral, KEY_LEN);
	if (!ephemeral)
		return BM_ENOMEM;
	memcpy(salt, header.ephemeral, KEY_LEN);
	error = public_of(recipient, salt + KEY_LEN);
	if (!error)
		error = make_key(recipient, ephemeral, salt, stream->key);
	EVP_PKEY_free(ephemeral);
	return error == BM_EKEY ? BM_EBACKUP : error;
}

int envelope_seal(int in, int out, const char *public_key)
{
	struct stream *stream = NULL;
	EVP_PKEY *recipient = NULL;
	int error = read_pem(public_key, false, &recipient);

	if (!error)
		error = stream_new(in, out, &stream);
	if (!error)
		error = begin_seal(stream, recipient);
	if (!error)
		error = seal_chunks(stream);
	stream_free(stream);
	EVP_PKEY_free(recipient);
	return error;
}

int envelope_seal_bytes(struct bytes in, struct bytes public_key, uint8_t **out, size_t *len)
{
	struct stream *stream = NULL;
	EVP_PKEY *recipient = NULL;
	uint8_t *sealed = NULL;
	int error = parse_pem(public_key, &recipient);

	*len = sizeof(struct header) + in.len + (in.len / CHUNK + 1) * TAG_LEN;
	if (!error)
		error = stream_new(-1, -1, &stream);
	if (!error)
		error = (sealed = malloc(*len)) ? 0 : BM_ENOMEM;
	if (!error) {
		stream->from_memory = in;
		stream->to_memory = sealed;
		error = begin_seal(stream, recipient);
	}
	if (!error)
		error = seal_chunks(stream);
	stream_free(stream);
	EVP_PKEY_free(recipient);
	if (error)
		free(sealed);
	else
		*out = sealed;
	return error;
}

int envelope_open(int in, int out, const char *private_key)
{
	struct stream *stream = NULL;
	EVP_PKEY *recipient = NULL;
	int error = read_pem(private_key, true, &recipient);

	if (!error)
		error = stream_new(in, out, &stream);
	if (!error)
		error = begin_open(stream, recipient);
	if (!error)
		error = open_chunks(stream);
	stream_free(stream);
	EVP_PKEY_free(recipient);
	return error;
}
