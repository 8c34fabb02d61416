/* Keys, a CA and certificates for tests, as PEM files. */
#ifndef TEST_NET_CERTS_H
#define TEST_NET_CERTS_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>

struct test_ca {
	EVP_PKEY *key;
	X509 *certificate;
};

static inline void certs_write_key(const char *path, EVP_PKEY *key)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(f), 0);
}

static inline void certs_write(const char *path, X509 *certificate)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, certificate), 1);
	assert_int_equal(fclose(f), 0);
}

static inline void certs_add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(extension);
	assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

/* A certificate of key, valid for a day; san is in openssl's notation or NULL. */
static inline X509 *certs_sign(const struct test_ca *ca, EVP_PKEY *key, const char *name,
			       long serial, const char *san)
{
	X509 *certificate = X509_new();
	X509_NAME *subject = X509_get_subject_name(certificate);

	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 24L * 3600);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
				   0);
	X509_set_issuer_name(certificate,
			     ca->certificate ? X509_get_subject_name(ca->certificate) : subject);
	X509_set_pubkey(certificate, key);
	certs_add_extension(certificate, NID_basic_constraints,
			    ca->certificate ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (san)
		certs_add_extension(certificate, NID_subject_alt_name, san);
	assert_true(X509_sign(certificate, ca->key, EVP_sha256()) > 0);
	return certificate;
}

static inline struct test_ca certs_make_ca(const char *dir, const char *name)
{
	struct test_ca ca = {.key = EVP_EC_gen("P-256")};
	char path[512];

	ca.certificate = certs_sign(&(struct test_ca){.key = ca.key}, ca.key, name, 1, NULL);
	snprintf(path, sizeof(path), "%s/%s.pem", dir, name);
	certs_write(path, ca.certificate);
	return ca;
}

static inline void certs_free_ca(struct test_ca *ca)
{
	EVP_PKEY_free(ca->key);
	X509_free(ca->certificate);
}

/* Writes DIR/NAME.pem and DIR/NAME.key. */
static inline void certs_make(const char *dir, const struct test_ca *ca, const char *name,
			      long serial, const char *san)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = certs_sign(ca, key, name, serial, san);
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.key", dir, name);
	certs_write_key(path, key);
	snprintf(path, sizeof(path), "%s/%s.pem", dir, name);
	certs_write(path, certificate);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

/*
 * Writes DIR/NAME.pem: a list that revokes one serial number and is valid from
 * and to so many seconds from now, behind the CA itself where that is wanted.
 */
static inline void certs_revoke(const char *dir, const struct test_ca *ca, const char *name,
				long serial, long from, long to, bool with_ca)
{
	X509_CRL *crl = X509_CRL_new();
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	ASN1_TIME *at = X509_gmtime_adj(NULL, from), *next = X509_gmtime_adj(NULL, to);
	char path[512];
	FILE *f;

	ASN1_INTEGER_set(number, serial);
	X509_REVOKED_set_serialNumber(entry, number);
	X509_REVOKED_set_revocationDate(entry, at);
	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->certificate));
	X509_CRL_set1_lastUpdate(crl, at);
	X509_CRL_set1_nextUpdate(crl, next);
	X509_CRL_add0_revoked(crl, entry);
	assert_true(X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0);
	snprintf(path, sizeof(path), "%s/%s.pem", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	if (with_ca)
		assert_int_equal(PEM_write_X509(f, ca->certificate), 1);
	assert_int_equal(PEM_write_X509_CRL(f, crl), 1);
	assert_int_equal(fclose(f), 0);
	ASN1_INTEGER_free(number);
	ASN1_TIME_free(at);
	ASN1_TIME_free(next);
	X509_CRL_free(crl);
}

#endif
