#include "biomatch/passive.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/crypto.h"
#include "sod.h"

/* Bits of security that every key and digest of the chain must have, as OpenSSL counts: level 1
 * is 80. */
#define STRENGTH_LEVEL 1
/* id-icao-mrtd-security-ldsSecurityObject */
#define SECURITY_OBJECT "2.23.136.1.1.1"
#define DG2             2

struct passive_trust {
	atomic_uint refs;
	X509_STORE *store;
	bool revokes;
};

static int refuse(char message[PASSIVE_MESSAGE_LEN], const char *path, const char *why)
{
	snprintf(message, PASSIVE_MESSAGE_LEN, "%s: %s", path, why);
	return BM_ECONF;
}

static int load(struct passive_trust *trust, const char *csca, const char *crl, char *message)
{
	X509_LOOKUP *lookup = X509_STORE_add_lookup(trust->store, X509_LOOKUP_file());

	if (!lookup)
		return BM_ENOMEM;
	if (X509_load_cert_file(lookup, csca, X509_FILETYPE_PEM) < 1)
		return refuse(message, csca, "holds no CSCA certificate in PEM that can be read");
	if (crl && X509_load_crl_file(lookup, crl, X509_FILETYPE_PEM) < 1)
		return refuse(message, crl, "holds no revocation list in PEM that can be read");
	trust->revokes = crl != NULL;
	return 0;
}

/*
 * What OpenSSL notes of a certificate at its first use, and for good: if memory were out
 * then, the documents of a whole country would be refused from there on.
 */
static void settle(X509_STORE *store)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509 *csca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (csca)
			(void)X509_check_purpose(csca, -1, 0);
	}
}

int passive_open(const char *csca, const char *crl, struct passive_trust **out,
		 char message[PASSIVE_MESSAGE_LEN])
{
	struct passive_trust *trust = calloc(1, sizeof(*trust));
	int error = BM_ENOMEM;

	snprintf(message, PASSIVE_MESSAGE_LEN, "out of memory");
	if (!trust)
		return error;
	ERR_clear_error();
	(void)crypto_ran_out();
	atomic_init(&trust->refs, 1);
	trust->store = X509_STORE_new();
	if (trust->store)
		error = load(trust, csca, crl, message);
	if (!error)
		settle(trust->store);
	if (crypto_ran_out()) {
		snprintf(message, PASSIVE_MESSAGE_LEN, "out of memory");
		error = BM_ENOMEM;
	}
	if (error) {
		passive_close(trust);
		return error;
	}
	*out = trust;
	return 0;
}

struct passive_trust *passive_ref(struct passive_trust *trust)
{
	if (trust)
		atomic_fetch_add(&trust->refs, 1);
	return trust;
}

void passive_close(struct passive_trust *trust)
{
	if (!trust || atomic_fetch_sub(&trust->refs, 1) != 1)
		return;
	X509_STORE_free(trust->store);
	free(trust);
}

/* The certificate that the only signer names, among those in the file. */
static X509 *find_signer(CMS_ContentInfo *cms, CMS_SignerInfo **info)
{
	STACK_OF(CMS_SignerInfo) *infos = CMS_get0_SignerInfos(cms);
	STACK_OF(X509) *certificates = CMS_get1_certs(cms);
	X509 *found = NULL;

	*info = sk_CMS_SignerInfo_num(infos) == 1 ? sk_CMS_SignerInfo_value(infos, 0) : NULL;
	for (int i = 0; *info && !found && i < sk_X509_num(certificates); i++) {
		X509 *at = sk_X509_value(certificates, i);

		if (!CMS_SignerInfo_cert_cmp(*info, at) && X509_up_ref(at))
			found = at;
	}
	sk_X509_pop_free(certificates, X509_free);
	return found;
}

static bool is_security_object(CMS_ContentInfo *cms)
{
	const ASN1_OBJECT *type = CMS_get0_eContentType(cms);
	char text[sizeof(SECURITY_OBJECT) + 1];

	return OBJ_obj2nid(CMS_get0_type(cms)) == NID_pkcs7_signed && type &&
	       OBJ_obj2txt(text, sizeof(text), type, 1) == sizeof(SECURITY_OBJECT) - 1 &&
	       !strcmp(text, SECURITY_OBJECT);
}

/* Signs data, and is not one of the CSCA's other signers, which have an extended usage (Doc
 * 9303-12, 7.1.1). */
static bool is_document_signer(X509 *certificate)
{
	return X509_get_key_usage(certificate) & KU_DIGITAL_SIGNATURE &&
	       !(X509_get_extension_flags(certificate) & (EXFLAG_XKUSAGE | EXFLAG_INVALID)) &&
	       !X509_check_ca(certificate);
}

static enum passive_finding chain_finding(int error)
{
	switch (error) {
	case X509_V_OK:
		return PASSIVE_AUTHENTIC;
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return PASSIVE_SIGNER_EXPIRED;
	case X509_V_ERR_CERT_REVOKED:
		return PASSIVE_SIGNER_REVOKED;
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_CRL_NOT_YET_VALID:
	case X509_V_ERR_CRL_SIGNATURE_FAILURE:
	case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
	case X509_V_ERR_DIFFERENT_CRL_SCOPE:
	case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
		return PASSIVE_REVOCATION_UNKNOWN;
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK:
	case X509_V_ERR_UNSUPPORTED_SIGNATURE_ALGORITHM:
		return PASSIVE_ALGORITHM;
	default:
		return PASSIVE_SIGNER_UNKNOWN;
	}
}

