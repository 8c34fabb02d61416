/*
 * The module's own view of a policy: what load.c makes and policy.c asks.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "biomatch/arena.h"
#include "biomatch/policy.h"
#include "biomatch/yaml.h"

/* Endpoints of one class at one site, numbered from 1. */
struct estate_group {
	const char *site, *class;
	uint64_t count;
};

struct policy {
	struct yaml_tree *tree; /* all texts */
	struct arena arena;     /* all arrays */
	const char *version, *deployment;
	struct policy_purpose *purposes;
	size_t n_purposes;
	struct estate_group *groups; /* none: every site, class and number */
	size_t n_groups;
};

/* BM_EINVAL unless s is 1 to max bytes of a-z A-Z 0-9 '-' '_' '.'. */
int policy_check_name(const char *s, size_t len, size_t max) BM_MUST_CHECK;
/* The operation of this name; BM_EINVAL. */
int policy_operation_parse(const char *name, enum policy_operation *out) BM_MUST_CHECK;

/* Reads the list of groups, whose arrays come from the policy's arena. */
int estate_load(struct policy *policy, const struct yaml_value *list, char *message) BM_MUST_CHECK;
/* Every class that a purpose names must stand somewhere. */
int estate_check(const struct policy *policy, const struct yaml_value *at,
		 char *message) BM_MUST_CHECK;
/* True when the operator has this endpoint. */
bool estate_holds(const struct policy *policy, const struct policy_endpoint *peer);

#endif
