/* cert ca, server, endpoint, key, audit: what a test or a small deployment needs. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/file.h"
#include "cli.h"

#define PATH_MAX_LEN 4096
#define CERT_MAX     ((size_t)64 << 10)
#define SERIAL_LEN   16
/* Clocks of endpoints differ. */
#define BACKDATE_S (-300)
#define URI_PREFIX "biomatch://"

static int fail_openssl(const struct cli *cli, const char *what)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	char message[256];

	snprintf(message, sizeof(message), "cannot %s: %s", what, why ? why : "OpenSSL failed");
	ERR_clear_error();
	return cli_fail(cli, EXIT_LOCAL, &(struct failure){.message = message});
}

static EVP_PKEY *make_key(bool ed25519)
{
	return ed25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_EC_gen("P-256");
}

static bool set_random_serial(X509 *cert)
{
	uint8_t serial[SERIAL_LEN];
	BIGNUM *number;
	bool done;

	if (getrandom(serial, sizeof(serial), 0) != (ssize_t)sizeof(serial))
		return false;
	serial[0] &= 0x7f;
	number = BN_bin2bn(serial, sizeof(serial), NULL);
	done = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
	BN_free(number);
	return done;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX context;
	bool done;

	X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	done = extension && X509_add_ext(cert, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return done;
}

/* What a certificate is for. */
struct purpose {
	const char *constraints, *usage, *extended; /* extended: NULL for a CA */
};

static const struct purpose ca_purpose = {"critical,CA:TRUE,pathlen:0",
					  "critical,keyCertSign,cRLSign", NULL};
static const struct purpose server_purpose = {"critical,CA:FALSE", "critical,digitalSignature",
					      "serverAuth"};
static const struct purpose endpoint_purpose = {"critical,CA:FALSE", "critical,digitalSignature",
						"clientAuth"};

static bool add_extensions(X509 *cert, X509 *issuer, const struct purpose *purpose)
{
	return add_extension(cert, issuer, NID_basic_constraints, purpose->constraints) &&
	       add_extension(cert, issuer, NID_key_usage, purpose->usage) &&
	       add_extension(cert, issuer, NID_subject_key_identifier, "hash") &&
	       add_extension(cert, issuer, NID_authority_key_identifier, "keyid:always") &&
	       (!purpose->extended ||
		add_extension(cert, issuer, NID_ext_key_usage, purpose->extended));
}

/* Adds a name of this type; text is taken as it is, never as OpenSSL's configuration. */
static bool add_name(GENERAL_NAMES *names, int type, const char *text)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *value = NULL;

	if (!name)
		return false;
	if (type == GEN_IPADD) {
		value = a2i_IPADDRESS(text);
	} else {
		value = ASN1_IA5STRING_new();
		if (value && ASN1_STRING_set(value, text, -1) != 1) {
			ASN1_STRING_free(value);
			value = NULL;
		}
	}
	if (value)
		GENERAL_NAME_set0_value(name, type, value);
	if (!value || !sk_GENERAL_NAME_push(names, name)) {
		GENERAL_NAME_free(name);
		return false;
	}
	return true;
}

static int name_type(const char *text)
{
	ASN1_OCTET_STRING *address = a2i_IPADDRESS(text);
	int type = address ? GEN_IPADD : GEN_DNS;

	if (!strncmp(text, URI_PREFIX, strlen(URI_PREFIX)))
		type = GEN_URI;
	ASN1_OCTET_STRING_free(address);
	ERR_clear_error();
	return type;
}

static bool add_names(X509 *cert, char *const *texts, size_t n)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	bool done = names != NULL;

	for (size_t i = 0; done && i < n; i++)
		done = add_name(names, name_type(texts[i]), texts[i]);
	done = done && X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0) == 1;
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	return done;
}

/* A CA's certificate and key; for a new CA itself, both are the new ones. */
struct issuer {
	X509 *cert;
	EVP_PKEY *key;
};

struct request {
	const struct purpose *purpose;
	const char *common_name;
	char *const *names;
	size_t n_names;
	unsigned days;
};

static bool fill_in(X509 *cert, EVP_PKEY *key, const struct issuer *by, const struct request *r)
{
	X509_NAME *subject = X509_get_subject_name(cert);

	return X509_set_version(cert, X509_VERSION_3) == 1 && set_random_serial(cert) &&
	       X509_gmtime_adj(X509_getm_notBefore(cert), BACKDATE_S) &&
	       X509_time_adj_ex(X509_getm_notAfter(cert), (int)r->days, 0, NULL) &&
	       X509_set_pubkey(cert, key) == 1 &&
	       X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
					  (const unsigned char *)r->common_name, -1, -1, 0) == 1 &&
	       X509_set_issuer_name(cert, X509_get_subject_name(by->cert)) == 1 &&
	       add_extensions(cert, by->cert, r->purpose) &&
	       (!r->n_names || add_names(cert, r->names, r->n_names));
}

