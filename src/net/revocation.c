/* Certificates that a CA has taken back: the lists, and who is still trusted under them. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "conn.h"

static int fail(char message[256], const char *file, const char *what)
{
	snprintf(message, 256, "%.120s: %s", file, what);
	ERR_clear_error();
	return BM_ETLS;
}

/*
 * A list past its next update, or from ahead of this clock, is still honoured:
 * whoever it names stays out. Turning everybody away instead would close every
 * gate at the hour at which the CA's publication failed; the age of the list is
 * told by net_server_stat, for an alert long before.
 */
static int judge(int good, X509_STORE_CTX *at)
{
	int error = X509_STORE_CTX_get_error(at);

	if (good || (error != X509_V_ERR_CRL_HAS_EXPIRED && error != X509_V_ERR_CRL_NOT_YET_VALID))
		return good;
	X509_STORE_CTX_set_error(at, X509_V_OK);
	return 1;
}

/* Every list in the file; a file that ends within one, or has none, is refused. */
static int add_lists(X509_STORE *store, const char *file, char message[256])
{
	BIO *in = BIO_new_file(file, "r");
	int n = 0, error = 0;
	unsigned long reason;
	X509_CRL *list;

	if (!in)
		return fail(message, file, "cannot be read");
	while (!error && (list = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL))) {
		if (X509_STORE_add_crl(store, list) != 1)
			error = fail(message, file, "not usable as revocation list");
		X509_CRL_free(list);
		n++;
	}
	reason = ERR_peek_last_error();
	if (!error && (!n || ERR_GET_LIB(reason) != ERR_LIB_PEM ||
		       ERR_GET_REASON(reason) != PEM_R_NO_START_LINE))
		error = fail(message, file, "no whole revocation list in PEM");
	ERR_clear_error();
	BIO_free(in);
	return error;
}

/* True when one of the CAs in the store has signed the list. */
static bool is_signed(STACK_OF(X509_OBJECT) * objects, X509_CRL *list)
{
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (ca && !X509_NAME_cmp(X509_get_subject_name(ca), X509_CRL_get_issuer(list)) &&
		    X509_CRL_verify(list, X509_get0_pubkey(ca)) == 1)
			return true;
	}
	return false;
}

int revocation_load(X509_STORE *store, const struct net_options *options, char message[256])
{
	STACK_OF(X509_OBJECT) * objects;
	int error = options->crl ? add_lists(store, options->crl, message) : 0;

	if (error)
		return error;
	X509_STORE_set_verify_cb(store, judge);
	objects = X509_STORE_get0_objects(store);
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509_CRL *list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));

		if (!list)
			continue;
		if (!is_signed(objects, list))
			return fail(message, options->crl ? options->crl : options->client_ca,
				    "a revocation list that none of the client CAs has signed");
		/* From now on a CA without a list has no certificate accepted. */
		if (X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) != 1)
			return BM_ENOMEM;
	}
	return 0;
}

int64_t revocation_ends_ms(X509_STORE *store)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);
	int64_t first = 0;

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		const X509_CRL *list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
		int64_t ms = list ? tls_time_ms(X509_CRL_get0_nextUpdate(list)) : 0;

		if (ms && (!first || ms < first))
			first = ms;
	}
	return first;
}

bool revocation_trusts(X509_STORE *store, SSL *ssl)
{
	X509 *certificate = SSL_get1_peer_certificate(ssl);
	X509_STORE_CTX *at = X509_STORE_CTX_new();
	bool trusted = certificate && at &&
		       X509_STORE_CTX_init(at, store, certificate, SSL_get_peer_cert_chain(ssl)) &&
		       X509_STORE_CTX_set_default(at, "ssl_client") && X509_verify_cert(at) == 1;

	ERR_clear_error();
	X509_STORE_CTX_free(at);
	X509_free(certificate);
	return trusted;
}
