#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/parse.h"
#include "policy.h"

#define NAME_MAX_LEN 64
/* An encounter's type is no longer. */
#define TYPE_MAX_LEN 32
#define MAX_MEMORY   ((size_t)16 << 20)
/* Beyond these a rate is a slip of the pen. */
#define SMALLEST_RATE 1e-12
#define LARGEST_FMR   0.1
#define LARGEST_FPIR  0.5
#define LARGEST_SIZE  UINT64_C(1000000000000)

#define BIT(operation) (1u << (operation))
/* What each option is for. */
#define COMPARING   (BIT(POLICY_VERIFY) | BIT(POLICY_COMPARE) | BIT(POLICY_VERIFY_DOCUMENT))
#define SEARCHING   (BIT(POLICY_IDENTIFY) | BIT(POLICY_ENROL))
#define WITH_SCORES (COMPARING | SEARCHING)
#define CAPTURING   (WITH_SCORES | BIT(POLICY_ANALYSE) | BIT(POLICY_EXTRACT))
#define IN_GALLERIES                                                                               \
	(BIT(POLICY_VERIFY) | SEARCHING | BIT(POLICY_READ) | BIT(POLICY_DELETE) |                  \
	 BIT(POLICY_HOLD) | BIT(POLICY_IMAGE) | BIT(POLICY_ADMIN))

struct loader {
	struct policy *policy;
	const struct pack *pack;
	char *message;
};

#define FAIL(l, at, ...) yaml_fail((l)->policy->tree, at, (l)->message, __VA_ARGS__)

static int read_text(struct loader *l, const struct yaml_value *v, const char **out)
{
	if (v->kind != YAML_SCALAR || !*v->text)
		return FAIL(l, v, "%s needs a text", v->key);
	*out = v->text;
	return 0;
}

static int read_name(struct loader *l, const struct yaml_value *v, const char **out)
{
	int error = read_text(l, v, out);

	if (!error && policy_check_name(*out, strlen(*out), NAME_MAX_LEN - 1))
		error = FAIL(l, v,
			     "%s may have 1 to %d letters, digits, '-', '_' and '.', not \"%s\"",
			     v->key, NAME_MAX_LEN - 1, *out);
	return error;
}

/* A list of names, or of "*" alone. */
static int read_names(struct loader *l, const struct yaml_value *list, const char *const **out,
		      size_t *n)
{
	const char **names;
	size_t len = 0;

	for (const struct yaml_value *v = list->first; v; v = v->next)
		len++;
	if (list->kind != YAML_LIST || !len)
		return FAIL(l, list, "%s needs a list, as in [a, b]", list->key);
	names = arena_alloc(&l->policy->arena, len * sizeof(*names));
	if (!names)
		return BM_ENOMEM;
	for (const struct yaml_value *v = list->first; v; v = v->next) {
		bool all = v->kind == YAML_SCALAR && !strcmp(v->text, "*");

		if (v->kind != YAML_SCALAR ||
		    (!all && policy_check_name(v->text, strlen(v->text), NAME_MAX_LEN - 1)))
			return FAIL(l, v, "%s holds something that is no name", list->key);
		if (all && len > 1)
			return FAIL(l, v, "%s holds \"*\", which means all, beside others",
				    list->key);
		names[(*n)++] = v->text;
	}
	*out = names;
	return 0;
}

static int read_rate(struct loader *l, const struct yaml_value *v, double largest, double *out)
{
	if (v->kind != YAML_SCALAR || parse_double(v->text, SMALLEST_RATE, largest, out))
		return FAIL(l, v, "%s needs a rate from %g to %g, as in 0.001", v->key,
			    SMALLEST_RATE, largest);
	return 0;
}

static int read_count(struct loader *l, const struct yaml_value *v, uint64_t max, uint64_t *out)
{
	if (v->kind != YAML_SCALAR || parse_uint(v->text, 1, max, out))
		return FAIL(l, v, "%s needs a whole number from 1 to %llu", v->key,
			    (unsigned long long)max);
	return 0;
}

/* One option of a purpose each. */
static int load_name(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	return read_name(l, v, &p->name);
}

static int load_legal_basis(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	return read_text(l, v, &p->legal_basis);
}

static int load_classes(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	return read_names(l, v, &p->classes, &p->n_classes);
}

static int load_galleries(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	return read_names(l, v, &p->galleries, &p->n_galleries);
}