/* A signed certificate; by is NULL for one that signs itself. */
static X509 *make_cert(EVP_PKEY *key, const struct issuer *by, const struct request *r)
{
	X509 *cert = X509_new();
	struct issuer self = {cert, key};
	const struct issuer *issuer = by ? by : &self;
	/* Ed25519 hashes by itself. */
	const EVP_MD *digest = EVP_PKEY_is_a(issuer->key, "ED25519") ? NULL : EVP_sha256();

	if (cert && fill_in(cert, key, issuer, r) && X509_sign(cert, issuer->key, digest) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

/* Writes what a memory BIO holds to a new file. */
static int write_bio(const char *path, BIO *bio, unsigned mode)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);

	return file_write_new(path, data, (size_t)len, mode);
}

/* Both files or none: neither is of use alone. */
static int write_files(const struct cli *cli, const char *base, BIO *cert, BIO *key)
{
	char cert_path[PATH_MAX_LEN], key_path[PATH_MAX_LEN];
	int error;

	if (snprintf(cert_path, sizeof(cert_path), "%s.pem", base) >= PATH_MAX_LEN ||
	    snprintf(key_path, sizeof(key_path), "%s.key", base) >= PATH_MAX_LEN) {
		errno = ENAMETOOLONG;
		return cli_fail_file(cli, "write OUT.key", BM_EIO);
	}
	error = write_bio(key_path, key, 0600);
	if (error)
		return cli_fail_file(cli, "write OUT.key", error);
	error = write_bio(cert_path, cert, 0644);
	if (!error)
		return EXIT_DONE;
	error = cli_fail_file(cli, "write OUT.pem", error);
	unlink(key_path);
	return error;
}

static int write_pair(const struct cli *cli, const char *base, X509 *cert, EVP_PKEY *key)
{
	BIO *key_bio = BIO_new(BIO_s_secmem()), *cert_bio = BIO_new(BIO_s_mem());
	int result;

	if (key_bio && cert_bio &&
	    PEM_write_bio_PKCS8PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL) == 1 &&
	    PEM_write_bio_X509(cert_bio, cert) == 1)
		result = write_files(cli, base, cert_bio, key_bio);
	else
		result = fail_openssl(cli, "encode the certificate");
	BIO_free(key_bio);
	BIO_free(cert_bio);
	return result;
}

static int tell(const struct cli *cli, const char *base)
{
	if (cli->options.json)
		printf("{\n  \"written\": 2\n}\n");
	else
		printf("wrote %s.pem and %s.key\n", base, base);
	return EXIT_DONE;
}

static int make_pair(const struct cli *cli, const char *base, const struct issuer *by,
		     const struct request *request)
{
	EVP_PKEY *key = make_key(cli->options.ed25519);
	X509 *cert = key ? make_cert(key, by, request) : NULL;
	int result =
		cert ? write_pair(cli, base, cert, key) : fail_openssl(cli, "make the certificate");

	X509_free(cert);
	EVP_PKEY_free(key);
	return result ? result : tell(cli, base);
}

/* Reads base + suffix into a memory BIO, which takes a copy. */
static BIO *read_bio(const char *base, const char *suffix)
{
	char path[PATH_MAX_LEN];
	uint8_t *data = NULL;
	size_t len = 0;
	BIO *bio = NULL;

	if (snprintf(path, sizeof(path), "%s%s", base, suffix) >= (int)sizeof(path) ||
	    file_read(path, CERT_MAX, &data, &len))
		return NULL;
	bio = BIO_new(BIO_s_secmem());
	if (bio && BIO_write(bio, data, (int)len) != (int)len) {
		BIO_free(bio);
		bio = NULL;
	}
	bytes_wipe(data, len);
	free(data);
	return bio;
}

static int open_issuer(const struct cli *cli, const char *base, struct issuer *out)
{
	BIO *cert = read_bio(base, ".pem"), *key = read_bio(base, ".key");
	int result = EXIT_DONE;

	*out = (struct issuer){NULL, NULL};
	if (!cert || !key) {
		result = cli_fail_file(cli, "read CA.pem and CA.key", BM_EIO);
		goto out;
	}
	out->cert = PEM_read_bio_X509(cert, NULL, NULL, NULL);
	out->key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
	if (!out->cert || !out->key || X509_check_private_key(out->cert, out->key) != 1)
		result = fail_openssl(cli, "use the CA");
	else if (X509_check_ca(out->cert) != 1)
		result = cli_fail(cli, EXIT_LOCAL,
				  &(struct failure){.message = "CA.pem is no CA's certificate; "
							       "make one with 'cert ca'"});
out:
	BIO_free(cert);
	BIO_free(key);
	return result;
}

