#include "sod.h"

#include <limits.h>
#include <openssl/asn1t.h>
#include <openssl/crypto.h>
#include <string.h>

/* EF.SOD is wrapped in [APPLICATION 23]. */
#define SOD_TAG 23

/* DataGroupHash and LDSSecurityObject, as Doc 9303-10 defines them. */
typedef struct {
	ASN1_INTEGER *number;
	ASN1_OCTET_STRING *value;
} group_hash;

typedef struct {
	ASN1_INTEGER *version;
	X509_ALGOR *algorithm;
	STACK_OF(group_hash) * hashes;
	ASN1_TYPE *versions; /* since version 1 */
} security_object;

DEFINE_STACK_OF(group_hash)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
ASN1_SEQUENCE(group_hash) =
	{
		ASN1_SIMPLE(group_hash, number, ASN1_INTEGER),
		ASN1_SIMPLE(group_hash, value, ASN1_OCTET_STRING),
} static_ASN1_SEQUENCE_END(group_hash)

		ASN1_SEQUENCE(security_object) =
			{
				ASN1_SIMPLE(security_object, version, ASN1_INTEGER),
				ASN1_SIMPLE(security_object, algorithm, X509_ALGOR),
				ASN1_SEQUENCE_OF(security_object, hashes, group_hash),
				ASN1_OPT(security_object, versions, ASN1_ANY),
} static_ASN1_SEQUENCE_END(security_object)
#pragma GCC diagnostic pop

				CMS_ContentInfo
			* sod_parse(struct bytes sod)
{
	const unsigned char *at = sod.data;
	CMS_ContentInfo *cms;
	int tag, class, form;
	long len;

	if (!sod.len || sod.len > PASSIVE_MAX_SOD)
		return NULL;
	form = ASN1_get_object(&at, &len, &tag, &class, (long)sod.len);
	if (form != V_ASN1_CONSTRUCTED || tag != SOD_TAG || class != V_ASN1_APPLICATION ||
	    at + len != sod.data + sod.len)
		return NULL;
	cms = d2i_CMS_ContentInfo(NULL, &at, len);
	if (cms && at == sod.data + sod.len)
		return cms;
	CMS_ContentInfo_free(cms);
	return NULL;
}

const EVP_MD *sod_digest(const X509_ALGOR *algorithm)
{
	static const int strong[] = {NID_sha224, NID_sha256, NID_sha384, NID_sha512};
	const ASN1_OBJECT *object;
	int nid;

	X509_ALGOR_get0(&object, NULL, NULL, algorithm);
	nid = OBJ_obj2nid(object);
	for (size_t i = 0; i < sizeof(strong) / sizeof(strong[0]); i++) {
		if (nid == strong[i])
			return EVP_get_digestbynid(nid);
	}
	return NULL;
}

/* The only hash of a group; NULL where there is none, or a second. */
static const ASN1_OCTET_STRING *find_hash(const security_object *object, long group)
{
	const ASN1_OCTET_STRING *found = NULL;

	for (int i = 0; i < sk_group_hash_num(object->hashes); i++) {
		const group_hash *hash = sk_group_hash_value(object->hashes, i);

		if (ASN1_INTEGER_get(hash->number) != group)
			continue;
		if (found)
			return NULL;
		found = hash->value;
	}
	return found;
}

static enum passive_finding judge(const security_object *object, long group, struct bytes file)
{
	const EVP_MD *md = sod_digest(object->algorithm);
	const ASN1_OCTET_STRING *hash = find_hash(object, group);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len;

	if (!md)
		return PASSIVE_ALGORITHM;
	if (!hash || !EVP_Digest(file.data, file.len, digest, &len, md, NULL))
		return PASSIVE_DIGEST;
	return (unsigned int)ASN1_STRING_length(hash) == len &&
			       !CRYPTO_memcmp(ASN1_STRING_get0_data(hash), digest, len)
		       ? PASSIVE_AUTHENTIC
		       : PASSIVE_DIGEST;
}

enum passive_finding sod_judge(struct bytes bytes, long group, struct bytes file)
{
	const unsigned char *at = bytes.data;
	const ASN1_ITEM *item = ASN1_ITEM_rptr(security_object);
	ASN1_VALUE *parsed =
		bytes.len <= LONG_MAX ? ASN1_item_d2i(NULL, &at, (long)bytes.len, item) : NULL;
	enum passive_finding finding = PASSIVE_MALFORMED;

	if (parsed && at == bytes.data + bytes.len)
		finding = judge((const security_object *)(const void *)parsed, group, file);
	ASN1_item_free(parsed, item);
	return finding;
}