static int load_operations(struct loader *l, const struct yaml_value *list,
			   struct policy_purpose *p)
{
	if (list->kind != YAML_LIST || !list->first)
		return FAIL(l, list, "operations needs a list, as in [verify, analyse]");
	for (const struct yaml_value *v = list->first; v; v = v->next) {
		enum policy_operation operation;

		if (v->kind != YAML_SCALAR || policy_operation_parse(v->text, &operation))
			return FAIL(l, v,
				    "operations may be verify, compare, verify_document, identify, "
				    "enrol, read, image, delete, hold, analyse, extract, admin, "
				    "audit and follow, not \"%s\"",
				    v->text ? v->text : "");
		p->operations |= BIT(operation);
	}
	return 0;
}

static int load_target_fmr(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	return read_rate(l, v, LARGEST_FMR, &p->target_fmr);
}

static int load_refer_fmr(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	return read_rate(l, v, LARGEST_FMR, &p->refer_fmr);
}

static int load_target_fpir(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	return read_rate(l, v, LARGEST_FPIR, &p->target_fpir);
}

static int load_gallery_size(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	return read_count(l, v, LARGEST_SIZE, &p->gallery_size);
}

static int load_max_candidates(struct loader *l, const struct yaml_value *v,
			       struct policy_purpose *p)
{
	uint64_t n = 0;
	int error = read_count(l, v, POLICY_MAX_CANDIDATES, &n);

	p->max_candidates = (unsigned)n;
	return error;
}

static int load_max_frames(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	uint64_t n = 0;
	int error = read_count(l, v, POLICY_MAX_FRAMES, &n);

	p->max_frames = (unsigned)n;
	return error;
}

static int load_references(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	if (v->kind == YAML_SCALAR && !strcmp(v->text, "fused")) {
		p->fuse_references = true;
		return 0;
	}
	if (v->kind == YAML_SCALAR && !strcmp(v->text, "best"))
		return 0;
	return FAIL(l, v, "references may be best or fused");
}

static int load_max_references(struct loader *l, const struct yaml_value *v,
			       struct policy_purpose *p)
{
	uint64_t n = 0;
	int error = read_count(l, v, POLICY_MAX_REFERENCES, &n);

	p->max_references = (unsigned)n;
	return error;
}

static int load_reference_types(struct loader *l, const struct yaml_value *list,
				struct policy_purpose *p)
{
	int error = read_names(l, list, &p->reference_types, &p->n_reference_types);

	for (size_t i = 0; !error && i < p->n_reference_types; i++) {
		if (strlen(p->reference_types[i]) > TYPE_MAX_LEN ||
		    !strcmp(p->reference_types[i], "*"))
			error = FAIL(l, list,
				     "an encounter type has 1 to %d characters, not \"%s\"",
				     TYPE_MAX_LEN, p->reference_types[i]);
	}
	return error;
}

static int load_attempts(struct loader *l, const struct yaml_value *map, struct policy_purpose *p)
{
	uint64_t limit = 0;
	int error = 0;

	for (const struct yaml_value *v = map->first; !error && v; v = v->next) {
		if (map->kind == YAML_MAP && !strcmp(v->key, "limit"))
			error = read_count(l, v, POLICY_MAX_ATTEMPTS, &limit);
		else if (map->kind != YAML_MAP || strcmp(v->key, "window") != 0)
			error = FAIL(l, v, "attempts has limit and window, nothing else");
		else if (v->kind != YAML_SCALAR ||
			 parse_duration_ms(v->text, 1000, POLICY_MAX_WINDOW_MS,
					   &p->attempts.window_ms))
			error = FAIL(l, v, "window needs a time from 1s to 7d, as in 10m");
	}
	p->attempts.limit = (unsigned)limit;
	if (!error && (!p->attempts.limit || !p->attempts.window_ms))
		error = FAIL(l, map,
			     "attempts needs a limit and a window, as in "
			     "{limit: 5, window: 10m}");
	return error;
}

static int load_supersede(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	if (v->kind != YAML_SCALAR || parse_bool(v->text, &p->supersede))
		return FAIL(l, v, "supersede needs true or false");
	return 0;
}

static int load_keep_image(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	if (v->kind != YAML_SCALAR || parse_bool(v->text, &p->keep_image))
		return FAIL(l, v, "keep_image needs true or false");
	return 0;
}

static int load_retention(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	if (v->kind != YAML_SCALAR ||
	    parse_duration_ms(v->text, 1000, POLICY_MAX_RETENTION_MS, &p->retention_ms))
		return FAIL(l, v, "retention needs a time from 1s to 36525d, as in 180d");
	return 0;
}