static void close_issuer(struct issuer *issuer)
{
	X509_free(issuer->cert);
	EVP_PKEY_free(issuer->key);
}

/* The arguments are CA OUT NAME... */
static int make_signed(const struct cli *cli, const struct purpose *purpose)
{
	const struct options *o = &cli->options;
	const struct request request = {
		.purpose = purpose,
		.common_name = "biomatch",
		.names = o->args + 2,
		.n_names = o->n_args - 2,
		.days = o->days,
	};
	struct issuer issuer;
	int result = open_issuer(cli, o->args[0], &issuer);

	if (!result)
		result = make_pair(cli, o->args[1], &issuer, &request);
	close_issuer(&issuer);
	return result;
}

int run_cert_ca(struct cli *cli)
{
	const struct request request = {
		.purpose = &ca_purpose, .common_name = "biomatch CA", .days = cli->options.days};

	return make_pair(cli, cli->options.args[0], NULL, &request);
}

static bool dns_name_valid(const char *s)
{
	size_t len = strlen(s);

	return len && len < 254 &&
	       !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.*")];
}

int run_cert_server(struct cli *cli)
{
	const struct options *o = &cli->options;

	for (size_t i = 2; i < o->n_args; i++) {
		if (name_type(o->args[i]) != GEN_IPADD && !dns_name_valid(o->args[i]))
			return cli_fail(
				cli, EXIT_USAGE,
				&(struct failure){.message = "NAME is neither a DNS name nor an "
							     "IP address"});
	}
	return make_signed(cli, &server_purpose);
}

/* Four parts of letters, digits, '-', '_' and '.', as the service reads them. */
static bool endpoint_uri_valid(const char *uri)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";
	static const size_t longest[] = {63, 63, 63, 31};
	const char *p = uri + strlen(URI_PREFIX);

	if (strncmp(uri, URI_PREFIX, strlen(URI_PREFIX)))
		return false;
	for (int part = 0; part < 4; part++) {
		size_t len = strspn(p, allowed);

		if (!len || len > longest[part] || p[len] != (part < 3 ? '/' : '\0'))
			return false;
		p += len + 1;
	}
	return true;
}

int run_cert_endpoint(struct cli *cli)
{
	if (!endpoint_uri_valid(cli->options.args[2]))
		return cli_fail(cli, EXIT_USAGE,
				&(struct failure){.message = "URI is not biomatch://DEPLOYMENT/"
							     "SITE/CLASS/NUMBER"});
	return make_signed(cli, &endpoint_purpose);
}

int run_cert_key(struct cli *cli)
{
	uint8_t key[32];
	int error = BM_EIO;

	if (getrandom(key, sizeof(key), 0) == (ssize_t)sizeof(key))
		error = file_write_new(cli->options.args[0], key, sizeof(key), 0600);
	bytes_wipe(key, sizeof(key));
	if (error)
		return cli_fail_file(cli, "write the store key", error);
	if (cli->options.json)
		printf("{\n  \"written\": 1\n}\n");
	else
		printf("wrote %s; keep a copy in a safe place\n", cli->options.args[0]);
	return EXIT_DONE;
}

/* Writes a seed's public half to a BIO as PEM; false where OpenSSL fails. */
static bool write_public(BIO *out, const uint8_t *seed, size_t len)
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, len);
	bool done = key && PEM_write_bio_PUBKEY(out, key) == 1;

	EVP_PKEY_free(key);
	return done;
}

int run_cert_audit(struct cli *cli)
{
	BIO *secret = BIO_new(BIO_s_secmem()), *public = BIO_new(BIO_s_mem());
	const char *base = cli->options.args[0];
	uint8_t seed[32];
	int result;

	if (secret && public && getrandom(seed, sizeof(seed), 0) == (ssize_t)sizeof(seed) &&
	    BIO_write(secret, seed, sizeof(seed)) == (int)sizeof(seed) &&
	    write_public(public, seed, sizeof(seed)))
		result = write_files(cli, base, public, secret);
	else
		result = fail_openssl(cli, "make the key");
	bytes_wipe(seed, sizeof(seed));
	BIO_free(secret);
	BIO_free(public);
	return result ? result : tell(cli, base);
}
