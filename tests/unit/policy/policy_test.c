/* Who may do what: endpoints, decisions, and every way a policy file is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/file.h"
#include "biomatch/policy.h"

/* Tells who is live; a calibration that supports rates down to 0.0001. */
static struct pack pack = {
	.name = "test",
	.version = "1",
	.model = "test/1",
	.dim = 16,
	.landmarks_kind = PACK_LANDMARKS_68,
	.liveness = {.file = "/nowhere/live.onnx"},
	.calibration_id = "cal-1",
	.calibration_mates = 1000,
	.calibration_non_mates = 100000,
	.calibration = {{0.1, 0.1f}, {0.01, 0.2f}, {0.001, 0.3f}, {0.0001, 0.4f}},
	.calibration_len = 4,
	.band_stranger = 0.2f,
	.band_mate = 0.7f,
};

#define HEAD                                                                                       \
	"version: v-7\n"                                                                           \
	"deployment: hk\n"                                                                         \
	"purposes:\n"
#define GATE                                                                                       \
	"  - name: gate\n"                                                                         \
	"    legal_basis: Ordinance 1\n"                                                           \
	"    classes: [lane, counter]\n"                                                           \
	"    operations: [verify]\n"                                                               \
	"    galleries: [people]\n"                                                                \
	"    target_fmr: 0.001\n"                                                                  \
	"    priority: lane\n"
#define WATCH                                                                                      \
	"  - name: watch\n"                                                                        \
	"    legal_basis: Ordinance 2\n"                                                           \
	"    classes: [\"*\"]\n"                                                                   \
	"    operations: [identify, enrol, read]\n"                                                \
	"    galleries: [\"*\"]\n"                                                                 \
	"    target_fpir: 0.01\n"                                                                  \
	"    gallery_size: 50\n"                                                                   \
	"    max_candidates: 5\n"                                                                  \
	"    search: fast\n"                                                                       \
	"    raw_scores: true\n"                                                                   \
	"    priority: bulk\n"

struct place {
	char dir[64], path[96];
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	strcpy(place->dir, "/tmp/biomatch-policy-XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->path, sizeof(place->path), "%s/p.yaml", place->dir);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;

	unlink(place->path);
	assert_int_equal(rmdir(place->dir), 0);
	free(place);
	return 0;
}

static int open_text(const struct place *place, const char *text, struct policy **out,
		     char message[POLICY_MESSAGE_LEN])
{
	unlink(place->path);
	assert_int_equal(file_write_new(place->path, text, strlen(text), 0600), 0);
	return policy_open(place->path, &pack, out, message);
}

static struct policy *open_good(const struct place *place, const char *text)
{
	char message[POLICY_MESSAGE_LEN];
	struct policy *policy;

