/*
 * The store behind the door, and what its files share.
 */
#ifndef GALLERY_STORE_H
#define GALLERY_STORE_H

#include <pthread.h>

#include "biomatch/code.h"
#include "record.h"

struct rotation;

struct gallery_store {
	struct db *db;
	const struct keys *keys;
	const struct pack *pack;
	uint32_t segment_rows;
	uint32_t version; /* of the file; an older one that is only read keeps its own */
	bool following;
	pthread_mutex_t lock; /* rotations */
	struct rotation *rotations;
};

struct gallery_snapshot {
	struct gallery_store *store;
	struct db_txn txn;
};

/*
 * Applies the gallery's keyed rotation: out = M in, with M orthonormal, dim x
 * dim, made from a generation of the store key and the gallery's id. Made at first use (dim^3
 * multiplications) and kept. BM_EINVAL when in is not of unit length: bounds and
 * thresholds count on it, and what is not a number would never match.
 */
int rotation_apply(struct gallery_store *store, uint32_t gallery, unsigned generation,
		   const float *in, size_t dim, float *out) BM_MUST_CHECK;
/* The reverse: what rotation_apply made this of. */
int rotation_undo(struct gallery_store *store, uint32_t gallery, unsigned generation,
		  const float *in, size_t dim, float *out) BM_MUST_CHECK;
/* Turns what one generation's rotation made into what another's would have made of the same. */
int rotation_turn(struct gallery_store *store, uint32_t gallery, unsigned from, unsigned to,
		  const float *in, size_t dim, float *out) BM_MUST_CHECK;
/* Makes the rotation now, so that nobody has to wait for it later. */
int rotation_prepare(struct gallery_store *store, uint32_t gallery, unsigned generation,
		     size_t dim) BM_MUST_CHECK;
void rotations_free(struct gallery_store *store);

/* Reads a gallery's record. BM_ENOGALLERY. */
int record_find(struct db_txn *txn, const char *name, struct gallery_record *out) BM_MUST_CHECK;
void record_to_info(const struct gallery_record *record, struct gallery_info *info);
/* What rows and models need of a gallery's record. */
struct gallery_record record_of(const struct gallery_info *info);
/* BM_EMODEL when a vector of the store's pack is not like those of the gallery. */
int record_fits(const struct gallery_store *store, const struct gallery_record *record,
		size_t dim) BM_MUST_CHECK;
/* Writes a gallery's record with a fresh checksum; errors stick to the transaction. */
void record_write(struct db_txn *txn, struct gallery_record *record);

/* Whether changes may be made here: 0, BM_EFOLLOWER, BM_ESUPERSEDED. */
int store_may_change(const struct gallery_store *store, struct db_txn *txn) BM_MUST_CHECK;
/* A number for a new gallery; never given twice. */
int store_take_gallery_id(struct db_txn *txn, uint32_t *id) BM_MUST_CHECK;

/* A subject's pseudonym in a gallery. */
int subject_pseudonym(const struct gallery_store *store, uint32_t gallery, const char *subject,
		      uint8_t out[KEYS_PSEUDONYM_LEN]) BM_MUST_CHECK;

/* A subject in memory. One without encounters is a mark: it had some, and they expired. */
struct subject {
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
	int64_t forget_ms; /* of a mark, when it goes; 0 for none */
	bool is_held;      /* a legal hold stands: nothing of it may be erased */
	uint16_t n;
	struct stored_encounter encounters[GALLERY_MAX_ENCOUNTERS];
};

/* Reads a subject. BM_ENOREFERENCE when there is none. */
int subject_read(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym,
		 struct subject *out) BM_MUST_CHECK;
/* An encounter by its id; NULL where there is none. */
struct stored_encounter *encounter_find(struct subject *subject, const char *id);
/* The facts of an encounter as they are told. */
void encounter_load(const struct stored_encounter *from, struct gallery_encounter *to);
/* The same by its id. */
int subject_read_named(struct gallery_snapshot *snapshot, uint32_t gallery, const char *name,
		       struct subject *out) BM_MUST_CHECK;
