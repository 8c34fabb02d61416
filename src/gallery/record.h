/*
 * The stored formats: little-endian structs without padding, each with an XXH3
 * checksum over everything behind it. Keys are big-endian, so that rows and
 * segments of a gallery stand in order.
 *
 *   galleries  name                              -> struct gallery_record
 *   subjects   gallery, pseudonym                -> struct subject_record, sealed id,
 *                                                   struct stored_encounter ...
 *                                                   or, of one expired, struct subject_mark
 *   holds      gallery, pseudonym                -> struct hold_record, struct stored_hold ...
 *   images     gallery, pseudonym, encounter id  -> struct image_record, sealed picture
 *   tail       gallery, row                      -> VECTOR_OFFSET zero bytes, floats, row_facts
 *   segments   gallery, last row, plane, part    -> see enum plane
 *
 * A segment is found by any of its rows: the first key at or above the row
 * belongs to the segment that holds it.
 */
#ifndef GALLERY_RECORD_H
#define GALLERY_RECORD_H

#include "biomatch/gallery.h"

/*
 * 2 has the change log, 3 the order of expiry, 4 legal holds, 5 kept pictures; an older
 * store is given an empty log, the order and no holds when it is opened to be written.
 */
#define STORE_VERSION     5u
#define STORE_VERSION_OLD 1u

/* In front of vectors, so that in the map they begin on a 64-byte boundary. */
#define VECTOR_OFFSET 48

/* Rows of one F32 part: what the deletion of a row rewrites. */
#define PART_ROWS 64
/*
 * A value of this length or more has pages of its own, so that VECTOR_OFFSET
 * leads to a 64-byte boundary; shorter planes are filled up to it.
 */
#define OWN_PAGES 4096
/* Rows of a segment at most. */
#define SEGMENT_ROWS 4096

/*
 * The highest bits of a row's number are the generation of the key under which its
 * template is rotated. So a gallery that moves to another generation goes on with
 * numbers that begin there, and what is below them is still to be moved.
 */
#define GENERATION_SHIFT 48

static inline unsigned row_generation(uint64_t row)
{
	return (unsigned)(row >> GENERATION_SHIFT);
}

/* The first row number of a generation. */
static inline uint64_t generation_first_row(unsigned generation)
{
	return (uint64_t)generation << GENERATION_SHIFT | 1;
}

struct store_record {
	uint64_t sum;
	uint32_t version;
	uint32_t next_gallery;
	uint8_t key_fingerprint[16];
};

struct gallery_record {
	uint64_t sum;
	uint32_t version, id, dim;
	uint32_t held; /* subjects under legal hold */
	int64_t created_ms;
	uint64_t subjects, encounters, next_row, segments, tail_rows;
	uint64_t dead_rows; /* deleted rows that segments still make room for */
	uint8_t digest[PACK_SHA256_LEN];
	char model[GALLERY_MODEL_MAX];
	char name[GALLERY_NAME_MAX];
};

struct subject_record {
	uint64_t sum;
	uint32_t version;
	uint16_t sealed_len, n;
	/* sealed id, then n stored_encounter */
};

/*
 * What is left of a subject whose last encounter was erased because it had expired:
 * no encounters and no id, so that a verification is told that it was there.
 */
struct subject_mark {
	struct subject_record head;
	int64_t forget_ms; /* when the mark goes, too */
};

struct hold_record {
	uint64_t sum;
	uint32_t version, n;
};

struct stored_hold {
	int64_t placed_ms;
	uint32_t sealed_len;
	uint8_t sealed[GALLERY_MATTER_MAX + KEYS_SEAL_OVERHEAD]; /* the matter */
};

struct image_record {
	uint64_t sum;
	uint32_t version, reserved;
	/* sealed picture */
};

struct stored_encounter {
	uint64_t row;
	int64_t captured_ms, expires_ms, enrolled_ms;
	char id[GALLERY_ENCOUNTER_MAX];
	char site[GALLERY_SITE_MAX];
	char type[GALLERY_TYPE_MAX];
};

/* What filters and results need of a row. */
struct row_facts {
	uint64_t sum;
	uint64_t template_sum; /* of its floats */
	uint64_t row;
	uint8_t subject[KEYS_PSEUDONYM_LEN];
	int64_t captured_ms, expires_ms;
	uint64_t type, site; /* checksums of the texts */
};

/* What a segment's values hold. */
enum plane {
	PLANE_HEAD,  /* struct segment_head, live bits */
	PLANE_FACTS, /* struct row_facts for each row, in order of row */
	PLANE_F32,   /* in parts of PART_ROWS rows: VECTOR_OFFSET zero bytes, floats */
	PLANE_CODES, /* VECTOR_OFFSET zero bytes, sign bits, nibbles (biomatch/code.h) */
};

struct segment_head {
	uint64_t sum;
	uint32_t rows, live;
	uint64_t first_row, last_row;
	int64_t first_expiry_ms; /* of the rows it was sealed with */
				 /* live: one bit a row, in 64-bit words */
};

_Static_assert(sizeof(struct row_facts) == 88, "no padding in stored structs");
_Static_assert(sizeof(struct stored_encounter) == 192, "no padding in stored structs");
_Static_assert(sizeof(struct subject_record) == 16, "no padding in stored structs");
_Static_assert(sizeof(struct subject_mark) == 24, "no padding in stored structs");
_Static_assert(sizeof(struct hold_record) == 16, "no padding in stored structs");
_Static_assert(sizeof(struct image_record) == 16, "no padding in stored structs");
_Static_assert(sizeof(struct stored_hold) == 168, "no padding in stored structs");
_Static_assert(sizeof(struct segment_head) == 40, "no padding in stored structs");

/* A key in the caller's storage. */
struct record_key {
	uint8_t data[4 + KEYS_PSEUDONYM_LEN + GALLERY_ENCOUNTER_MAX];
	size_t len;
};

static inline struct bytes key_bytes(const struct record_key *key)
{
	return (struct bytes){key->data, key->len};
}

static inline struct bytes text_bytes(const char *s)
{
	return (struct bytes){(const uint8_t *)s, strlen(s)};
}

struct record_key subject_key(uint32_t gallery, const uint8_t pseudonym[KEYS_PSEUDONYM_LEN]);
struct record_key row_key(uint32_t gallery, uint64_t row);
struct record_key plane_key(uint32_t gallery, uint64_t last_row, enum plane plane, uint32_t part);
/* True when a tail or segment key belongs to this gallery. */
bool key_in_gallery(struct bytes key, uint32_t gallery);
/* The row, or a segment's last row, in a tail or segment key. */
uint64_t key_row(struct bytes key);

/* The checksum of a struct whose first member is its sum, and of what follows it. */
uint64_t record_sum(const void *record, size_t len);
/* BM_ECORRUPT when a value is shorter than min or its checksum is wrong. */
int record_check(struct bytes value, size_t min) BM_MUST_CHECK;

/* Words of live bits for so many rows. */
static inline size_t live_words(uint32_t rows)
{
	return (rows + 63) / 64;
}

/* Copies a stored text, which has no NUL where it fills its field. */
void text_load(char *to, const char *from, size_t max);
void text_store(char *to, const char *from, size_t max);

#endif