static int load_raw_scores(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	if (v->kind != YAML_SCALAR || parse_bool(v->text, &p->raw_scores))
		return FAIL(l, v, "raw_scores needs true or false");
	return 0;
}

static int load_search(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	if (v->kind == YAML_SCALAR && !strcmp(v->text, "fast")) {
		p->fast_search = true;
		return 0;
	}
	if (v->kind == YAML_SCALAR && !strcmp(v->text, "certified"))
		return 0;
	return FAIL(l, v, "search may be certified or fast");
}

static int load_pad(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	static const char *const names[] = {"off", "refer", "reject"};

	for (int i = 0; v->kind == YAML_SCALAR && i < 3; i++) {
		if (strcmp(v->text, names[i]) != 0)
			continue;
		p->pad = (enum policy_pad)i;
		if (p->pad && !l->pack->liveness.file)
			return FAIL(l, v, "model pack %s cannot tell who is live: pad must be off",
				    l->pack->model);
		return 0;
	}
	return FAIL(l, v, "pad may be off, refer or reject");
}

static int load_pad_threshold(struct loader *l, const struct yaml_value *v,
			      struct policy_purpose *p)
{
	if (v->kind != YAML_SCALAR || parse_double(v->text, 0.001, 0.999, &p->pad_threshold))
		return FAIL(l, v, "pad_threshold needs a number from 0.001 to 0.999");
	return 0;
}

static int load_minimum(struct loader *l, const struct yaml_value *v, struct quality *asked)
{
	enum quality_component component;
	uint64_t least = 0;
	int error;

	if (quality_component_parse(v->key, &component))
		return FAIL(l, v, "no component of quality is called \"%s\"", v->key);
	if (component == QUALITY_MOUTH_CLOSED && l->pack->landmarks_kind != PACK_LANDMARKS_68)
		return FAIL(l, v, "model pack %s cannot judge %s", l->pack->model, v->key);
	error = read_count(l, v, QUALITY_MAX, &least);
	asked->value[component] = (uint8_t)least;
	return error;
}

static int load_min_quality(struct loader *l, const struct yaml_value *map,
			    struct policy_purpose *p)
{
	int error = 0;

	if (map->kind != YAML_MAP || !map->first)
		return FAIL(l, map, "min_quality needs components, as in {sharpness: 40}");
	for (const struct yaml_value *v = map->first; !error && v; v = v->next)
		error = load_minimum(l, v, &p->min_quality);
	return error;
}

static int load_portrait(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	if (v->kind != YAML_SCALAR || parse_bool(v->text, &p->portrait))
		return FAIL(l, v, "portrait needs true or false");
	return 0;
}

static int load_priority(struct loader *l, const struct yaml_value *v, struct policy_purpose *p)
{
	static const char *const names[BATCH_PRIORITIES] = {"lane", "kiosk", "bulk"};

	for (int i = 0; v->kind == YAML_SCALAR && i < BATCH_PRIORITIES; i++) {
		if (!strcmp(v->text, names[i])) {
			p->priority = (enum batch_priority)i;
			return 0;
		}
	}
	return FAIL(l, v, "priority may be lane, kiosk or bulk");
}

/* An option belongs to a purpose that allows one of the operations it is for. */
static const struct option {
	const char *key;
	int (*load)(struct loader *, const struct yaml_value *, struct policy_purpose *);
	uint32_t used_by;     /* refused without one of these operations */
	uint32_t required_by; /* missing is refused with one of these */
} options[] = {
	{"name", load_name, ~0u, ~0u},
	{"legal_basis", load_legal_basis, ~0u, ~0u},
	{"classes", load_classes, ~0u, ~0u},
	{"operations", load_operations, ~0u, ~0u},
	{"priority", load_priority, ~0u, ~0u},
	{"galleries", load_galleries, IN_GALLERIES, IN_GALLERIES},
	{"target_fmr", load_target_fmr, COMPARING, COMPARING},
	{"refer_fmr", load_refer_fmr, COMPARING, 0},
	{"target_fpir", load_target_fpir, SEARCHING, BIT(POLICY_IDENTIFY)},
	{"gallery_size", load_gallery_size, SEARCHING, BIT(POLICY_IDENTIFY)},
	{"max_candidates", load_max_candidates, SEARCHING, BIT(POLICY_IDENTIFY)},
	{"max_frames", load_max_frames, WITH_SCORES, 0},
	{"references", load_references, BIT(POLICY_VERIFY), 0},
	{"max_references", load_max_references, BIT(POLICY_VERIFY), 0},
	{"reference_types", load_reference_types, BIT(POLICY_VERIFY), 0},
	{"attempts", load_attempts, BIT(POLICY_VERIFY), 0},
	{"supersede", load_supersede, BIT(POLICY_ENROL), 0},
	{"keep_image", load_keep_image, BIT(POLICY_ENROL), 0},
	{"retention", load_retention, BIT(POLICY_ENROL), 0},
	{"search", load_search, SEARCHING, 0},
	{"raw_scores", load_raw_scores, WITH_SCORES, 0},
	{"pad", load_pad, CAPTURING, 0},
	{"pad_threshold", load_pad_threshold, CAPTURING, 0},
	{"min_quality", load_min_quality, CAPTURING, 0},
	{"portrait", load_portrait, BIT(POLICY_COMPARE), 0},
};

