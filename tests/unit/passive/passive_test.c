/* Passive authentication: what is signed as it should be, and every kind of forgery. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "biomatch/passive.h"
#include "sod.h"

#define DAY 86400L

static const char picture[] = "what stands for a data group with a picture in it";

struct country {
	char dir[64], csca_path[96], crl_path[96];
	struct sod_authority csca, signer;
	struct passive_trust *trust;
};

static struct bytes dg2(void)
{
	return (struct bytes){(const uint8_t *)picture, sizeof(picture)};
}

static void write_pem(const char *path, X509 *certificate, X509_CRL *crl)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	if (certificate)
		assert_int_equal(PEM_write_X509(file, certificate), 1);
	if (crl)
		assert_int_equal(PEM_write_X509_CRL(file, crl), 1);
	assert_int_equal(fclose(file), 0);
}

static void trust(struct country *c, const char *crl)
{
	char message[PASSIVE_MESSAGE_LEN] = "";

	passive_close(c->trust);
	c->trust = NULL;
	assert_int_equal(passive_open(c->csca_path, crl, &c->trust, message), 0);
}

static void make_signer(struct country *c, enum sod_kind kind, struct sod_authority *out)
{
	sod_make(&(struct sod_wanted){.kind = kind,
				      .name = "signer",
				      .issuer = &c->csca,
				      .from_s = -DAY,
				      .to_s = DAY},
		 out);
}

static void found(struct country *c, enum sod_kind kind)
{
	snprintf(c->dir, sizeof(c->dir), "/tmp/biomatch-passive-XXXXXX");
	assert_non_null(mkdtemp(c->dir));
	snprintf(c->csca_path, sizeof(c->csca_path), "%s/csca.pem", c->dir);
	snprintf(c->crl_path, sizeof(c->crl_path), "%s/crl.pem", c->dir);
	sod_make(
		&(struct sod_wanted){
			.kind = kind, .name = "csca", .from_s = -10 * DAY, .to_s = 10 * DAY},
		&c->csca);
	write_pem(c->csca_path, c->csca.certificate, NULL);
	make_signer(c, kind, &c->signer);
	trust(c, NULL);
}

static void dissolve(struct country *c)
{
	passive_close(c->trust);
	sod_free(&c->signer);
	sod_free(&c->csca);
	unlink(c->csca_path);
	unlink(c->crl_path);
	assert_int_equal(rmdir(c->dir), 0);
	free(c);
}

static int setup(void **state)
{
	struct country *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	found(c, SOD_EC_NAMED);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	dissolve(*state);
	return 0;
}

static struct passive_verdict check_at(const struct country *c, struct bytes sod,
				       struct bytes group, long later_s)
{
	struct passive_verdict verdict;

	assert_int_equal(passive_check(c->trust, sod, group, ((int64_t)time(NULL) + later_s) * 1000,
				       &verdict),
			 0);
	return verdict;
}

static void expect(const struct country *c, const struct sod_signing *how, long later_s,
		   enum passive_finding finding)
{
	struct bytes sod = sod_sign(how, dg2());

	assert_int_equal(check_at(c, sod, dg2(), later_s).finding, finding);
	free((void *)(uintptr_t)sod.data);
}

static void test_what_is_signed_is_authentic(void **state)
{
	static const enum sod_kind kinds[] = {SOD_RSA, SOD_PSS, SOD_EC_NAMED, SOD_EC_EXPLICIT};
	const EVP_MD *digests[] = {EVP_sha224(), EVP_sha256(), EVP_sha384(), EVP_sha512()};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct country *c = calloc(1, sizeof(*c));

		assert_non_null(c);
		found(c, kinds[i]);
		for (size_t d = 0; d < 4; d++) {
			const struct sod_signing how = {.signer = &c->signer,
							.kind = kinds[i],
							.md = digests[d],
							.group_md = digests[3 - d]};
			struct bytes sod = sod_sign(&how, dg2());
			struct passive_verdict verdict = check_at(c, sod, dg2(), 0);

			assert_int_equal(verdict.finding, PASSIVE_AUTHENTIC);
			assert_string_equal(verdict.country, "UT");
			free((void *)(uintptr_t)sod.data);
		}
		dissolve(c);
	}
}

static void test_every_byte_counts(void **state)
{
	struct country *c = *state;
	struct bytes sod = sod_sign(&(struct sod_signing){.signer = &c->signer}, dg2());
	uint8_t *copy = malloc(sod.len), changed[sizeof(picture)];
	size_t refused = 0;

	assert_non_null(copy);
	/* The picture was altered, cut, or is another's. */
	for (size_t i = 0; i < sizeof(picture); i++) {
		memcpy(changed, picture, sizeof(picture));
		changed[i] ^= 1;
		assert_int_equal(
			check_at(c, sod, (struct bytes){changed, sizeof(changed)}, 0).finding,
			PASSIVE_DIGEST);
		assert_int_equal(check_at(c, sod, (struct bytes){changed, i}, 0).finding,
				 PASSIVE_DIGEST);
	}
	/* The security object: a bit of it is changed, or it ends early. */
	for (size_t i = 0; i < sod.len; i++) {
		memcpy(copy, sod.data, sod.len);
		copy[i] ^= 1;
		refused += check_at(c, (struct bytes){copy, sod.len}, dg2(), 0).finding !=
			   PASSIVE_AUTHENTIC;
		assert_int_not_equal(check_at(c, (struct bytes){sod.data, i}, dg2(), 0).finding,
				     PASSIVE_AUTHENTIC);
	}
	/* A few bytes are no part of what is signed: versions, the list of digests used. */
	assert_in_range(refused, sod.len - 12, sod.len);
	free(copy);
	free((void *)(uintptr_t)sod.data);
}

