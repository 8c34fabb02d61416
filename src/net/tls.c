#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "biomatch/priority.h"
#include "conn.h"

static int fail(char message[256], const char *file, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	snprintf(message, 256, "%.120s: %s: %.80s", file, what, reason ? reason : "unknown reason");
	ERR_clear_error();
	return BM_ETLS;
}

/* HTTP/2 or nothing. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *len,
			   const unsigned char *in, unsigned int in_len, void *ctx)
{
	static const unsigned char h2[] = {2, 'h', '2'};

	(void)ssl;
	(void)ctx;
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, len, h2, sizeof(h2), in,
				     in_len) == OPENSSL_NPN_NEGOTIATED
		       ? SSL_TLSEXT_ERR_OK
		       : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/*
 * A CA's extensions are read when it is first used, and a failure then, for want
 * of memory too, is remembered: nobody would be let in any more. So they are read
 * while there is somebody to be told.
 */
static bool is_read(X509 *ca)
{
	uint32_t flags;

	if (X509_check_purpose(ca, -1, 0) != 1)
		return false;
	flags = X509_get_extension_flags(ca);
	/* Of a root whose own signature could not be looked at, no chain would end there. */
	return !(flags & EXFLAG_SI) || flags & EXFLAG_SS ||
	       X509_verify(ca, X509_get0_pubkey(ca)) != 1;
}

static int read_extensions(X509_STORE *store, const char *file, char message[256])
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (ca && !is_read(ca))
			return fail(message, file, "not usable as client CA");
	}
	return 0;
}

static int load_files(SSL_CTX *tls, const struct net_options *options, char message[256])
{
	STACK_OF(X509_NAME) * names;
	int error;

	if (SSL_CTX_use_certificate_chain_file(tls, options->certificate) != 1)
		return fail(message, options->certificate, "not a usable certificate");
	if (SSL_CTX_use_PrivateKey_file(tls, options->private_key, SSL_FILETYPE_PEM) != 1)
		return fail(message, options->private_key, "not a usable private key");
	if (SSL_CTX_check_private_key(tls) != 1)
		return fail(message, options->private_key, "does not fit the certificate");
	if (SSL_CTX_load_verify_locations(tls, options->client_ca, NULL) != 1)
		return fail(message, options->client_ca, "not usable as client CA");
	names = SSL_load_client_CA_file(options->client_ca);
	if (!names)
		return fail(message, options->client_ca, "not usable as client CA");
	SSL_CTX_set_client_CA_list(tls, names);
	error = read_extensions(SSL_CTX_get_cert_store(tls), options->client_ca, message);
	return error ? error : revocation_load(SSL_CTX_get_cert_store(tls), options, message);
}

static int offer_h2(SSL *client)
{
	static const unsigned char h2[] = {2, 'h', '2'};

	return SSL_set_alpn_protos(client, h2, sizeof(h2)); /* 0 for success */
}

/* Two ends in memory; what one sends the other receives. */
static bool shake_hands(SSL *server, SSL *client)
{
	BIO *ours = NULL, *theirs = NULL;
	int turns = 8; /* TLS 1.3 takes two each, three with a retry */

	if (BIO_new_bio_pair(&ours, 0, &theirs, 0) != 1)
		return false;
	SSL_set_bio(server, ours, ours);
	SSL_set_bio(client, theirs, theirs);
	SSL_set_accept_state(server);
	SSL_set_connect_state(client);
	SSL_set_verify(server, SSL_VERIFY_NONE, NULL);
	if (offer_h2(client))
		return false;
	while (turns-- && (!SSL_is_init_finished(client) || !SSL_is_init_finished(server))) {
		SSL_do_handshake(client);
		SSL_do_handshake(server);
	}
	return SSL_is_init_finished(client) && SSL_is_init_finished(server);
}

/*
 * A context made while memory is short may come out without its groups, ciphers or
 * signatures, and nobody is told. So it is taken only once it has shaken hands.
 */
static int prove(SSL_CTX *tls, const struct net_options *options, char message[256])
{
	SSL_CTX *other = SSL_CTX_new(TLS_client_method());
	SSL *server = SSL_new(tls), *client = other ? SSL_new(other) : NULL;
	int error = 0;

	if (!server || !client || !shake_hands(server, client))
		error = fail(message, options->certificate, "no handshake can be made with it");
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(other);
	ERR_clear_error();
	return error;
}

