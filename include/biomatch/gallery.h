/*
 * Galleries: subjects, their encounters and reference templates, kept in LMDB
 * and scored where they lie.
 *
 * A template is a row. Fresh rows stand one by one in the tail; the writer
 * seals full runs of them into segments of SIMD-friendly planes. A row's number
 * never changes meaning: numbers grow, and a row that moves gets a new one.
 * Templates are stored under the gallery's keyed rotation, which keeps every
 * score; subject ids as a keyed pseudonym and a sealed copy.
 *
 * Thread: the store from any; a snapshot from one thread at a time; apply and
 * maintain only from the writer, inside its transaction.
 * Errors: BM_EINVAL for a vector that is not of unit length, BM_ENOGALLERY, BM_ENOREFERENCE,
 * BM_EEXPIRED, BM_ENOENCOUNTER, BM_EHELD, BM_ENOHOLD, BM_ENOIMAGE, BM_EIMGSIZE, BM_EKEYNEWEST,
 * BM_EREENCODING, BM_EEXISTS, BM_ENOTEMPTY, BM_ELIMIT, BM_EMODEL, BM_ECORRUPT, and those of db.
 * Owns: results are copied into the caller's arena or structs.
 */
#ifndef BIOMATCH_GALLERY_H
#define BIOMATCH_GALLERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/arena.h"
#include "biomatch/bytes.h"
#include "biomatch/changes.h"
#include "biomatch/db.h"
#include "biomatch/error.h"
#include "biomatch/keys.h"
#include "biomatch/pack.h"
#include "biomatch/requests.h"

#define GALLERY_NAME_MAX      64
#define GALLERY_SUBJECT_MAX   128
#define GALLERY_ENCOUNTER_MAX 64
#define GALLERY_TYPE_MAX      32
#define GALLERY_SITE_MAX      64
#define GALLERY_MODEL_MAX     96
/* What a legal hold is for. */
#define GALLERY_MATTER_MAX 128
/* Of a picture that is kept, so that with all around it it fits what clients take at once. */
#define GALLERY_IMAGE_MAX ((size_t)2 << 20)
/* Holds that may stand on one subject. */
#define GALLERY_MAX_HOLDS 8
/* Encounters one subject may have. */
#define GALLERY_MAX_ENCOUNTERS 64
/* Candidates one search may return. */
#define GALLERY_MAX_CANDIDATES 256
#define GALLERY_NEVER          INT64_MAX
/* How long it is remembered that a subject was there, of whom all has expired and is erased. */
#define GALLERY_MARK_MS (INT64_C(90) * 24 * 3600 * 1000)

struct gallery_store;
struct gallery_snapshot;

/* A gallery's facts at one moment. */
struct gallery_info {
	uint32_t id;
	char name[GALLERY_NAME_MAX + 1];
	char model[GALLERY_MODEL_MAX + 1];
	uint8_t digest[PACK_SHA256_LEN]; /* of the models that its templates are from */
	uint32_t dim;
	int64_t created_ms;
	uint64_t subjects, encounters, segments, tail_rows;
	uint64_t held;           /* subjects under legal hold */
	uint64_t next_row;       /* rows at or above it came later than this snapshot */
	unsigned key_generation; /* of the store's key, for its rotation; the first is 0 */
};

/* The facts of one encounter; strings end with NUL. */
struct gallery_encounter {
	char id[GALLERY_ENCOUNTER_MAX + 1];
	char type[GALLERY_TYPE_MAX + 1];
	char site[GALLERY_SITE_MAX + 1];
	int64_t captured_ms, expires_ms, enrolled_ms;
	bool has_image; /* its picture is kept; told, not taken */
};

/* A subject's encounters, oldest first. */
struct gallery_subject {
	size_t n;
	struct gallery_encounter *encounters;
	bool is_held; /* a legal hold stands: nothing of it is erased */
};

/* A legal hold. */
struct gallery_hold {
	char matter[GALLERY_MATTER_MAX + 1]; /* the case or order that it is for */
	int64_t placed_ms;
};

/* Narrows a search; empty lists and open times do not narrow. */
struct gallery_filter {
	const char *const *types;
	size_t n_types;
	const char *const *sites;
	size_t n_sites;
	const char *const *subjects;
	size_t n_subjects;
	int64_t captured_from_ms, captured_before_ms; /* INT64_MIN, INT64_MAX for open */
};

/* A subject found by a search, at its best encounter. */
struct gallery_candidate {
	float score;
	char subject[GALLERY_SUBJECT_MAX + 1];
	char encounter[GALLERY_ENCOUNTER_MAX + 1];
};

struct gallery_result {
	struct gallery_candidate *candidates; /* best first; ties by older row first */
	size_t n;
	uint64_t compared; /* rows scored */
};