static void test_bytes_behind_the_end(void **state)
{
	struct country *c = *state;
	struct bytes sod = sod_sign(&(struct sod_signing){.signer = &c->signer}, dg2());
	uint8_t *longer = calloc(1, PASSIVE_MAX_SOD + 1);

	assert_non_null(longer);
	memcpy(longer, sod.data, sod.len);
	assert_int_equal(check_at(c, (struct bytes){longer, sod.len + 1}, dg2(), 0).finding,
			 PASSIVE_MALFORMED);
	assert_int_equal(check_at(c, (struct bytes){longer, PASSIVE_MAX_SOD + 1}, dg2(), 0).finding,
			 PASSIVE_MALFORMED);
	assert_int_equal(check_at(c, (struct bytes){0}, dg2(), 0).finding, PASSIVE_MALFORMED);
	free(longer);
	free((void *)(uintptr_t)sod.data);
}

static void test_signers(void **state)
{
	struct country *c = *state;
	struct sod_authority other, signer;

	/* A country of the same name that nobody trusts. */
	sod_make(
		&(struct sod_wanted){
			.kind = SOD_EC_NAMED, .name = "csca", .from_s = -DAY, .to_s = DAY},
		&other);
	sod_make(&(struct sod_wanted){.kind = SOD_EC_NAMED,
				      .name = "signer",
				      .issuer = &other,
				      .from_s = -DAY,
				      .to_s = DAY},
		 &signer);
	expect(c, &(struct sod_signing){.signer = &signer}, 0, PASSIVE_SIGNER_UNKNOWN);
	sod_free(&signer);
	sod_free(&other);
	/* Certificates of this country that are not for signing documents. */
	const struct sod_wanted wrong[] = {
		{.kind = SOD_EC_NAMED, .name = "list", .extended_usage = "2.23.136.1.1.3"},
		{.kind = SOD_EC_NAMED, .name = "agreement", .usage = "critical,keyAgreement"},
	};
	for (size_t i = 0; i < 2; i++) {
		struct sod_wanted wanted = wrong[i];

		wanted.issuer = &c->csca;
		wanted.from_s = -DAY;
		wanted.to_s = DAY;
		sod_make(&wanted, &signer);
		expect(c, &(struct sod_signing){.signer = &signer}, 0, PASSIVE_SIGNER_UNKNOWN);
		sod_free(&signer);
	}
	expect(c, &(struct sod_signing){.signer = &c->csca}, 0, PASSIVE_SIGNER_UNKNOWN);
	/* The signature is by another key than the certificate's. */
	make_signer(c, SOD_EC_NAMED, &signer);
	other = (struct sod_authority){.key = c->signer.key, .certificate = c->signer.certificate};
	EVP_PKEY_free(signer.key);
	signer.key = EVP_EC_gen("prime256v1");
	X509_set_pubkey(signer.certificate, signer.key);
	X509_sign(signer.certificate, c->csca.key, EVP_sha256());
	expect(c, &(struct sod_signing){.signer = &signer}, 0, PASSIVE_AUTHENTIC);
	sod_free(&signer);
	expect(c, &(struct sod_signing){.signer = &other, .without_certificate = true}, 0,
	       PASSIVE_MALFORMED);
	expect(c, &(struct sod_signing){.signer = &other, .type = "1.2.840.113549.1.7.1"}, 0,
	       PASSIVE_MALFORMED);
}