#define OPTIONS (sizeof(options) / sizeof(options[0]))

static const struct yaml_value *find_key(const struct yaml_value *map, const char *key)
{
	const struct yaml_value *v = map->first;

	while (v && strcmp(v->key, key))
		v = v->next;
	return v;
}

static const struct option *find_option(const char *key)
{
	for (size_t i = 0; i < OPTIONS; i++) {
		if (!strcmp(options[i].key, key))
			return &options[i];
	}
	return NULL;
}

/* What is there must have a use, and what is needed must be there. */
static int check_options(struct loader *l, const struct yaml_value *map,
			 const struct policy_purpose *p)
{
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct yaml_value *v = find_key(map, options[i].key);

		if (!v && options[i].required_by & p->operations)
			return FAIL(l, map, "purpose \"%s\" needs %s", p->name ? p->name : "",
				    options[i].key);
		if (v && !(options[i].used_by & p->operations))
			return FAIL(l, v, "%s has no use with these operations", v->key);
	}
	if (!p->target_fpir != !p->gallery_size || !p->target_fpir != !p->max_candidates)
		return FAIL(l, map,
			    "purpose \"%s\" needs all of target_fpir, gallery_size and "
			    "max_candidates, or none",
			    p->name);
	if (p->refer_fmr && p->refer_fmr <= p->target_fmr)
		return FAIL(
			l, find_key(map, "refer_fmr"),
			"refer_fmr must be larger than target_fmr: what lies between is referred");
	if ((p->pad != POLICY_PAD_OFF) != (p->pad_threshold > 0))
		return FAIL(
			l, map,
			"purpose \"%s\" needs pad_threshold with pad: refer or reject, and only "
			"then",
			p->name);
	return 0;
}

/* Verify has a probe of frames meet references; both sides of Compare may have frames. */
static unsigned most_attempts(const struct policy_purpose *p)
{
	unsigned others = 1;

	if (p->operations & BIT(POLICY_VERIFY))
		others = p->max_references;
	if (p->operations & BIT(POLICY_COMPARE) && others < p->max_frames)
		others = p->max_frames;
	return p->max_frames * others;
}

static int check_fmr(struct loader *l, const struct yaml_value *map, const struct policy_purpose *p)
{
	unsigned attempts = most_attempts(p);
	double fmr = policy_search_fmr(p->target_fmr, attempts), smallest;
	float score;

	if (!p->target_fmr || !pack_threshold(l->pack, fmr, &score, &smallest))
		return 0;
	if (attempts == 1)
		return FAIL(l, find_key(map, "target_fmr"),
			    "target_fmr %g is beyond what calibration %s supports; the smallest "
			    "is %g",
			    p->target_fmr, l->pack->calibration_id, smallest);
	return FAIL(l, find_key(map, "target_fmr"),
		    "target_fmr %g over %u attempts needs a false match rate of %.3g, calibration "
		    "%s supports %g; raise the target or lower max_frames (now %u) or "
		    "max_references (%u)",
		    p->target_fmr, attempts, fmr, l->pack->calibration_id, smallest, p->max_frames,
		    p->max_references);
}