	if (open_text(place, text, &policy, message))
		fail_msg("%s", message);
	return policy;
}

static void test_endpoint(void **state)
{
	static const char *const bad[] = {
		"",
		"biomatch://",
		"biomatch://hk/site/lane",
		"biomatch://hk/site/lane/",
		"biomatch://hk//lane/1",
		"biomatch://hk/site/lane/1/",
		"biomatch://hk/site/lane/1/2",
		"biomatch:///site/lane/1",
		"BIOMATCH://hk/site/lane/1",
		"https://hk/site/lane/1",
		"biomatch://hk/si te/lane/1",
		"biomatch://hk/site/lane/1\n",
		"biomatch://hk/site/l\xc3\xa4ne/1",
		"biomatch://hk/site/lane/12345678901234567890123456789012",
	};
	struct policy_endpoint e;

	(void)state;
	assert_int_equal(policy_endpoint_parse("biomatch://hk/Lo-Wu_1/echannel.x/007", &e), 0);
	assert_string_equal(e.deployment, "hk");
	assert_string_equal(e.site, "Lo-Wu_1");
	assert_string_equal(e.class, "echannel.x");
	assert_string_equal(e.number, "007");
	assert_int_equal(
		policy_endpoint_parse("biomatch://hk/s/c/1234567890123456789012345678901", &e), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (policy_endpoint_parse(bad[i], &e) != BM_EPEER)
			fail_msg("accepted \"%s\"", bad[i]);
	}
}

static void test_operation_names_differ(void **state)
{
	(void)state;
	for (int i = 0; i < POLICY_OPERATIONS; i++) {
		const char *name = policy_operation_name((enum policy_operation)i);

		assert_true(name && *name);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(name,
						policy_operation_name((enum policy_operation)j));
	}
}

static void test_search_fmr(void **state)
{
	(void)state;
	assert_float_equal(policy_search_fmr(0.01, 1), 0.01, 1e-12);
	assert_float_equal(policy_search_fmr(0.01, 0), 0.01, 1e-12);
	assert_float_equal(1 - pow(1 - policy_search_fmr(0.05, 1000), 1000), 0.05, 1e-9);
	/* Where 1 - x would lose it: 0.01 over a billion. */
	assert_true(fabs(policy_search_fmr(0.01, 1000000000) / 1.00503358535e-11 - 1) < 1e-9);
}

static void test_purpose_carries_its_options(void **state)
{
	struct policy *policy = open_good(*state, HEAD GATE WATCH);
	const struct policy_purpose *p;

	assert_string_equal(policy_version(policy), "v-7");
	assert_int_equal(policy_decide(policy, "biomatch://hk/a/lane/1", "gate", POLICY_VERIFY,
				       "people", &p),
			 0);
	assert_string_equal(p->name, "gate");
	assert_string_equal(p->legal_basis, "Ordinance 1");
	assert_float_equal(p->target_fmr, 0.001, 0);
	assert_float_equal(p->target_fpir, 0, 0);
	assert_int_equal(p->max_candidates, 0);
	assert_int_equal(p->max_frames, 1);
	assert_int_equal(p->max_references, POLICY_DEFAULT_REFERENCES);
	assert_false(p->fuse_references);
	assert_int_equal(p->n_reference_types, 0);
	assert_false(p->raw_scores);
	assert_int_equal(p->priority, BATCH_LANE);
	assert_int_equal(policy_decide(policy, "biomatch://hk/a/any/1", "watch", POLICY_IDENTIFY,
				       "anything", &p),
			 0);
	assert_float_equal(p->target_fpir, 0.01, 0);
	assert_int_equal(p->gallery_size, 50);
	assert_int_equal(p->max_candidates, 5);
	assert_true(p->fast_search);
	assert_true(p->raw_scores);
	assert_int_equal(p->priority, BATCH_BULK);
	policy_close(policy);
}

static void test_denies_by_default(void **state)
{
	static const struct {
		const char *peer, *purpose;
		enum policy_operation operation;
		const char *gallery;
		int expected;
	} cases[] = {
		{"biomatch://hk/a/lane/1", "gate", POLICY_VERIFY, "people", 0},
		{"biomatch://hk/b/counter/9", "gate", POLICY_VERIFY, "people", 0},
		{"biomatch://hk/a/lane/1", "gate", POLICY_VERIFY, "others", BM_EDENIED},
		{"biomatch://hk/a/lane/1", "gate", POLICY_IDENTIFY, "people", BM_EDENIED},
		{"biomatch://hk/a/lane/1", "gate", POLICY_DELETE, "people", BM_EDENIED},
		{"biomatch://hk/a/lane/1", "gate", POLICY_ADMIN, NULL, BM_EDENIED},
		{"biomatch://hk/a/kiosk/1", "gate", POLICY_VERIFY, "people", BM_EDENIED},
		{"biomatch://hk/a/lan/1", "gate", POLICY_VERIFY, "people", BM_EDENIED},
		{"biomatch://hk/a/*/1", "gate", POLICY_VERIFY, "people", BM_EPEER},
		{"biomatch://mo/a/lane/1", "gate", POLICY_VERIFY, "people", BM_EPEER},
		{"", "gate", POLICY_VERIFY, "people", BM_EPEER},
		{"biomatch://hk/a/lane/1", "Gate", POLICY_VERIFY, "people", BM_EPURPOSE},
		{"biomatch://hk/a/lane/1", "", POLICY_VERIFY, "people", BM_EPURPOSE},
		{"biomatch://hk/a/lane/1", "watch", POLICY_ENROL, "people", 0},
		{"biomatch://hk/a/lane/1", "watch", POLICY_VERIFY, "people", BM_EDENIED},
		{"biomatch://hk/a/lane/1", "watch", POLICY_EXTRACT, NULL, BM_EDENIED},
	};
	struct policy *policy = open_good(*state, HEAD GATE WATCH);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct policy_purpose *p = NULL;
		int error = policy_decide(policy, cases[i].peer, cases[i].purpose,
					  cases[i].operation, cases[i].gallery, &p);

		if (error != cases[i].expected || !p != !!error)
			fail_msg("case %zu: %s", i, bm_error_reason(error));
	}
	policy_close(policy);
}