static void test_signature_of_another(void **state)
{
	struct country *c = *state;
	const char other_picture[] = "another's data group";
	struct bytes other = {(const uint8_t *)other_picture, sizeof(other_picture)};
	struct bytes sod = sod_sign(&(struct sod_signing){.signer = &c->signer}, dg2());
	struct bytes others = sod_sign(&(struct sod_signing){.signer = &c->signer}, other);
	uint8_t digest[32], *at, *copy = malloc(sod.len), others_digest[32];

	assert_non_null(copy);
	/* Swapped data groups, each signed by the same signer. */
	assert_int_equal(check_at(c, sod, other, 0).finding, PASSIVE_DIGEST);
	assert_int_equal(check_at(c, others, dg2(), 0).finding, PASSIVE_DIGEST);
	/* The other's digest put where this one's was. */
	assert_int_equal(EVP_Digest(picture, sizeof(picture), digest, NULL, EVP_sha256(), NULL), 1);
	assert_int_equal(EVP_Digest(other.data, other.len, others_digest, NULL, EVP_sha256(), NULL),
			 1);
	memcpy(copy, sod.data, sod.len);
	at = memmem(copy, sod.len, digest, sizeof(digest));
	assert_non_null(at);
	memcpy(at, others_digest, sizeof(digest));
	assert_int_equal(check_at(c, (struct bytes){copy, sod.len}, other, 0).finding,
			 PASSIVE_SIGNATURE);
	free(copy);
	free((void *)(uintptr_t)sod.data);
	free((void *)(uintptr_t)others.data);
}

static void test_times(void **state)
{
	struct country *c = *state;
	const struct sod_signing how = {.signer = &c->signer};

	expect(c, &how, DAY / 2, PASSIVE_AUTHENTIC);
	expect(c, &how, 2 * DAY, PASSIVE_SIGNER_EXPIRED);
	expect(c, &how, -2 * DAY, PASSIVE_SIGNER_EXPIRED);
	expect(c, &how, 20 * DAY, PASSIVE_SIGNER_EXPIRED);
}

static void test_weak_algorithms(void **state)
{
	struct country *c = *state;
	struct sod_authority weak;

	expect(c, &(struct sod_signing){.signer = &c->signer, .md = EVP_sha1()}, 0,
	       PASSIVE_ALGORITHM);
	expect(c, &(struct sod_signing){.signer = &c->signer, .group_md = EVP_sha1()}, 0,
	       PASSIVE_ALGORITHM);
	sod_make(&(struct sod_wanted){.kind = SOD_EC_NAMED,
				      .name = "weak",
				      .issuer = &c->csca,
				      .from_s = -DAY,
				      .to_s = DAY,
				      .md = EVP_sha1()},
		 &weak);
	expect(c, &(struct sod_signing){.signer = &weak}, 0, PASSIVE_ALGORITHM);
	sod_free(&weak);
}

static void test_revocation(void **state)
{
	struct country *c = *state;
	const struct sod_signing how = {.signer = &c->signer};
	struct sod_authority other;
	const struct {
		const struct sod_authority *by;
		const X509 *whom;
		long from_s, to_s;
		enum passive_finding finding;
	} cases[] = {
		{&c->csca, NULL, -DAY, DAY, PASSIVE_AUTHENTIC},
		{&c->csca, c->signer.certificate, -DAY, DAY, PASSIVE_SIGNER_REVOKED},
		{&c->csca, c->csca.certificate, -DAY, DAY, PASSIVE_AUTHENTIC},
		{&c->csca, NULL, -2 * DAY, -DAY, PASSIVE_REVOCATION_UNKNOWN},
		{&other, NULL, -DAY, DAY, PASSIVE_REVOCATION_UNKNOWN},
	};

	sod_make(
		&(struct sod_wanted){
			.kind = SOD_EC_NAMED, .name = "other", .from_s = -DAY, .to_s = DAY},
		&other);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		X509_CRL *crl =
			sod_revoke(cases[i].by, cases[i].whom, cases[i].from_s, cases[i].to_s);

		write_pem(c->crl_path, NULL, crl);
		trust(c, c->crl_path);
		expect(c, &how, 0, cases[i].finding);
		X509_CRL_free(crl);
	}
	sod_free(&other);
}

static void test_files(void **state)
{
	struct country *c = *state;
	char message[PASSIVE_MESSAGE_LEN] = "";
	struct passive_trust *t = NULL;

	assert_int_equal(passive_open("/nowhere.pem", NULL, &t, message), BM_ECONF);
	assert_non_null(strstr(message, "/nowhere.pem: holds no CSCA"));
	assert_int_equal(passive_open(c->csca_path, c->csca_path, &t, message), BM_ECONF);
	assert_non_null(strstr(message, "no revocation list"));
	write_pem(c->crl_path, NULL, NULL);
	assert_int_equal(passive_open(c->crl_path, NULL, &t, message), BM_ECONF);
	assert_null(t);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_signed_is_authentic),
		TEST(test_every_byte_counts),
		TEST(test_bytes_behind_the_end),
		TEST(test_signers),
		TEST(test_signature_of_another),
		TEST(test_times),
		TEST(test_weak_algorithms),
		TEST(test_revocation),
		TEST(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
