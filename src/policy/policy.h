/*
 * The module's own view of a policy: what load.c makes and policy.c asks.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "biomatch/arena.h"
#include "biomatch/policy.h"
#include "biomatch/yaml.h"

struct policy {
	struct yaml_tree *tree; /* all texts */
	struct arena arena;     /* all arrays */
	const char *version, *deployment;
	struct policy_purpose *purposes;
	size_t n_purposes;
};

/* BM_EINVAL unless s is 1 to max bytes of a-z A-Z 0-9 '-' '_' '.'. */
int policy_check_name(const char *s, size_t len, size_t max) BM_MUST_CHECK;
/* The operation of this name; BM_EINVAL. */
int policy_operation_parse(const char *name, enum policy_operation *out) BM_MUST_CHECK;

#endif