static void test_pad(void **state)
{
	static const char *const endpoint = "biomatch://hk/a/lane/1";
	char message[POLICY_MESSAGE_LEN];
	const struct policy_purpose *p;
	struct policy *policy =
		open_good(*state, HEAD GATE "    pad: reject\n    pad_threshold: 0.25\n" WATCH
					    "    pad: refer\n    pad_threshold: 0.5\n");

	assert_int_equal(policy_decide(policy, endpoint, "gate", POLICY_VERIFY, "people", &p), 0);
	assert_int_equal(p->pad, POLICY_PAD_REJECT);
	assert_float_equal(p->pad_threshold, 0.25, 1e-9);
	assert_int_equal(policy_decide(policy, endpoint, "watch", POLICY_ENROL, "people", &p), 0);
	assert_int_equal(p->pad, POLICY_PAD_REFER);
	policy_close(policy);
	policy = open_good(*state, HEAD GATE WATCH "    pad: off\n");
	assert_int_equal(policy_decide(policy, endpoint, "gate", POLICY_VERIFY, "people", &p), 0);
	assert_int_equal(p->pad, POLICY_PAD_OFF);
	policy_close(policy);

	/* A pack that cannot tell serves no purpose that asks. */
	pack.liveness.file = NULL;
	assert_int_equal(open_text(*state, HEAD GATE "    pad_threshold: 0.5\n    pad: refer\n",
				   &policy, message),
			 BM_ECONF);
	assert_non_null(strstr(message, ":12: model pack test/1 cannot tell who is live"));
	policy_close(open_good(*state, HEAD GATE "    pad: off\n"));
	pack.liveness.file = "/nowhere/live.onnx";
}

static void test_quality(void **state)
{
	static const char *const endpoint = "biomatch://hk/a/lane/1";
	static const char asks[] = HEAD GATE "    min_quality: {mouth_closed: 70, pose_yaw: 100}\n";
	char message[POLICY_MESSAGE_LEN];
	const struct policy_purpose *p;
	struct policy *policy = open_good(*state, asks);

	assert_int_equal(policy_decide(policy, endpoint, "gate", POLICY_VERIFY, "people", &p), 0);
	assert_int_equal(p->min_quality.value[QUALITY_MOUTH_CLOSED], 70);
	assert_int_equal(p->min_quality.value[QUALITY_POSE_YAW], 100);
	assert_int_equal(p->min_quality.value[QUALITY_SHARPNESS], 0);
	assert_false(p->portrait);
	policy_close(policy);
	/* Five points do not tell an open mouth. */
	pack.landmarks_kind = PACK_LANDMARKS_NONE;
	assert_int_equal(open_text(*state, asks, &policy, message), BM_ECONF);
	assert_non_null(strstr(message, "cannot judge mouth_closed"));
	pack.landmarks_kind = PACK_LANDMARKS_68;
}

#define ESTATE                                                                                     \
	"estate:\n"                                                                                \
	"  - {site: pier, class: lane, count: 12}\n"                                               \
	"  - {site: pier, class: counter, count: 1}\n"                                             \
	"  - {site: airport, class: lane, count: 3}\n"

