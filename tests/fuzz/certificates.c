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
#include <openssl/err.h>

#include "../../src/net/conn.h"
#include "../unit/net/certs.h"
#include "biomatch/audit.h"
#include "fuzz.h"

enum which { CERTIFICATE, PRIVATE_KEY, CLIENT_CA, CRL, AUDIT_KEY, PEER, WHICH };

static struct fuzz_file honest[CRL], hostile;
static struct test_ca ca;
static X509 *shown;
static SSL_CTX *server, *client;
static bool proven;

/* The peer's certificate is what the input says. */
X509 *SSL_get1_peer_certificate(const SSL *ssl)
{
	(void)ssl;
	if (shown)
		X509_up_ref(shown);
	return shown;
}

/*
 * To make a context, to read an honest file and to shake hands takes many times as
 * long as a hostile file. So there is one context for each end, the server's with an
 * empty store each time, one key and one certificate, and once hands were shaken with
 * them it is taken as done: neither end looks at the client CAs there.
 */
SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
	static SSL_CTX *(*make)(const SSL_METHOD *);
	SSL_CTX *tls = method == TLS_server_method() ? server : client;

	if (!make)
		make = (SSL_CTX * (*)(const SSL_METHOD *)) dlsym(RTLD_NEXT, __func__);
	if (!tls)
		return make(method);
	if (tls == server)
		SSL_CTX_set_cert_store(server, X509_STORE_new());
	SSL_CTX_up_ref(tls);
	return tls;
}

int SSL_is_init_finished(const SSL *ssl)
{
	static int (*finished)(const SSL *);

	if (!finished)
		finished = (int (*)(const SSL *))dlsym(RTLD_NEXT, __func__);
	return proven || finished(ssl);
}

int SSL_CTX_use_certificate_chain_file(SSL_CTX *tls, const char *file)
{
	static int (*use)(SSL_CTX *, const char *);

	if (!use)
		use = (int (*)(SSL_CTX *, const char *))dlsym(RTLD_NEXT, __func__);
	if (file == hostile.path)
		return use(tls, file);
	SSL_CTX_clear_chain_certs(tls);
	return SSL_CTX_use_certificate(tls, ca.certificate);
}

/*
 * A millisecond goes by until all the decoders stand ready that a key may need, before
 * the first byte is read. They are asked only where there is a block of PEM that holds
 * a whole sequence or is encrypted; of anything else they do not get beyond that.
 */
static bool may_hold_key(BIO *file)
{
	char *name, *header;
	uint8_t *data;
	bool may = false;
	long len;

	while (!may && !BIO_eof(file)) {
		const uint8_t *p;
		int tag, class;
		long n;

		if (!PEM_read_bio(file, &name, &header, &data, &len))
			continue;
		p = data;
		may = *header || (!(ASN1_get_object(&p, &n, &tag, &class, len) & 0x80) &&
				  tag == V_ASN1_SEQUENCE);
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(data);
	}
	return may;
}

int SSL_CTX_use_PrivateKey_file(SSL_CTX *tls, const char *path, int type)
{
	static int (*use)(SSL_CTX *, const char *, int);
	BIO *file;
	bool may;

	if (!use)
		use = (int (*)(SSL_CTX *, const char *, int))dlsym(RTLD_NEXT, __func__);
	if (path != hostile.path)
		return SSL_CTX_use_PrivateKey(tls, ca.key);
	file = BIO_new_file(path, "r");
	may = file && may_hold_key(file);
	BIO_free(file);
	return may ? use(tls, path, type) : 0;
}

EVP_PKEY *PEM_read_bio_PUBKEY(BIO *file, EVP_PKEY **key, pem_password_cb *password, void *ctx)
{
	static EVP_PKEY *(*get)(BIO *, EVP_PKEY **, pem_password_cb *, void *);

	if (!get)
		get = (EVP_PKEY * (*)(BIO *, EVP_PKEY **, pem_password_cb *, void *))
			dlsym(RTLD_NEXT, __func__);
	return may_hold_key(file) && BIO_reset(file) == 1 ? get(file, key, password, ctx) : NULL;
}

/* That the honest files are taken, by a handshake in earnest. */
static void prove(void)
{
	const struct net_options options = {
		.certificate = honest[CERTIFICATE].path,
		.private_key = honest[PRIVATE_KEY].path,
		.client_ca = honest[CLIENT_CA].path,
	};
	char message[256];
	SSL_CTX *tls;

	REQUIRE(!tls_context(&options, &tls, message));
	SSL_CTX_free(tls);
	proven = true;
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
	client = SSL_CTX_new(TLS_client_method());
	REQUIRE(server && client);
	prove();
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
	/* What stays in the queue would be taken for a leak, and looked for each time. */
	if (ERR_peek_error())
		ERR_clear_error();
	return 0;
}
