/*
 * Material for passive authentication, made with OpenSSL: a country's CSCA, document signers,
 * revocation lists, and signed document security objects.
 */
#ifndef TESTS_SUPPORT_SOD_H
#define TESTS_SUPPORT_SOD_H

#include <openssl/cms.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "biomatch/bytes.h"

enum sod_kind { SOD_RSA, SOD_PSS, SOD_EC_NAMED, SOD_EC_EXPLICIT };

struct sod_authority {
	EVP_PKEY *key;
	X509 *certificate;
};

static EVP_PKEY *sod_make_key(enum sod_kind kind)
{
	EVP_PKEY *key;

	if (kind == SOD_RSA || kind == SOD_PSS)
		return EVP_RSA_gen(2048);
	key = EVP_EC_gen("prime256v1");
	if (key && kind == SOD_EC_EXPLICIT)
		assert_int_equal(EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING,
								"explicit"),
				 1);
	return key;
}

static void sod_extend(X509 *to, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, issuer, to, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(to, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

struct sod_wanted {
	enum sod_kind kind;
	const char *name;
	const struct sod_authority *issuer; /* NULL for a CSCA */
	long from_s, to_s;                  /* from now */
	const char *usage, *extended_usage; /* NULL for what it should be */
	const EVP_MD *md;                   /* NULL for SHA-256 */
};

static void sod_make(const struct sod_wanted *wanted, struct sod_authority *out)
{
	static long serial = 1;
	X509_NAME *name = X509_NAME_new();
	X509 *issuer;

	out->key = sod_make_key(wanted->kind);
	out->certificate = X509_new();
	assert_non_null(out->key);
	assert_non_null(out->certificate);
	issuer = wanted->issuer ? wanted->issuer->certificate : out->certificate;
	X509_NAME_add_entry_by_txt(name, "C", MBSTRING_ASC, (const unsigned char *)"ut", -1, -1, 0);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)wanted->name,
				   -1, -1, 0);
	X509_set_version(out->certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(out->certificate), serial++);
	X509_gmtime_adj(X509_getm_notBefore(out->certificate), wanted->from_s);
	X509_gmtime_adj(X509_getm_notAfter(out->certificate), wanted->to_s);
	X509_set_subject_name(out->certificate, name);
	X509_set_issuer_name(out->certificate,
			     wanted->issuer ? X509_get_subject_name(issuer) : name);
	X509_set_pubkey(out->certificate, out->key);
	if (!wanted->issuer)
		sod_extend(out->certificate, issuer, NID_basic_constraints,
			   "critical,CA:TRUE,pathlen:0");
	sod_extend(out->certificate, issuer, NID_key_usage,
		   wanted->usage    ? wanted->usage
		   : wanted->issuer ? "critical,digitalSignature"
				    : "critical,keyCertSign,cRLSign");
	if (wanted->extended_usage)
		sod_extend(out->certificate, issuer, NID_ext_key_usage, wanted->extended_usage);
	assert_true(X509_sign(out->certificate, wanted->issuer ? wanted->issuer->key : out->key,
			      wanted->md ? wanted->md : EVP_sha256()) > 0);
	X509_NAME_free(name);
}

static void sod_free(struct sod_authority *authority)
{
	EVP_PKEY_free(authority->key);
	X509_free(authority->certificate);
}

/* A list of this CSCA, with one signer or none. */
static X509_CRL *sod_revoke(const struct sod_authority *csca, const X509 *signer, long from_s,
			    long to_s)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *at = X509_gmtime_adj(NULL, from_s);

	X509_CRL_set_version(crl, 1);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(csca->certificate));
	X509_CRL_set1_lastUpdate(crl, at);
	if (signer) {
		X509_REVOKED *revoked = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(
			revoked, (ASN1_INTEGER *)(uintptr_t)X509_get0_serialNumber(signer));
		X509_REVOKED_set_revocationDate(revoked, at);
		X509_CRL_add0_revoked(crl, revoked);
	}
	X509_gmtime_adj(at, to_s);
	X509_CRL_set1_nextUpdate(crl, at);
	ASN1_TIME_free(at);
	assert_true(X509_CRL_sign(crl, csca->key, EVP_sha256()) > 0);
	return crl;
}

