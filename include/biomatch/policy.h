/*
 * Policy: which endpoint may do what, under which purpose, how strictly. What no
 * purpose allows is denied.
 *
 * Thread: a policy is immutable once open; any thread.
 * Errors: BM_ECONF with file, line and reason in the message; BM_EPEER,
 * BM_EPURPOSE, BM_EDENIED from policy_decide.
 * Owns: all strings, until policy_close.
 */
#ifndef BIOMATCH_POLICY_H
#define BIOMATCH_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/batch.h"
#include "biomatch/error.h"
#include "biomatch/pack.h"
#include "biomatch/quality.h"

#define POLICY_MESSAGE_LEN 512
/* The longest candidate list that a purpose may allow. */
#define POLICY_MAX_CANDIDATES 256
/* The most attempts that a window may allow, and the longest window. */
#define POLICY_MAX_ATTEMPTS  1000
#define POLICY_MAX_WINDOW_MS (UINT64_C(7) * 24 * 3600 * 1000)
/* The longest time that a purpose may keep what it enrols. */
#define POLICY_MAX_RETENTION_MS (UINT64_C(36525) * 24 * 3600 * 1000)
/* The most frames that a purpose may allow in one probe. */
#define POLICY_MAX_FRAMES 5
/* The most references of a subject that a purpose may have compared, and how many it has by
 * default. */
#define POLICY_MAX_REFERENCES     16
#define POLICY_DEFAULT_REFERENCES 4

/* What an endpoint may be allowed to do. */
enum policy_operation {
	POLICY_VERIFY,
	POLICY_COMPARE,
	POLICY_IDENTIFY,
	POLICY_ENROL,
	POLICY_READ,   /* GetSubject */
	POLICY_DELETE, /* DeleteEncounter, DeleteSubject */
	POLICY_ANALYSE,
	POLICY_EXTRACT,
	POLICY_ADMIN,  /* galleries */
	POLICY_AUDIT,  /* the audit log */
	POLICY_FOLLOW, /* the change log */
	POLICY_VERIFY_DOCUMENT,
	POLICY_HOLD,  /* legal holds */
	POLICY_IMAGE, /* kept pictures */
	POLICY_OPERATIONS
};

/* The name used in policy files: "verify", "compare", ... */
const char *policy_operation_name(enum policy_operation operation);

/* An endpoint, from its certificate: biomatch://deployment/site/class/number. */
struct policy_endpoint {
	char deployment[64], site[64], class[64], number[32];
};
/* BM_EPEER for anything else. Parts are 1 or more of a-z A-Z 0-9 '-' '_' '.'. */
int policy_endpoint_parse(const char *uri, struct policy_endpoint *out) BM_MUST_CHECK;

/* What happens where a face does not look live. */
enum policy_pad {
	POLICY_PAD_OFF,    /* nobody looks */
	POLICY_PAD_REFER,  /* REFER: an officer looks */
	POLICY_PAD_REJECT, /* the call fails: BM_EATTACK */
};

/* What one purpose allows. A rate that it has no use for is 0. */
struct policy_purpose {
	const char *name;
	const char *legal_basis;
	const char *const *classes; /* endpoint classes; "*" for every one */
	size_t n_classes;
	const char *const *galleries; /* "*" for every one */
	size_t n_galleries;
	uint32_t operations;   /* 1 << enum policy_operation */
	double target_fmr;     /* Verify, Compare, VerifyDocument */
	double refer_fmr;      /* scores between the two are referred; 0 for none */
	double target_fpir;    /* Identify and the duplicate check, over all references searched */
	uint64_t gallery_size; /* references that target_fpir was checked for */
	unsigned max_candidates;
	unsigned max_frames;     /* of one probe */
	unsigned max_references; /* of the subject, that Verify compares with */
	bool fuse_references;    /* into one; else the best of them decides */
	const char *const
		*reference_types; /* encounter types that count; all where there are none */
	size_t n_reference_types;
	/* Of an endpoint on a subject without a match, in a window; a limit of 0 is none. */
	struct {
		unsigned limit;
		uint64_t window_ms;
	} attempts;
	uint64_t retention_ms; /* what it enrols expires so long after capture; 0 for never */
	bool supersede;        /* what it enrols replaces the subject's others of its type */
	bool keep_image;       /* the picture is kept with what it enrols */
	bool raw_scores;
	/* Searches look at sign bits first: faster, a mate missed once in 1e8. */
	bool fast_search;
	enum batch_priority priority;
	enum policy_pad pad;        /* of live captures and pictures to be enrolled */
	double pad_threshold;       /* a liveness below it is an attack */
	struct quality min_quality; /* of live captures and pictures to be enrolled */
	bool portrait;              /* the reference of Compare is held to quality_portrait */
};

struct policy;

/*
 * Reads and checks a policy file against the pack: liveness where it has no model
 * for it is refused, a target that its calibration cannot support is refused with
 * the smallest that it can. target_fpir is
 * checked for a search of gallery_size references; a search of more is for the
 * service to check again. Both are checked for probes of max_frames frames, and
 * target_fmr for subjects of max_references references.
 */
int policy_open(const char *path, const struct pack *pack, struct policy **out,
		char message[POLICY_MESSAGE_LEN]) BM_MUST_CHECK;
void policy_close(struct policy *policy);

/* The version the file gives itself. */
const char *policy_version(const struct policy *policy);
/*
 * The false match rate of one comparison at which a search of n references has
 * this false positive identification rate: 1 - (1 - fmr)^n = fpir, comparisons
 * taken as independent (ISO/IEC 19795-1). n of 0 counts as 1.
 */
double policy_search_fmr(double fpir, uint64_t n);

/*
 * The purpose, when it lets this endpoint do this. gallery is NULL where the
 * operation names none.
 */
int policy_decide(const struct policy *policy, const char *peer_uri, const char *purpose,
		  enum policy_operation operation, const char *gallery,
		  const struct policy_purpose **out) BM_MUST_CHECK;

#endif