/* The subject id that a subject record holds sealed. */
int subject_name(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
		 const uint8_t *pseudonym, char out[GALLERY_SUBJECT_MAX + 1]) BM_MUST_CHECK;
/* Writes a subject; name is NULL to keep the sealed id that is there. */
int subject_write(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
		  const struct subject *subject, const char *name) BM_MUST_CHECK;

void subject_write_mark(struct db_txn *txn, uint32_t gallery, const struct subject *subject);

/* The legal holds on a subject. */
struct holds {
	uint32_t n;
	struct stored_hold holds[GALLERY_MAX_HOLDS];
};
/* Reads a subject's; none where there are none. */
int holds_read(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym,
	       struct holds *out) BM_MUST_CHECK;
/* Places the hold of a change or releases it, and writes what stands then. */
int hold_place(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
	       const uint8_t *pseudonym, struct holds *holds,
	       const struct gallery_change *change) BM_MUST_CHECK;
int hold_release(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
		 const uint8_t *pseudonym, struct holds *holds,
		 const struct gallery_change *change) BM_MUST_CHECK;

/* The picture of an encounter that was just put. BM_EEXISTS, BM_EIMGSIZE. */
int image_keep(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
	       const uint8_t *pseudonym, const struct stored_encounter *encounter,
	       struct bytes picture) BM_MUST_CHECK;
/* Removes what is kept of an encounter, if anything; errors stick to the transaction. */
void image_drop(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym,
		const struct stored_encounter *encounter);
bool image_exists(struct db_txn *txn, uint32_t gallery, const uint8_t *pseudonym,
		  const struct stored_encounter *encounter);
/* The picture in the arena. BM_ENOIMAGE, BM_ECORRUPT. */
int image_read(const struct gallery_store *store, struct db_txn *txn, uint32_t gallery,
	       const uint8_t *pseudonym, const struct stored_encounter *encounter,
	       struct arena *arena, struct bytes *out) BM_MUST_CHECK;

/*
 * The order of expiry keeps a place for each encounter of a subject that no legal hold
 * keeps; errors stick to the transaction.
 */
void expiry_add(struct db_txn *txn, uint32_t gallery, const struct subject *subject,
		const struct stored_encounter *encounter);
void expiry_remove(struct db_txn *txn, uint32_t gallery, const struct subject *subject,
		   const struct stored_encounter *encounter);
bool expiry_has(struct db_txn *txn, uint32_t gallery, const struct subject *subject,
		const struct stored_encounter *encounter);
/* Leaves a mark in the place of a subject, until its forget_ms; and takes it away. */
void expiry_mark(struct db_txn *txn, uint32_t gallery, const struct subject *subject);
void expiry_unmark(struct db_txn *txn, uint32_t gallery, const struct subject *subject);
/* Makes the order for a store that has none. */
int expiry_build(struct db_txn *txn) BM_MUST_CHECK;
/* Counts the places of encounters; *faults is raised by those that are damaged. */
int expiry_check(struct db_txn *txn, uint64_t *places, uint64_t *faults) BM_MUST_CHECK;

/* A row found: borrowed from the map. */
struct row {
	struct row_facts facts;
	const float *floats;
	/* Where floats point when LMDB put a short row on an odd address. */
	float copy[PACK_MAX_DIM];
};

/* Finds a row in the tail or its segment, its checksums verified. BM_ECORRUPT when missing. */
int row_read(struct db_txn *txn, const struct gallery_record *gallery, uint64_t row,
	     struct row *out) BM_MUST_CHECK;