/* The calibration's sample must support what the purpose promises. */
static int check_targets(struct loader *l, const struct yaml_value *map,
			 const struct policy_purpose *p)
{
	double fmr = policy_search_fmr(p->target_fpir, p->gallery_size * p->max_frames), smallest;
	float score;
	int error = check_fmr(l, map, p);

	if (error)
		return error;
	/* Beyond what was measured the zone could be empty without a word. */
	if (p->refer_fmr > l->pack->calibration[0].fmr)
		return FAIL(l, find_key(map, "refer_fmr"),
			    "refer_fmr %g is beyond what calibration %s has measured; the largest "
			    "is %g",
			    p->refer_fmr, l->pack->calibration_id, l->pack->calibration[0].fmr);
	if (p->target_fpir && pack_threshold(l->pack, fmr, &score, &smallest))
		return FAIL(
			l, find_key(map, "target_fpir"),
			"target_fpir %g over %llu references with max_frames %u needs a false "
			"match rate of %.3g, calibration %s supports %g; raise the target or lower "
			"gallery_size or max_frames",
			p->target_fpir, (unsigned long long)p->gallery_size, p->max_frames, fmr,
			l->pack->calibration_id, smallest);
	return 0;
}

static int load_purpose(struct loader *l, const struct yaml_value *map, struct policy_purpose *p)
{
	int error;

	if (map->kind != YAML_MAP || !map->first)
		return FAIL(l, map, "a purpose needs options, as in \"name: gate\"");
	p->max_frames = 1;
	p->max_references = POLICY_DEFAULT_REFERENCES;
	for (const struct yaml_value *v = map->first; v; v = v->next) {
		const struct option *option = find_option(v->key);

		if (!option)
			return FAIL(l, v, "a purpose has no option \"%s\"", v->key);
		error = option->load(l, v, p);
		if (error)
			return error;
	}
	/* What else is required depends on them. */
	if (!p->operations)
		return FAIL(l, map, "purpose \"%s\" needs operations", p->name ? p->name : "");
	error = check_options(l, map, p);
	return error ? error : check_targets(l, map, p);
}

static int load_purposes(struct loader *l, const struct yaml_value *list)
{
	struct policy *policy = l->policy;
	size_t n = 0;

	for (const struct yaml_value *v = list->first; v; v = v->next)
		n++;
	if (list->kind != YAML_LIST || !n)
		return FAIL(l, list, "purposes needs a list of at least one");
	policy->purposes = arena_alloc(&policy->arena, n * sizeof(*policy->purposes));
	if (!policy->purposes)
		return BM_ENOMEM;
	for (const struct yaml_value *v = list->first; v; v = v->next) {
		struct policy_purpose *p = &policy->purposes[policy->n_purposes];
		int error = load_purpose(l, v, p);

		if (error)
			return error;
		for (size_t i = 0; i < policy->n_purposes; i++) {
			if (!strcmp(policy->purposes[i].name, p->name))
				return FAIL(l, v, "purpose \"%s\" stands twice", p->name);
		}
		policy->n_purposes++;
	}
	return 0;
}

static int load_root(struct loader *l)
{
	struct policy *policy = l->policy;
	const struct yaml_value *root = yaml_tree_root(policy->tree);
	int error = 0;

	for (const struct yaml_value *v = root->first; !error && v; v = v->next) {
		if (!strcmp(v->key, "version"))
			error = read_name(l, v, &policy->version);
		else if (!strcmp(v->key, "deployment"))
			error = read_name(l, v, &policy->deployment);
		else if (!strcmp(v->key, "purposes"))
			error = load_purposes(l, v);
		else if (!strcmp(v->key, "estate"))
			error = estate_load(policy, v, l->message);
		else
			error = FAIL(l, v, "a policy has no option \"%s\"", v->key);
	}
	if (!error && (!policy->version || !policy->deployment || !policy->purposes))
		error = FAIL(l, root, "a policy needs version, deployment and purposes");
	return error ? error : estate_check(policy, root, l->message);
}

int policy_open(const char *path, const struct pack *pack, struct policy **out,
		char message[POLICY_MESSAGE_LEN])
{
	struct policy *policy = calloc(1, sizeof(*policy));
	struct loader l = {.policy = policy, .pack = pack, .message = message};
	int error = BM_ENOMEM;

	message[0] = '\0';
	if (policy) {
		arena_init(&policy->arena, MAX_MEMORY);
		error = yaml_tree_open(path, &policy->tree, message);
		if (!error)
			error = load_root(&l);
	}
	if (!error) {
		*out = policy;
		return 0;
	}
	if (error == BM_ENOMEM)
		snprintf(message, POLICY_MESSAGE_LEN, "%s: %s", path, bm_error_text(error));
	if (policy)
		policy_close(policy);
	return error;
}

_Static_assert(POLICY_MESSAGE_LEN == YAML_MESSAGE_LEN, "the message is handed through");