static void test_estate(void **state)
{
	static const struct {
		const char *peer;
		int expected;
	} cases[] = {
		{"biomatch://hk/pier/lane/1", 0},
		{"biomatch://hk/pier/lane/12", 0},
		{"biomatch://hk/airport/lane/3", 0},
		{"biomatch://hk/pier/counter/1", 0},
		{"biomatch://hk/pier/lane/13", BM_EPEER},
		{"biomatch://hk/pier/lane/0", BM_EPEER},
		{"biomatch://hk/pier/lane/01", BM_EPEER},
		{"biomatch://hk/pier/lane/1a", BM_EPEER},
		{"biomatch://hk/airport/lane/4", BM_EPEER},
		{"biomatch://hk/airport/counter/1", BM_EPEER},
		{"biomatch://hk/harbour/lane/1", BM_EPEER},
		{"biomatch://hk/pier/kiosk/1", BM_EPEER},
	};
	struct policy *policy = open_good(*state, HEAD GATE ESTATE);
	const struct policy_purpose *p;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (policy_decide(policy, cases[i].peer, "gate", POLICY_VERIFY, "people", &p) !=
		    cases[i].expected)
			fail_msg("%s", cases[i].peer);
	}
	policy_close(policy);
}

/* One option of the gate changed, left out or added. */
#define GATE_WITH(options) HEAD "  - name: gate\n" options
#define BASICS                                                                                     \
	"    legal_basis: x\n"                                                                     \
	"    classes: [lane]\n"                                                                    \
	"    priority: lane\n"