/*
 * Between two messages of a handshake who waits may have the processor. Afterwards the TLS
 * library changes keys by itself, as often as it is asked: a change is paid for as a frame is.
 */
static void message_seen(int is_write, int version, int type, const void *data, size_t len,
			 SSL *ssl, void *ctx)
{
	struct conn *conn = SSL_get_app_data(ssl);

	(void)version;
	(void)ctx;
	if (type != SSL3_RT_HANDSHAKE || !conn)
		return;
	if (!conn->session)
		priority_offer();
	else if (!is_write && len && *(const uint8_t *)data == SSL3_MT_KEY_UPDATE)
		(void)net_meter_take(&conn->meter, clock_monotonic_ns());
}

int tls_context(const struct net_options *options, SSL_CTX **out, char message[256])
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
	int error;

	if (!tls)
		return BM_ENOMEM;
	/* No tickets and no cache: a session never outlives what was checked for it. */
	SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
	/* Requests do not stay behind in the library's buffers. */
	SSL_CTX_set_options(tls, SSL_OP_CLEANSE_PLAINTEXT);
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);
	SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	/* Whatever is no data ends a read, so that no peer keeps one going. */
	SSL_CTX_clear_mode(tls, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_msg_callback(tls, message_seen);
	if (SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set1_groups_list(tls, "X25519:P-256:P-384") != 1 ||
	    SSL_CTX_set_num_tickets(tls, 0) != 1)
		error = fail(message, options->certificate, "TLS 1.3 is not to be had");
	else
		error = load_files(tls, options, message);
	if (!error)
		error = prove(tls, options, message);
	if (error) {
		SSL_CTX_free(tls);
		return error;
	}
	*out = tls;
	return 0;
}

int64_t tls_time_ms(const ASN1_TIME *time)
{
	struct tm tm;

	return ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) * 1000 : 0;
}

int64_t tls_client_ca_ends_ms(SSL_CTX *tls)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(tls));
	int64_t first = 0;

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		const X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
		int64_t ms = ca ? tls_time_ms(X509_get0_notAfter(ca)) : 0;

		if (ms && (!first || ms < first))
			first = ms;
	}
	return first;
}

static bool names_endpoint(const GENERAL_NAME *name)
{
	static const char scheme[] = "biomatch://";
	const size_t len = sizeof(scheme) - 1;

	return name->type == GEN_URI &&
	       (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier) > len &&
	       !memcmp(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier), scheme, len);
}

/* Nothing where there are two names, or one that could be read as another. */
static void copy_uri(const GENERAL_NAMES *names, struct net_peer *out)
{
	const ASN1_IA5STRING *uri = NULL;
	const unsigned char *text;
	int len;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (!names_endpoint(name))
			continue;
		if (uri)
			return;
		uri = name->d.uniformResourceIdentifier;
	}
	if (!uri)
		return;
	text = ASN1_STRING_get0_data(uri);
	len = ASN1_STRING_length(uri);
	if ((size_t)len >= sizeof(out->uri))
		return;
	for (int i = 0; i < len; i++) {
		if (text[i] <= ' ' || text[i] > '~')
			return;
	}
	memcpy(out->uri, text, (size_t)len);
}

static int copy_serial(const X509 *certificate, struct net_peer *out)
{
	BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
	char *hex = n ? BN_bn2hex(n) : NULL;

	int error = hex ? 0 : BM_ENOMEM;

	if (hex)
		snprintf(out->serial, sizeof(out->serial), "%s", hex);
	OPENSSL_free(hex);
	BN_free(n);
	return error;
}

int tls_peer(SSL *ssl, struct net_peer *out)
{
	X509 *certificate = SSL_get1_peer_certificate(ssl);
	GENERAL_NAMES *names;
	int found, error;

	*out = (struct net_peer){0};
	if (!certificate)
		return BM_ETLS;
	names = X509_get_ext_d2i(certificate, NID_subject_alt_name, &found, NULL);
	/* That it cannot be read is no reason to take it for one that names nobody. */
	error = names || found < 0 ? 0 : BM_ETLS;
	if (names) {
		copy_uri(names, out);
		GENERAL_NAMES_free(names);
	}
	if (!error)
		error = copy_serial(certificate, out);
	out->not_after_ms = tls_time_ms(X509_get0_notAfter(certificate));
	X509_free(certificate);
	return error;
}
