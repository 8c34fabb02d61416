/*
 * Files of keys, certificates and revocation lists, each hostile in its turn beside
 * honest ones, and the certificate that a peer shows. The first byte says which.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>

#include "../../src/net/conn.h"
#include "../unit/net/certs.h"
#include "biomatch/audit.h"
#include "fuzz.h"

enum which { CERTIFICATE, PRIVATE_KEY, CLIENT_CA, CRL, AUDIT_KEY, PEER, WHICH };

static struct fuzz_file honest[CRL], hostile;
static struct test_ca ca;
static X509 *shown;
static SSL_CTX *server;

/* The peer's certificate is what the input says. */
X509 *SSL_get1_peer_certificate(const SSL *ssl)
{
	(void)ssl;
	if (shown)
		X509_up_ref(shown);
	return shown;
}

/*
 * To make a server's context, and to read an honest key, takes many times as long as
 * a hostile file. So there is one context, with an empty store each time, and one key.
 */
SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
	static SSL_CTX *(*make)(const SSL_METHOD *);

	if (!make)
		make = (SSL_CTX * (*)(const SSL_METHOD *)) dlsym(RTLD_NEXT, "SSL_CTX_new");
	if (!server || method != TLS_server_method())
		return make(method);
	SSL_CTX_set_cert_store(server, X509_STORE_new());
	SSL_CTX_up_ref(server);
	return server;
}

int SSL_CTX_use_PrivateKey_file(SSL_CTX *tls, const char *file, int type)
{
	static int (*use)(SSL_CTX *, const char *, int);

	if (!use)
		use = (int (*)(SSL_CTX *, const char *, int))dlsym(RTLD_NEXT, __func__);
	return file == hostile.path ? use(tls, file, type) : SSL_CTX_use_PrivateKey(tls, ca.key);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	ca.key = EVP_EC_gen("P-256");
	ca.certificate = certs_sign(&ca, ca.key, "fuzz", 1, NULL);
	for (int i = 0; i < CRL; i++)
		fuzz_file_open(&honest[i]);
	fuzz_file_open(&hostile);
	certs_write(honest[CERTIFICATE].path, ca.certificate);
	certs_write(honest[CLIENT_CA].path, ca.certificate);
	server = SSL_CTX_new(TLS_server_method());
	REQUIRE(server);
	return 0;
}

/* A key, a certificate or a list of somebody else fits none of the honest files. */
static void require_refused(int error, const char *message)
{
	REQUIRE(error == BM_ETLS && !strncmp(message, "/proc/self/fd/", 14));
}

static void load(enum which which)
{
	const struct net_options options = {
		.certificate = which == CERTIFICATE ? hostile.path : honest[CERTIFICATE].path,
		.private_key = which == PRIVATE_KEY ? hostile.path : honest[PRIVATE_KEY].path,
		.client_ca = which == CLIENT_CA ? hostile.path : honest[CLIENT_CA].path,
	};
	char message[256] = "";
	SSL_CTX *tls;
	int error = tls_context(&options, &tls, message);

	if (error) {
		require_refused(error, message);
		return;
	}
	REQUIRE(which == CLIENT_CA);
	(void)tls_client_ca_ends_ms(tls);
	(void)revocation_ends_ms(SSL_CTX_get_cert_store(tls));
	SSL_CTX_free(tls);
}

static void load_lists(void)
{
	const struct net_options options = {.crl = hostile.path};
	X509_STORE *store = X509_STORE_new();
	char message[256] = "";

	REQUIRE(store && X509_STORE_add_cert(store, ca.certificate) == 1);
	require_refused(revocation_load(store, &options, message), message);
	X509_STORE_free(store);
}

static void show(const uint8_t *data, size_t size)
{
	struct net_peer peer;
	int error;

	shown = d2i_X509(NULL, &data, (long)size);
	error = tls_peer(NULL, &peer);
	REQUIRE(shown ? error <= 0 : error == BM_ETLS);
	REQUIRE(!*peer.uri || !strncmp(peer.uri, "biomatch://", 11));
	for (const char *p = peer.uri; *p; p++)
		REQUIRE(*p > ' ' && *p <= '~');
	REQUIRE(strlen(peer.serial) < sizeof(peer.serial));
	X509_free(shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t key[AUDIT_KEY_LEN];
	enum which which;

	if (!size)
		return 0;
	which = *data % WHICH;
	fuzz_file_set(&hostile, data + 1, size - 1);
	if (which == PEER)
		show(data + 1, size - 1);
	else if (which == AUDIT_KEY)
		REQUIRE(audit_read_key(hostile.path, key) <= 0);
	else if (which == CRL)
		load_lists();
	else
		load(which);
	return 0;
}