static const struct {
	unsigned line;
	const char *reason; /* part of it */
	const char *text;
} refused[] = {
	{1, "the file is empty", ""},
	{1, "needs version, deployment and purposes", "version: 1\n"},
	{1, "needs version, deployment and purposes", "deployment: hk\npurposes:\n" GATE},
	{1, "no option \"versions\"", "versions: 1\n"},
	{2, "deployment may have", "version: 1\ndeployment: h k\n"},
	{3, "purposes needs a list", "version: 1\ndeployment: hk\npurposes: {}\n"},
	{3, "purposes needs a list", "version: 1\ndeployment: hk\npurposes: []\n"},
	{4, "a purpose needs options", HEAD "  - gate\n"},
	{11, "stands twice", HEAD GATE GATE},
	{8, "no option \"gallerys\"", GATE_WITH(BASICS "    gallerys: [x]\n")},
	{4, "needs operations", GATE_WITH(BASICS)},
	{4, "needs legal_basis", GATE_WITH("    operations: [analyse]\n")},
	{4, "needs galleries", GATE_WITH(BASICS "    operations: [read]\n")},
	{4, "needs target_fmr", GATE_WITH(BASICS "    operations: [compare]\n")},
	{4, "needs target_fpir",
	 GATE_WITH(BASICS "    operations: [identify]\n"
			  "    galleries: [x]\n")},
	{4, "needs all of",
	 GATE_WITH(BASICS "    operations: [enrol]\n    galleries: [x]\n"
			  "    target_fpir: 0.01\n")},
	{9, "target_fmr has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n"
			  "    target_fmr: 0.001\n")},
	{9, "refer_fmr has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n"
			  "    refer_fmr: 0.01\n")},
	{10, "refer_fmr must be larger",
	 GATE_WITH(BASICS "    operations: [compare]\n"
			  "    target_fmr: 0.001\n    refer_fmr: 0.001\n")},
	{9, "galleries has no use",
	 GATE_WITH(BASICS "    operations: [compare]\n"
			  "    galleries: [x]\n"
			  "    target_fmr: 0.001\n")},
	{9, "raw_scores has no use",
	 GATE_WITH(BASICS "    operations: [extract]\n"
			  "    raw_scores: true\n")},
	{8, "operations may be", GATE_WITH(BASICS "    operations: [verfy]\n")},
	{8, "operations needs a list", GATE_WITH(BASICS "    operations: verify\n")},
	{5, "classes needs a list", GATE_WITH("    classes: lane\n")},
	{5, "classes needs a list", GATE_WITH("    classes: []\n")},
	{5, "no name", GATE_WITH("    classes: [\"la/ne\"]\n")},
	{5, "no name", GATE_WITH("    classes: [[lane]]\n")},
	{5, "beside others", GATE_WITH("    classes: [\"*\", lane]\n")},
	{5, "priority may be", GATE_WITH("    priority: high\n")},
	{5, "legal_basis needs a text", GATE_WITH("    legal_basis:\n")},
	{5, "target_fmr needs a rate", GATE_WITH("    target_fmr: 0\n")},
	{5, "target_fmr needs a rate", GATE_WITH("    target_fmr: 0.5abc\n")},
	{5, "target_fmr needs a rate", GATE_WITH("    target_fmr: -0.001\n")},
	{5, "target_fmr needs a rate", GATE_WITH("    target_fmr: 0.2\n")},
	{5, "target_fmr needs a rate", GATE_WITH("    target_fmr: [0.01]\n")},
	{5, "target_fpir needs a rate", GATE_WITH("    target_fpir: 0.9\n")},
	{5, "gallery_size needs a whole", GATE_WITH("    gallery_size: 1e6\n")},
	{5, "gallery_size needs a whole", GATE_WITH("    gallery_size: 0\n")},
	{5, "max_candidates needs a whole", GATE_WITH("    max_candidates: 257\n")},
	{5, "max_candidates needs a whole", GATE_WITH("    max_candidates: 020\n")},
	{5, "attempts needs a limit and a window", GATE_WITH("    attempts: 5\n")},
	{5, "attempts needs a limit and a window", GATE_WITH("    attempts: {limit: 5}\n")},
	{5, "attempts needs a limit and a window", GATE_WITH("    attempts: {window: 5m}\n")},
	{5, "attempts has limit and window", GATE_WITH("    attempts: {limit: 5, per: 1h}\n")},
	{5, "attempts has limit and window", GATE_WITH("    attempts: [5, 1h]\n")},
	{5, "limit needs a whole number from 1 to 1000", GATE_WITH("    attempts: {limit: 0}\n")},
	{5, "window needs a time", GATE_WITH("    attempts: {limit: 1, window: 8d}\n")},
	{5, "retention needs a time from 1s to 36525d", GATE_WITH("    retention: 0s\n")},
	{5, "retention needs a time from 1s to 36525d", GATE_WITH("    retention: [1h]\n")},
	{5, "supersede needs true or false", GATE_WITH("    supersede: arrival\n")},
	{5, "keep_image needs true or false", GATE_WITH("    keep_image: always\n")},
	{9, "keep_image has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n    keep_image: true\n")},
	{9, "supersede has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n    supersede: true\n")},
	{9, "retention has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n    retention: 1h\n")},
	{9, "attempts has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n    attempts: {limit: 1, window: 1h}\n")},
	{5, "max_frames needs a whole", GATE_WITH("    max_frames: 6\n")},
	{5, "max_frames needs a whole", GATE_WITH("    max_frames: 0\n")},
	{9, "max_frames has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n    max_frames: 2\n")},
	{5, "references may be best or fused", GATE_WITH("    references: all\n")},
	{5, "references may be best or fused", GATE_WITH("    references: [best]\n")},
	{9, "references has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n    references: fused\n")},
	{5, "max_references needs a whole", GATE_WITH("    max_references: 17\n")},
	{5, "max_references needs a whole", GATE_WITH("    max_references: 0\n")},
	{10, "max_references has no use",
	 GATE_WITH(BASICS
		   "    operations: [compare]\n    target_fmr: 0.001\n    max_references: 2\n")},
	{5, "reference_types needs a list", GATE_WITH("    reference_types: arrival\n")},
	{5, "reference_types needs a list", GATE_WITH("    reference_types: []\n")},
	{5, "an encounter type has 1 to 32 characters, not \"*\"",
	 GATE_WITH("    reference_types: [\"*\"]\n")},
	{5, "an encounter type has 1 to 32 characters",
	 GATE_WITH("    reference_types: [an-encounter-of-thirty-three-chars]\n")},
	{10, "reference_types has no use",
	 GATE_WITH(BASICS "    operations: [compare]\n    target_fmr: 0.001\n    reference_types: "
			  "[arrival]\n")},
	{5, "search may be", GATE_WITH("    search: certain\n")},
	{5, "pad may be", GATE_WITH("    pad: true\n")},
	{5, "pad may be", GATE_WITH("    pad: [refer]\n")},
	{5, "pad_threshold needs", GATE_WITH("    pad_threshold: 0\n")},
	{5, "pad_threshold needs", GATE_WITH("    pad_threshold: 1\n")},
	{5, "pad_threshold needs", GATE_WITH("    pad_threshold: 50%\n")},
	{4, "needs pad_threshold", GATE_WITH(BASICS "    operations: [analyse]\n    pad: refer\n")},
	{4, "and only then",
	 GATE_WITH(BASICS "    operations: [analyse]\n    pad: off\n    pad_threshold: 0.5\n")},
	{5, "min_quality needs", GATE_WITH("    min_quality: 40\n")},
	{5, "min_quality needs", GATE_WITH("    min_quality: {}\n")},
	{5, "is called \"sharp\"", GATE_WITH("    min_quality: {sharp: 40}\n")},
	{6, "sharpness needs a whole", GATE_WITH("    min_quality:\n      sharpness: 101\n")},
	{6, "sharpness needs a whole", GATE_WITH("    min_quality:\n      sharpness: 0\n")},
	{5, "portrait needs", GATE_WITH("    portrait: strict\n")},
	{9, "min_quality has no use",
	 GATE_WITH(BASICS "    operations: [read]\n    min_quality: {overall: 1}\n"
			  "    galleries: [x]\n")},
	{9, "portrait has no use",
	 GATE_WITH(BASICS "    operations: [analyse]\n    portrait: true\n")},
	{9, "pad has no use",
	 GATE_WITH(BASICS "    operations: [read]\n    pad: off\n    galleries: [x]\n")},
	{5, "raw_scores needs", GATE_WITH("    raw_scores: yes\n")},
	{11, "estate needs a list", HEAD GATE "estate: {}\n"},
	{12, "no such site", HEAD GATE "estate:\n  - {site: a b, class: lane, count: 1}\n"},
	{12, "no such count", HEAD GATE "estate:\n  - {site: a, class: lane, count: 0}\n"},
	{12, "no such number", HEAD GATE "estate:\n  - {site: a, class: lane, number: 1}\n"},
	{12, "needs site, class and count", HEAD GATE "estate:\n  - {site: a, class: lane}\n"},
	{12, "needs site, class and count", HEAD GATE "estate:\n  - pier\n"},
	{12, "needs site, class and count", HEAD GATE "estate:\n  - [pier]\n"},
	{15, "lists lane at pier twice",
	 HEAD GATE ESTATE "  - {site: pier, class: lane, count: 2}\n"},
	{1, "class counter, of which", HEAD GATE "estate:\n  - {site: a, class: lane, count: 1}\n"},
	{10, "the smallest is 0.0001",
	 GATE_WITH(BASICS "    operations: [verify]\n"
			  "    galleries: [x]\n"
			  "    target_fmr: 0.00001\n    max_references: 1\n")},
	{10, "over 4 attempts needs a false match rate of 2.5e-05",
	 GATE_WITH(BASICS "    operations: [verify]\n    galleries: [x]\n"
			  "    target_fmr: 0.0001\n")},
	{11, "over 6 attempts needs a false match rate of 8.34e-05",
	 GATE_WITH(BASICS "    max_frames: 3\n    operations: [verify]\n"
			  "    galleries: [x]\n    target_fmr: 0.0005\n    max_references: 2\n")},
	{11, "over 3 attempts needs a false match rate of 6.67e-05",
	 GATE_WITH(BASICS "    max_frames: 3\n    operations: [verify]\n"
			  "    galleries: [x]\n    target_fmr: 0.0002\n    max_references: 1\n")},
	{11, "over 16 attempts needs a false match rate of 6.25e-05",
	 GATE_WITH(BASICS "    max_frames: 4\n    operations: [verify, compare]\n"
			  "    galleries: [x]\n    target_fmr: 0.001\n")},
	{10, "over 50 references with max_frames 5 needs a false match rate of 4.02e-05",
	 GATE_WITH(BASICS "    max_frames: 5\n    operations: [identify]\n"
			  "    target_fpir: 0.01\n    galleries: [x]\n    gallery_size: 50\n"
			  "    max_candidates: 5\n")},
	{10, "over 1000 references with max_frames 1 needs a false match rate of 1.01e-05",
	 GATE_WITH(BASICS "    operations: [identify]\n    galleries: [x]\n"
			  "    target_fpir: 0.01\n    gallery_size: 1000\n"
			  "    max_candidates: 5\n")},
};

