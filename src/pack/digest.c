#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "pack.h"

#define READ_LEN 65536

static int fail_file(struct pack_open *open, const char *path, const char *why)
{
	snprintf(open->message, PACK_MESSAGE_LEN, "%.360s: %s", path, why);
	return BM_EPACK;
}

static int hash_file(struct pack_open *open, const char *path, uint8_t out[PACK_SHA256_LEN])
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	FILE *f = fopen(path, "rbe");
	int saved = errno, error = BM_ENOMEM;
	uint8_t block[READ_LEN];
	size_t n;

	if (!f) {
		error = fail_file(open, path, strerror(saved));
		goto out;
	}
	if (!hash || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL))
		goto out;
	while ((n = fread(block, 1, sizeof(block), f)) > 0) {
		if (!EVP_DigestUpdate(hash, block, n))
			goto out;
	}
	if (ferror(f))
		error = fail_file(open, path, strerror(errno));
	else if (EVP_DigestFinal_ex(hash, out, NULL))
		error = 0;
out:
	if (f)
		fclose(f);
	EVP_MD_CTX_free(hash);
	return error;
}

static int verify_file(struct pack_open *open, const struct pack_model *model)
{
	uint8_t found[PACK_SHA256_LEN] = {0};
	char text[2 * PACK_SHA256_LEN + 1], why[128];
	int error = hash_file(open, model->file, found);

	if (error || !memcmp(found, model->sha256, sizeof(found)))
		return error;
	bytes_to_hex(found, sizeof(found), text);
	snprintf(why, sizeof(why), "the file's sha256 is %s, not the manifest's", text);
	return fail_file(open, model->file, why);
}

/* A network and how it is fed: both change the template. */
static int hash_model(EVP_MD_CTX *hash, const struct pack_model *model)
{
	char feed[128];
	int len = snprintf(feed, sizeof(feed), "%ux%u %d %.9g %.9g\n", model->width, model->height,
			   (int)model->colour, (double)model->mean, (double)model->scale);

	return EVP_DigestUpdate(hash, model->sha256, sizeof(model->sha256)) &&
			       EVP_DigestUpdate(hash, feed, (size_t)len)
		       ? 0
		       : BM_ENOMEM;
}

int pack_check_models(struct pack_open *open, bool verify)
{
	struct pack *pack = &open->pack;
	const struct pack_model *models[] = {&pack->detector, &pack->landmarks, &pack->embedding};
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	int error = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) ? 0 : BM_ENOMEM;

	for (size_t i = 0; !error && i < sizeof(models) / sizeof(models[0]); i++) {
		if (!models[i]->file)
			continue;
		error = hash_model(hash, models[i]);
		if (!error && verify)
			error = verify_file(open, models[i]);
	}
	/* No template depends on it: it may be exchanged under a store. */
	if (!error && verify && pack->liveness.file)
		error = verify_file(open, &pack->liveness);
	if (!error && !EVP_DigestFinal_ex(hash, pack->digest, NULL))
		error = BM_ENOMEM;
	EVP_MD_CTX_free(hash);
	return error;
}