/* Appends a tag, a length of at most 65,535 and what it holds. */
static size_t sod_put(uint8_t *to, uint8_t tag, const uint8_t *value, size_t len)
{
	size_t at = 0;

	to[at++] = tag;
	if (len > 255)
		to[at++] = 0x82;
	else if (len > 127)
		to[at++] = 0x81;
	if (len > 255)
		to[at++] = (uint8_t)(len >> 8);
	to[at++] = (uint8_t)len;
	memmove(to + at, value, len);
	return at + len;
}

/* LDSSecurityObject with data groups 1 and 2, the first one's digest made up. */
static size_t sod_security_object(const EVP_MD *md, struct bytes dg2, uint8_t *out)
{
	uint8_t hashes[256], one[128], algorithm[64], all[512], digest[EVP_MAX_MD_SIZE] = {0};
	unsigned char *der = NULL;
	unsigned int len = 32;
	size_t n = 0, at = 0, used;
	int oid;

	for (uint8_t group = 1; group <= 2; group++) {
		const uint8_t number[] = {0x02, 0x01, group};

		if (group == 2)
			assert_int_equal(EVP_Digest(dg2.data, dg2.len, digest, &len, md, NULL), 1);
		memcpy(one, number, sizeof(number));
		used = sizeof(number) + sod_put(one + sizeof(number), 0x04, digest, len);
		n += sod_put(hashes + n, 0x30, one, used);
	}
	oid = i2d_ASN1_OBJECT(OBJ_nid2obj(EVP_MD_get_type(md)), &der);
	assert_true(oid > 0);
	at = sod_put(all, 0x02, (const uint8_t[]){0}, 1);
	memcpy(algorithm, der, (size_t)oid);
	OPENSSL_free(der);
	at += sod_put(all + at, 0x30, algorithm, (size_t)oid);
	at += sod_put(all + at, 0x30, hashes, n);
	return sod_put(out, 0x30, all, at);
}

struct sod_signing {
	const struct sod_authority *signer;
	enum sod_kind kind;
	const EVP_MD *md, *group_md; /* NULL for SHA-256 */
	const char *type;            /* NULL for a security object's */
	bool without_certificate;
};

/* A whole EF.SOD, which the caller frees. */
static struct bytes sod_sign(const struct sod_signing *how, struct bytes dg2)
{
	const unsigned flags = CMS_BINARY | CMS_PARTIAL | CMS_KEY_PARAM | CMS_NOSMIMECAP |
			       (how->without_certificate ? CMS_NOCERTS : 0);
	const EVP_MD *md = how->md ? how->md : EVP_sha256();
	uint8_t object[1024], *wrapped;
	size_t len = sod_security_object(how->group_md ? how->group_md : EVP_sha256(), dg2, object);
	ASN1_OBJECT *type = OBJ_txt2obj(how->type ? how->type : "2.23.136.1.1.1", 1);
	CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
	BIO *content = BIO_new_mem_buf(object, (int)len);
	unsigned char *der = NULL;
	CMS_SignerInfo *info;
	int n;

	assert_non_null(cms);
	assert_int_equal(CMS_set1_eContentType(cms, type), 1);
	info = CMS_add1_signer(cms, how->signer->certificate, how->signer->key, md, flags);
	assert_non_null(info);
	if (how->kind == SOD_PSS)
		assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(CMS_SignerInfo_get0_pkey_ctx(info),
							      RSA_PKCS1_PSS_PADDING),
				 1);
	CMS_set_detached(cms, 0);
	assert_int_equal(CMS_final(cms, content, NULL, flags), 1);
	n = i2d_CMS_ContentInfo(cms, &der);
	assert_true(n > 0);
	wrapped = malloc((size_t)n + 8);
	assert_non_null(wrapped);
	len = sod_put(wrapped, 0x77, der, (size_t)n);
	OPENSSL_free(der);
	BIO_free(content);
	CMS_ContentInfo_free(cms);
	ASN1_OBJECT_free(type);
	return (struct bytes){wrapped, len};
}

#endif