static void test_refused(void **state)
{
	const struct place *place = *state;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		char message[POLICY_MESSAGE_LEN] = "";
		struct policy *policy;
		unsigned line = 0;
		int error = open_text(place, refused[i].text, &policy, message);

		if (error != BM_ECONF)
			fail_msg("case %zu (%s): %d", i, refused[i].reason, error);
		assert_memory_equal(message, place->path, strlen(place->path));
		assert_int_equal(sscanf(message + strlen(place->path), ":%u: ", &line), 1);
		if (!strstr(message, refused[i].reason) || line != refused[i].line)
			fail_msg("case %zu: %s", i, message);
	}
}

/* A zone that begins where nothing was measured could be empty. */
static void test_refers_within_what_was_measured(void **state)
{
	const double first = pack.calibration[0].fmr;
	char message[POLICY_MESSAGE_LEN] = "";
	struct policy *policy;

	pack.calibration[0].fmr = 0.05;
	policy = open_good(*state, HEAD GATE "    refer_fmr: 0.05\n");
	policy_close(policy);
	assert_int_equal(open_text(*state, HEAD GATE "    refer_fmr: 0.06\n", &policy, message),
			 BM_ECONF);
	assert_non_null(strstr(message, ":11: refer_fmr 0.06 is beyond what calibration cal-1 has "
					"measured; the largest is 0.05"));
	pack.calibration[0].fmr = first;
}

