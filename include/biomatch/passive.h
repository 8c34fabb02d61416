/*
 * Passive authentication (ICAO Doc 9303-11, 5.1): whether the issuing state signed
 * what a passport chip holds. The document security object (EF.SOD) is a CMS
 * signature over digests of the chip's files, by a document signer whose
 * certificate a country signing CA (CSCA) issued. The CSCAs that are trusted, and
 * their revocation lists, are files of the operator.
 *
 * Signatures and chains are OpenSSL's: RSA, RSA-PSS and ECDSA on named or explicit
 * curves, with digests from SHA-224 up and keys of 80 bits of strength or more.
 *
 * Thread: a trust is immutable once open; any thread.
 * Errors: BM_ECONF with the file and the reason in the message; BM_ENOMEM.
 */
#ifndef BIOMATCH_PASSIVE_H
#define BIOMATCH_PASSIVE_H

#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

/* A longer EF.SOD is refused: with its certificate one has two to four thousand bytes. */
#define PASSIVE_MAX_SOD 65536u

#define PASSIVE_MESSAGE_LEN 512

struct passive_trust;

/* Why a document is not authentic, in the order in which it is found. */
enum passive_finding {
	PASSIVE_AUTHENTIC,
	PASSIVE_MALFORMED,          /* no whole EF.SOD of one signer with its certificate */
	PASSIVE_ALGORITHM,          /* a digest or a key that is too weak, or not known */
	PASSIVE_SIGNER_UNKNOWN,     /* no document signer of a CSCA that is trusted */
	PASSIVE_SIGNER_EXPIRED,     /* its certificate, or its CSCA's, is not valid now */
	PASSIVE_SIGNER_REVOKED,     /* by its CSCA's list */
	PASSIVE_REVOCATION_UNKNOWN, /* there are lists, but none of its CSCA that holds now */
	PASSIVE_SIGNATURE,          /* the signature is not the signer's */
	PASSIVE_DIGEST,             /* the data group is not the one that was signed */
};

struct passive_verdict {
	enum passive_finding finding;
	char country[3]; /* of the CSCA, as its certificate says; "" where it is not known */
};

/*
 * Reads PEM files with CSCA certificates, link certificates among them, and with their
 * revocation lists; crl is NULL where revocation is not checked. A file without any is refused.
 */
int passive_open(const char *csca, const char *crl, struct passive_trust **out,
		 char message[PASSIVE_MESSAGE_LEN]) BM_MUST_CHECK;
/* One more holder; every holder closes it. */
struct passive_trust *passive_ref(struct passive_trust *trust);
void passive_close(struct passive_trust *trust);

/* Judges whole files of a chip, EF.SOD and EF.DG2, at this time. */
int passive_check(const struct passive_trust *trust, struct bytes sod, struct bytes dg2,
		  int64_t now_ms, struct passive_verdict *out) BM_MUST_CHECK;

#endif
