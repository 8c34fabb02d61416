/*
 * The document security object: EF.SOD of a chip, and the security object of its logical
 * data structure, which it signs (ICAO Doc 9303-10, 4.6.2).
 */
#ifndef PASSIVE_SOD_H
#define PASSIVE_SOD_H

#include <openssl/cms.h>

#include "biomatch/passive.h"

/* The CMS of an EF.SOD; NULL for anything that is not a whole one. */
CMS_ContentInfo *sod_parse(struct bytes sod);

/* A digest that a signature may rest on; NULL for any other. */
const EVP_MD *sod_digest(const X509_ALGOR *algorithm);

/* Whether the signed security object names this as the data group's digest. */
enum passive_finding sod_judge(struct bytes security_object, long group, struct bytes file);

#endif