static void test_missing_file(void **state)
{
	char message[POLICY_MESSAGE_LEN];
	struct policy *policy;

	(void)state;
	assert_int_equal(policy_open("/nonexistent/p.yaml", &pack, &policy, message), BM_ECONF);
	assert_non_null(strstr(message, "/nonexistent/p.yaml: cannot be read"));
}

/* The file we ship must hold for the lanes and deny them what is not theirs. */
static void test_shipped_policy(void **state)
{
	char message[POLICY_MESSAGE_LEN];
	const struct policy_purpose *p;
	struct policy *policy;
	struct pack *shipped;

	(void)state;
	if (pack_open("build/packs/faceplugin-0.0.1", false, &shipped, message))
		fail_msg("%s", message);
	if (policy_open("config/policy.yaml", shipped, &policy, message))
		fail_msg("%s", message);
	assert_int_equal(policy_decide(policy, "biomatch://example/lw/echannel-departure/1",
				       "border-departure", POLICY_VERIFY, "arrivals", &p),
			 0);
	assert_int_equal(policy_decide(policy, "biomatch://example/lw/echannel-departure/1",
				       "border-departure", POLICY_IDENTIFY, "arrivals", &p),
			 BM_EDENIED);
	assert_int_equal(policy_decide(policy, "biomatch://example/hq/passport-application-kiosk/3",
				       "passport-photo", POLICY_COMPARE, NULL, &p),
			 0);
	assert_int_equal(policy_decide(policy, "biomatch://example/hq/passport-application-kiosk/3",
				       "passport-photo", POLICY_ENROL, "arrivals", &p),
			 BM_EDENIED);
	assert_int_equal(policy_decide(policy, "biomatch://example/hq/admin/1", "administration",
				       POLICY_ADMIN, NULL, &p),
			 0);
	policy_close(policy);
	if (policy_open("config/hongkong.yaml", shipped, &policy, message))
		fail_msg("%s", message);
	assert_int_equal(policy_decide(policy, "biomatch://hongkong/lo-wu/echannel-departure/82",
				       "departure", POLICY_VERIFY, "arrivals", &p),
			 0);
	assert_int_equal(policy_decide(policy, "biomatch://hongkong/lo-wu/echannel-departure/83",
				       "departure", POLICY_VERIFY, "arrivals", &p),
			 BM_EPEER);
	policy_close(policy);
	pack_close(shipped);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_endpoint),
		cmocka_unit_test(test_operation_names_differ),
		cmocka_unit_test(test_search_fmr),
		cmocka_unit_test_setup_teardown(test_purpose_carries_its_options, setup, teardown),
		cmocka_unit_test_setup_teardown(test_denies_by_default, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_quality, setup, teardown),
		cmocka_unit_test_setup_teardown(test_estate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refers_within_what_was_measured, setup,
						teardown),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_shipped_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
