#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "connection.h"

int fault_set_tls(struct fault *fault, const char *what)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return fault_set(fault, BM_ETLS, "%s: %s", what, why ? why : "no reason given");
}

static int load_files(SSL_CTX *tls, const struct biomatch_options *options, struct fault *fault)
{
	char what[BIOMATCH_MESSAGE_MAX];

	ERR_clear_error();
	snprintf(what, sizeof(what), "cannot read the CA certificate %s", options->ca);
	if (SSL_CTX_load_verify_file(tls, options->ca) != 1)
		return fault_set_tls(fault, what);
	snprintf(what, sizeof(what), "cannot read the certificate %s", options->certificate);
	if (SSL_CTX_use_certificate_chain_file(tls, options->certificate) != 1)
		return fault_set_tls(fault, what);
	snprintf(what, sizeof(what), "cannot use the private key %s", options->private_key);
	if (SSL_CTX_use_PrivateKey_file(tls, options->private_key, SSL_FILETYPE_PEM) != 1)
		return fault_set_tls(fault, what);
	return 0;
}

int tls_context_new(const struct biomatch_options *options, struct fault *fault, SSL_CTX **out)
{
	static const unsigned char alpn[] = "\x02h2";
	SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
	int error;

	if (!tls)
		return fault_set_tls(fault, "cannot set up TLS");
	if (SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_alpn_protos(tls, alpn, sizeof(alpn) - 1) != 0) {
		error = fault_set_tls(fault, "cannot set up TLS");
		goto out;
	}
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	error = load_files(tls, options, fault);
out:
	if (error)
		SSL_CTX_free(tls);
	else
		*out = tls;
	return error;
}