/* Takes a tail value apart; the checksums are for row_verify. */
int tail_row_parse(struct bytes value, size_t dim, struct row *out) BM_MUST_CHECK;
/* The checksum of a row's facts. */
int facts_verify(const struct row_facts *facts) BM_MUST_CHECK;
/* The two checksums of a row. */
int row_verify(const struct row_facts *facts, const float *floats, size_t dim) BM_MUST_CHECK;
void row_seal(struct row_facts *facts, const float *floats, size_t dim);
/* The number of the oldest row; the next one's where there is none. */
uint64_t rows_first(struct db_txn *txn, const struct gallery_record *gallery);
/* Adds a tail row; facts->row is set from the gallery, whose counters are kept. */
void row_append(struct db_txn *txn, struct gallery_record *gallery, struct row_facts *facts,
		const float *floats);
/* Removes a row and its bytes from the tail or its segment. */
int row_remove(struct db_txn *txn, struct gallery_record *gallery, uint64_t row) BM_MUST_CHECK;

/* A segment: what is small copied, the rest borrowed from the map. */
struct segment {
	struct segment_head head;
	uint64_t live[SEGMENT_ROWS / 64];
	const struct row_facts *facts;
};

/*
 * The first segment whose last row is at or above row. False at the end, or with
 * the transaction's error set.
 */
bool segment_at_or_after(struct db_txn *txn, const struct gallery_record *gallery, uint64_t row,
			 struct segment *out);
/* Writes a segment's head and live bits with a fresh checksum. */
void segment_write_head(struct db_txn *txn, uint32_t gallery, const struct segment *segment);
/*
 * The code planes of a segment; false with the transaction's error set, or where
 * this transaction has rewritten them: until its commit they are not in the map
 * and may be off the boundary that scans need.
 */
bool segment_codes(struct db_txn *txn, const struct gallery_record *gallery,
		   const struct segment *segment, struct code_segment *out);
/* The floats of one part of a segment; NULL with the transaction's error set. */
const float *segment_part(struct db_txn *txn, const struct gallery_record *gallery,
			  const struct segment *segment, uint32_t part);
/* Writes the first rows of the tail as a segment. */
int segment_seal(struct db_txn *txn, struct gallery_record *gallery, uint32_t rows) BM_MUST_CHECK;
/*
 * Rows moved in one transaction: some ten milliseconds of the writer's time, and a bound
 * on the pages that LMDB holds, as it keeps those of its largest transaction for good.
 */
#define STEP_ROWS 256
/* Moves rows to the tail, under the key that rows get there. */
int rows_move(struct gallery_store *store, struct db_txn *txn, struct gallery_record *gallery,
	      const uint64_t *rows, size_t n) BM_MUST_CHECK;
/* Moves the first rows of a segment to the tail; it goes with its last one. */
int segment_empty(struct gallery_store *store, struct db_txn *txn, struct gallery_record *gallery,
		  const struct segment *segment) BM_MUST_CHECK;
/* Removes every segment of a gallery that has no subjects. */
void segments_drop(struct db_txn *txn, const struct gallery_record *gallery);

/* Begins to move a gallery to a generation of the key. */
int reencode_begin(struct gallery_store *store, struct db_txn *txn, struct gallery_record *gallery,
		   unsigned generation) BM_MUST_CHECK;
/* Whether rows of an older generation are left, and there is room for them in the tail. */
bool reencode_wanted(const struct gallery_store *store, struct db_txn *txn,
		     const struct gallery_record *gallery);
/* Moves a few of them. */
int reencode_step(struct gallery_store *store, struct db_txn *txn,
		  struct gallery_record *gallery) BM_MUST_CHECK;
/* BM_EKEY unless the key file has the generations that the gallery is under. */
int reencode_check_keys(struct gallery_store *store, struct db_txn *txn,
			const struct gallery_record *gallery) BM_MUST_CHECK;

/* gallery_identify over any transaction. */
void search_rows(struct gallery_store *store, struct db_txn *txn,
		 const struct gallery_record *gallery, struct gallery_search *const *searches,
		 size_t m, const struct gallery_crew *crew);

#endif