static void note_country(X509 *csca, char country[3])
{
	unsigned char *text = NULL;
	X509_NAME *name = X509_get_subject_name(csca);
	int at = X509_NAME_get_index_by_NID(name, NID_countryName, -1), len = -1;

	if (at >= 0)
		len = ASN1_STRING_to_UTF8(&text,
					  X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
	for (int i = 0; len == 2 && i < len; i++) {
		unsigned char upper = (unsigned char)(text[i] & ~0x20u);

		country[i] = upper >= 'A' && upper <= 'Z' ? (char)upper : '?';
	}
	OPENSSL_free(text);
}

/*
 * Passports have explicit curves (Doc 9303-12, 4.1.6.3), which OpenSSL refuses in chains: a forged
 * issuer could choose its own. Issuers are the operator's here, and a signer's curve is under its
 * issuer's signature.
 */
static int allow_explicit_curve(int ok, X509_STORE_CTX *ctx)
{
	return ok || X509_STORE_CTX_get_error(ctx) == X509_V_ERR_EC_KEY_EXPLICIT_PARAMS;
}

/* From the signer's certificate to a CSCA that is trusted, now. */
static enum passive_finding check_chain(const struct passive_trust *trust, X509 *signer,
					int64_t now_ms, char country[3])
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	enum passive_finding finding = PASSIVE_SIGNER_UNKNOWN;

	if (ctx && X509_STORE_CTX_init(ctx, trust->store, signer, NULL)) {
		X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
		STACK_OF(X509) * chain;

		X509_VERIFY_PARAM_set_flags(param,
					    X509_V_FLAG_PARTIAL_CHAIN |
						    (trust->revokes ? X509_V_FLAG_CRL_CHECK : 0));
		X509_VERIFY_PARAM_set_time(param, (time_t)(now_ms / 1000));
		X509_VERIFY_PARAM_set_auth_level(param, STRENGTH_LEVEL);
		X509_STORE_CTX_set_verify_cb(ctx, allow_explicit_curve);
		finding = X509_verify_cert(ctx) == 1 ? PASSIVE_AUTHENTIC
						     : chain_finding(X509_STORE_CTX_get_error(ctx));
		chain = X509_STORE_CTX_get0_chain(ctx);
		if (finding != PASSIVE_SIGNER_UNKNOWN && sk_X509_num(chain) > 1)
			note_country(sk_X509_value(chain, 1), country);
	}
	X509_STORE_CTX_free(ctx);
	return finding;
}

/* The signature, with the digests that it covers, and then the data group's digest in it. */
static enum passive_finding check_signature(CMS_ContentInfo *cms, struct bytes dg2)
{
	const unsigned flags = CMS_NO_SIGNER_CERT_VERIFY | CMS_BINARY;
	enum passive_finding finding = PASSIVE_SIGNATURE;
	BIO *out = BIO_new(BIO_s_mem());
	char *content;
	long len;

	if (out && CMS_verify(cms, NULL, NULL, NULL, out, flags) == 1) {
		len = BIO_get_mem_data(out, &content);
		finding = sod_judge((struct bytes){(uint8_t *)content, len > 0 ? (size_t)len : 0},
				    DG2, dg2);
	}
	BIO_free(out);
	return finding;
}

static enum passive_finding judge(const struct passive_trust *trust, CMS_ContentInfo *cms,
				  struct bytes dg2, int64_t now_ms, char country[3])
{
	enum passive_finding finding = PASSIVE_AUTHENTIC;
	CMS_SignerInfo *info;
	X509_ALGOR *digest;
	X509 *signer;

	if (!is_security_object(cms))
		return PASSIVE_MALFORMED;
	signer = find_signer(cms, &info);
	if (!signer)
		return PASSIVE_MALFORMED;
	CMS_SignerInfo_get0_algs(info, NULL, NULL, &digest, NULL);
	if (!is_document_signer(signer))
		finding = PASSIVE_SIGNER_UNKNOWN;
	else if (!sod_digest(digest))
		finding = PASSIVE_ALGORITHM;
	if (finding == PASSIVE_AUTHENTIC)
		finding = check_chain(trust, signer, now_ms, country);
	if (finding == PASSIVE_AUTHENTIC)
		finding = check_signature(cms, dg2);
	X509_free(signer);
	return finding;
}

int passive_check(const struct passive_trust *trust, struct bytes sod, struct bytes dg2,
		  int64_t now_ms, struct passive_verdict *out)
{
	CMS_ContentInfo *cms;

	*out = (struct passive_verdict){.finding = PASSIVE_MALFORMED};
	(void)crypto_ran_out();
	cms = sod_parse(sod);
	if (cms)
		out->finding = judge(trust, cms, dg2, now_ms, out->country);
	CMS_ContentInfo_free(cms);
	ERR_clear_error();
	/* What fails for want of memory says nothing of a document. */
	return crypto_ran_out() && out->finding != PASSIVE_AUTHENTIC ? BM_ENOMEM : 0;
}
