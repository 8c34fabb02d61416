#include "policy.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const operation_names[POLICY_OPERATIONS] = {
	[POLICY_VERIFY] = "verify",     [POLICY_COMPARE] = "compare",
	[POLICY_IDENTIFY] = "identify", [POLICY_ENROL] = "enrol",
	[POLICY_READ] = "read",         [POLICY_DELETE] = "delete",
	[POLICY_ANALYSE] = "analyse",   [POLICY_EXTRACT] = "extract",
	[POLICY_ADMIN] = "admin",       [POLICY_AUDIT] = "audit",
	[POLICY_FOLLOW] = "follow",     [POLICY_VERIFY_DOCUMENT] = "verify_document",
	[POLICY_HOLD] = "hold",         [POLICY_IMAGE] = "image",
};

const char *policy_operation_name(enum policy_operation operation)
{
	assert(operation < POLICY_OPERATIONS);
	return operation_names[operation];
}

int policy_operation_parse(const char *name, enum policy_operation *out)
{
	for (int i = 0; i < POLICY_OPERATIONS; i++) {
		if (!strcmp(name, operation_names[i])) {
			*out = (enum policy_operation)i;
			return 0;
		}
	}
	return BM_EINVAL;
}

int policy_check_name(const char *s, size_t len, size_t max)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";

	return len && len <= max && strspn(s, letters) >= len ? 0 : BM_EINVAL;
}

int policy_endpoint_parse(const char *uri, struct policy_endpoint *out)
{
	static const char scheme[] = "biomatch://";
	struct {
		char *to;
		size_t size;
	} parts[] = {
		{out->deployment, sizeof(out->deployment)},
		{out->site, sizeof(out->site)},
		{out->class, sizeof(out->class)},
		{out->number, sizeof(out->number)},
	};
	const char *p = uri + sizeof(scheme) - 1;

	if (strncmp(uri, scheme, sizeof(scheme) - 1))
		return BM_EPEER;
	for (size_t i = 0; i < 4; i++) {
		size_t len = strcspn(p, "/");

		if (policy_check_name(p, len, parts[i].size - 1) || p[len] != (i < 3 ? '/' : '\0'))
			return BM_EPEER;
		memcpy(parts[i].to, p, len);
		parts[i].to[len] = '\0';
		p += len + 1;
	}
	return 0;
}

void policy_close(struct policy *policy)
{
	if (policy->tree)
		yaml_tree_close(policy->tree);
	arena_deinit(&policy->arena);
	free(policy);
}

const char *policy_version(const struct policy *policy)
{
	return policy->version;
}

double policy_search_fmr(double fpir, uint64_t n)
{
	return -expm1(log1p(-fpir) / (double)(n ? n : 1));
}

static bool names(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(list[i], name) || !strcmp(list[i], "*"))
			return true;
	}
	return false;
}

static const struct policy_purpose *find_purpose(const struct policy *policy, const char *name)
{
	for (size_t i = 0; i < policy->n_purposes; i++) {
		if (!strcmp(policy->purposes[i].name, name))
			return &policy->purposes[i];
	}
	return NULL;
}

int policy_decide(const struct policy *policy, const char *peer_uri, const char *purpose,
		  enum policy_operation operation, const char *gallery,
		  const struct policy_purpose **out)
{
	const struct policy_purpose *found;
	struct policy_endpoint peer;
	int error = policy_endpoint_parse(peer_uri, &peer);

	assert(operation < POLICY_OPERATIONS);
	if (error)
		return error;
	if (strcmp(peer.deployment, policy->deployment) || !estate_holds(policy, &peer))
		return BM_EPEER;
	found = find_purpose(policy, purpose);
	if (!found)
		return BM_EPURPOSE;
	if (!(found->operations & 1u << operation) ||
	    !names(found->classes, found->n_classes, peer.class) ||
	    (gallery && !names(found->galleries, found->n_galleries, gallery)))
		return BM_EDENIED;
	*out = found;
	return 0;
}