/* One search and what came of it. */
struct gallery_search {
	const float *probe; /* unit length, as the model gave it */
	size_t dim;
	float threshold;                     /* candidates reach it */
	size_t max_candidates;               /* 1..GALLERY_MAX_CANDIDATES */
	int64_t now_ms;                      /* encounters expired by then are left out */
	const struct gallery_filter *filter; /* NULL for none */
	const char *other_than;              /* leaves out this subject; NULL for none */
	uint64_t from_row;                   /* only rows at or above it; 0 for all */
	bool fast;                           /* CODE_FAST instead of CODE_CERTIFIED */
	/* Polled between segments, from any thread; a true ends the search with BM_ECANCELLED. */
	bool (*stop)(void *ctx);
	void *stop_ctx;
	struct arena *arena; /* its own: of the result and what is worked out for it */

	int error;
	struct gallery_result result; /* where error is 0 */
};

/* Searches that may go through a gallery in one pass. */
#define GALLERY_MAX_SEARCHES 16

/*
 * Threads that help with a pass: share runs part(arg) on this thread and on any others,
 * at the same time, and returns when all have returned.
 */
struct gallery_crew {
	void (*share)(void *ctx, void (*part)(void *arg), void *arg);
	void *ctx;
};

/*
 * Opens or makes the store in a database; an older one is brought up to this version. keys and pack
 * are borrowed for the store's life. BM_ESTOREVER, BM_ESTORENEW, BM_EKEY when the store was made
 * otherwise.
 */
int gallery_store_open(struct db *db, const struct keys *keys, const struct pack *pack,
		       struct gallery_store **out) BM_MUST_CHECK;
void gallery_store_close(struct gallery_store *store);
/* Whether the store follows another one, unless it was promoted; before there are writers. */
void gallery_store_set_following(struct gallery_store *store, bool following);
/* Rows of the segments sealed from here on, a multiple of 64 up to 4096; for tests. */
void gallery_store_set_segment_rows(struct gallery_store *store, uint32_t rows);

/* A consistent view; keep it for one call at most. */
int gallery_snapshot_open(struct gallery_store *store, struct gallery_snapshot **out) BM_MUST_CHECK;
void gallery_snapshot_close(struct gallery_snapshot *snapshot);

int gallery_find(struct gallery_snapshot *snapshot, const char *name,
		 struct gallery_info *out) BM_MUST_CHECK;
/* Up to max galleries whose names sort after the given one ("" for the first). */
int gallery_list(struct gallery_snapshot *snapshot, const char *after, struct gallery_info *out,
		 size_t max, size_t *n) BM_MUST_CHECK;
int gallery_subject(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		    const char *subject, struct arena *arena,
		    struct gallery_subject *out) BM_MUST_CHECK;

/* The legal holds on a subject, oldest first; their matters are to be wiped. BM_ENOREFERENCE. */
int gallery_holds(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		  const char *subject, struct gallery_hold out[GALLERY_MAX_HOLDS],
		  size_t *n) BM_MUST_CHECK;

/*
 * The picture that is kept of an encounter, in the arena. BM_ENOREFERENCE, BM_ENOENCOUNTER,
 * BM_ENOIMAGE.
 */
int gallery_image(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		  const char *subject, const char *encounter, struct arena *arena,
		  struct bytes *out) BM_MUST_CHECK;

/* A subject with what is held of it but its pictures, its templates as the model gave them. */
struct gallery_dumped {
	char id[GALLERY_SUBJECT_MAX + 1];
	size_t n, n_holds;
	const struct gallery_encounter *encounters; /* oldest first */
	const float *templates;                     /* n x dim */
	struct gallery_hold holds[GALLERY_MAX_HOLDS];
};
/*
 * Shows every subject of a gallery, until visit gives an error, which is given back. What
 * it is shown is wiped behind it. Marks of subjects that have expired are not shown: nobody
 * knows their ids.
 */
int gallery_dump(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		 int (*visit)(void *ctx, const struct gallery_dumped *subject),
		 void *ctx) BM_MUST_CHECK;

/* The references that are still under an older generation of the key than the gallery. */
int gallery_rows_to_reencode(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
			     uint64_t *rows) BM_MUST_CHECK;

#define GALLERY_MAX_REFERENCES 16
/* Which of a subject's references a probe is compared with, and how. */
struct gallery_references {
	const char *const *types; /* encounter types that count; all where there are none */
	size_t n_types;
	unsigned max; /* the newest so many by time of capture; 1 to GALLERY_MAX_REFERENCES */
	bool fused;   /* one score, with their sum scaled to unit length, not the best of each */
};

/*
 * Scores a probe against a subject's references that count and have not expired.
 * best names the one that is most like the probe by itself, with its score or, where
 * they are fused, with that of all. BM_ENOREFERENCE; BM_EEXPIRED where all that
 * count have, or all have and were erased.
 */
int gallery_verify(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		   const char *subject, const struct gallery_references *references,
		   const float *probe, size_t dim, int64_t now_ms, struct gallery_candidate *best,
		   uint64_t *compared) BM_MUST_CHECK;

#define GALLERY_MAX_SAMPLE 64
/*
 * Scores a probe against up to max references of other subjects, drawn at random
 * from the seed: what strangers score. Different ones, as far as they are found
 * in twice as many draws; a small gallery has fewer. Who is enrolled under
 * several ids may meet themselves.
 */
int gallery_sample(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		   const char *other_than, const float *probe, size_t dim, uint64_t seed,
		   float *scores, size_t max, size_t *n) BM_MUST_CHECK;

