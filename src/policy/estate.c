#include <string.h>

#include "biomatch/parse.h"
#include "policy.h"

#define PART_MAX  63
#define MAX_COUNT 100000

static const struct estate_group *find_group(const struct policy *policy, const char *site,
					     const char *class)
{
	for (size_t i = 0; i < policy->n_groups; i++) {
		const struct estate_group *group = &policy->groups[i];

		if (!strcmp(group->class, class) && (!site || !strcmp(group->site, site)))
			return group;
	}
	return NULL;
}

static int load_group(struct policy *policy, const struct yaml_value *map,
		      struct estate_group *group, char *message)
{
	for (const struct yaml_value *v = map->kind == YAML_MAP ? map->first : NULL; v;
	     v = v->next) {
		bool is_site = !strcmp(v->key, "site"), is_class = !strcmp(v->key, "class");

		if (v->kind == YAML_SCALAR && (is_site || is_class) &&
		    !policy_check_name(v->text, strlen(v->text), PART_MAX))
			*(is_site ? &group->site : &group->class) = v->text;
		else if (v->kind != YAML_SCALAR || strcmp(v->key, "count") ||
			 parse_uint(v->text, 1, MAX_COUNT, &group->count))
			return yaml_fail(policy->tree, v, message,
					 "a group of the estate has a site, a class and a count "
					 "of 1 to %d, no such %s",
					 MAX_COUNT, v->key);
	}
	if (!group->site || !group->class || !group->count)
		return yaml_fail(policy->tree, map, message,
				 "a group of the estate needs site, class and count");
	if (find_group(policy, group->site, group->class))
		return yaml_fail(policy->tree, map, message, "the estate lists %s at %s twice",
				 group->class, group->site);
	return 0;
}

int estate_load(struct policy *policy, const struct yaml_value *list, char *message)
{
	size_t n = 0;

	for (const struct yaml_value *v = list->first; v; v = v->next)
		n++;
	if (list->kind != YAML_LIST || !n)
		return yaml_fail(policy->tree, list, message,
				 "estate needs a list, as in [{site: s, class: c, count: 1}]");
	policy->groups = arena_alloc(&policy->arena, n * sizeof(*policy->groups));
	if (!policy->groups)
		return BM_ENOMEM;
	for (const struct yaml_value *v = list->first; v; v = v->next) {
		int error = load_group(policy, v, &policy->groups[policy->n_groups], message);

		if (error)
			return error;
		policy->n_groups++;
	}
	return 0;
}

int estate_check(const struct policy *policy, const struct yaml_value *at, char *message)
{
	for (size_t i = 0; policy->n_groups && i < policy->n_purposes; i++) {
		const struct policy_purpose *p = &policy->purposes[i];

		for (size_t j = 0; j < p->n_classes; j++) {
			if (strcmp(p->classes[j], "*") && !find_group(policy, NULL, p->classes[j]))
				return yaml_fail(policy->tree, at, message,
						 "purpose \"%s\" is for class %s, of which the "
						 "estate has none",
						 p->name, p->classes[j]);
		}
	}
	return 0;
}

bool estate_holds(const struct policy *policy, const struct policy_endpoint *peer)
{
	const struct estate_group *group = find_group(policy, peer->site, peer->class);
	uint64_t number;

	return !policy->n_groups || (group && !parse_uint(peer->number, 1, group->count, &number));
}