/*
 * Exhaustive searches of one gallery in one pass: for each exactly the subjects
 * whose best reference reaches its threshold, the best max_candidates of them. crew is NULL
 * for this thread alone. What came of each is in its error and result.
 */
void gallery_identify(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		      struct gallery_search *const *searches, size_t m,
		      const struct gallery_crew *crew);

enum gallery_change_kind {
	GALLERY_CREATE,           /* gallery */
	GALLERY_DROP,             /* gallery */
	GALLERY_PUT,              /* gallery, subject, encounter, embedding */
	GALLERY_DELETE_ENCOUNTER, /* gallery, subject, encounter.id */
	GALLERY_DELETE_SUBJECT,   /* gallery, subject */
	GALLERY_ROTATE,           /* gallery: to the newest generation of the key */
	GALLERY_EXPIRE,           /* gallery, subject, encounter.id; BM_EINVAL before its time */
	GALLERY_HOLD,             /* gallery, subject, matter; BM_EEXISTS where it stands */
	GALLERY_RELEASE,          /* gallery, subject, matter; BM_ENOHOLD */
	GALLERY_KEEP_IMAGE, /* gallery, subject, encounter.id, image; BM_EEXISTS, BM_EIMGSIZE */
	GALLERY_CHANGE_KINDS
};

struct gallery_replica;

/* One change; strings and the embedding are borrowed while it is applied. */
struct gallery_change {
	enum gallery_change_kind kind;
	const char *gallery;
	const char *subject;
	const char *matter; /* of a hold or its release; else NULL */
	struct gallery_encounter encounter;
	const float *embedding; /* unit length, dim elements */
	size_t dim;
	struct bytes image; /* the picture as it came */
	int64_t now_ms;
	/* A put deletes the subject's other encounters of its type, unless a hold keeps them. */
	bool supersede;
	const struct gallery_replica *replica; /* gallery_follow's; NULL for a change made here */
};

/* What a change did. */
struct gallery_outcome {
	uint32_t encounters;         /* deleted; left after DELETE_ENCOUNTER; superseded by PUT */
	uint32_t holds;              /* that stand after HOLD and RELEASE */
	struct gallery_info gallery; /* after CREATE and ROTATE */
	char encounter[GALLERY_ENCOUNTER_MAX + 1]; /* after PUT: the id given or made */
};

/*
 * The only function that changes stored galleries; appends the change to the change
 * log. Deletions of what a legal hold keeps are refused: BM_EHELD. A store that follows refuses
 * what was made here: BM_EFOLLOWER, BM_ESUPERSEDED.
 */
int gallery_apply(struct gallery_store *store, struct db_txn *txn,
		  const struct gallery_change *change,
		  struct gallery_outcome *outcome) BM_MUST_CHECK;
/*
 * The name by which what tells of a subject goes with it: for requests_remember, whose
 * tag is then an encounter's id.
 */
int gallery_owner(const struct gallery_store *store, struct db_txn *txn, const char *gallery,
		  const char *subject, uint8_t out[REQUESTS_OWNER_LEN]) BM_MUST_CHECK;

/*
 * Applies the next change of a followed log. BM_EDIVERGED when it does not come next,
 * or leads elsewhere than it did there: the store must not be used further.
 */
int gallery_follow(struct gallery_store *store, struct db_txn *txn,
		   const struct changes_entry *entry) BM_MUST_CHECK;

/* An encounter whose time is over; the subject's id is to be wiped. */
struct gallery_expired {
	char gallery[GALLERY_NAME_MAX + 1];
	char subject[GALLERY_SUBJECT_MAX + 1];
	char encounter[GALLERY_ENCOUNTER_MAX + 1];
};
/* Whether gallery_next_expired has anything to do. */
bool gallery_has_expired(struct gallery_snapshot *snapshot, int64_t now_ms);
/*
 * The encounter that has expired first and is still there, for GALLERY_EXPIRE.
 * Forgets, on the way, subjects of whom nothing is left. BM_ENOREFERENCE for none, and in
 * a store that follows: there the leader's changes do it.
 */
int gallery_next_expired(struct gallery_store *store, struct db_txn *txn, int64_t now_ms,
			 struct gallery_expired *out) BM_MUST_CHECK;

/*
 * Searches inside the write transaction, for the duplicate check: sees every
 * change applied before. Same contract as gallery_identify.
 */
void gallery_identify_in(struct gallery_store *store, struct db_txn *txn, const char *gallery,
			 struct gallery_search *search);

/*
 * One bounded step of upkeep: seals a full run of tail rows, moves the rows of a sparse
 * segment, or moves rows to the generation of the key that their gallery was given. *more tells
 * that there is more to do.
 */
int gallery_maintain(struct gallery_store *store, struct db_txn *txn, bool *more) BM_MUST_CHECK;

/* Checks every record, row and count; calls report for each fault found. */
int gallery_check(struct gallery_snapshot *snapshot, void (*report)(void *ctx, const char *fault),
		  void *ctx, uint64_t *faults) BM_MUST_CHECK;

#endif
