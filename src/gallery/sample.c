#include <assert.h>

#include "biomatch/score.h"
#include "store.h"

/* SplitMix64 (Steele, Lea and Flood, 2014): good enough to draw by, and no system call. */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/*
 * Rows are drawn from here on; those of deleted subjects below are mostly gone. While
 * a gallery is re-encoded, the rows that have been moved stand for all.
 */
static uint64_t first_row(struct db_txn *txn, const struct gallery_record *gallery)
{
	uint64_t first = rows_first(txn, gallery);
	uint64_t start = generation_first_row(row_generation(gallery->next_row));

	return first < start ? start : first;
}

/* A row of the first segment at or above the one drawn: gaps between segments are few. */
static bool read_sealed(struct db_txn *txn, const struct gallery_record *gallery, uint64_t row,
			uint64_t any, struct row *out)
{
	struct segment segment;
	const float *part;
	uint32_t at;

	if (!segment_at_or_after(txn, gallery, row, &segment) || !segment.head.rows)
		return false;
	at = (uint32_t)(any % segment.head.rows);
	if (!(segment.live[at / 64] >> (at % 64) & 1))
		return false;
	part = segment_part(txn, gallery, &segment, at / PART_ROWS);
	if (!part)
		return false;
	out->facts = segment.facts[at];
	out->floats = part + (size_t)(at % PART_ROWS) * gallery->dim;
	return true;
}

/* False where the draw met no row: it was deleted. */
static bool read_drawn(struct db_txn *txn, const struct gallery_record *gallery, uint64_t row,
		       uint64_t any, struct row *out)
{
	struct record_key key = row_key(gallery->id, row);
	struct bytes value;

	if (db_get(txn, DB_TAIL, key_bytes(&key), &value)) {
		if (tail_row_parse(value, gallery->dim, out))
			return false;
	} else if (!read_sealed(txn, gallery, row, any, out)) {
		return false;
	}
	return !row_verify(&out->facts, out->floats, gallery->dim);
}

static bool is_among(uint64_t row, const uint64_t *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (rows[i] == row)
			return true;
	}
	return false;
}

static size_t score_drawn(struct gallery_snapshot *snapshot, const struct gallery_record *gallery,
			  const uint8_t *subject, const float *probe, uint64_t seed, float *scores,
			  size_t n)
{
	struct db_txn *txn = &snapshot->txn;
	uint64_t rows[GALLERY_MAX_SAMPLE], first = first_row(txn, gallery);
	size_t found = 0;
	struct row row;

	if (first >= gallery->next_row)
		return 0;
	for (size_t tries = 0; tries < 2 * n && found < n && !txn->error; tries++) {
		uint64_t at = first + draw(&seed) % (gallery->next_row - first);

		if (!read_drawn(txn, gallery, at, draw(&seed), &row) ||
		    !memcmp(row.facts.subject, subject, KEYS_PSEUDONYM_LEN) ||
		    is_among(row.facts.row, rows, found))
			continue;
		rows[found] = row.facts.row;
		scores[found++] = score_dot(row.floats, probe, gallery->dim);
	}
	return found;
}

int gallery_sample(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		   const char *other_than, const float *probe, size_t dim, uint64_t seed,
		   float *scores, size_t max, size_t *n)
{
	_Alignas(64) float rotated[PACK_MAX_DIM];
	uint8_t subject[KEYS_PSEUDONYM_LEN];
	struct gallery_record record;
	int error = record_find(&snapshot->txn, gallery->name, &record);

	assert(max <= GALLERY_MAX_SAMPLE);
	*n = 0;
	if (!error)
		error = record_fits(snapshot->store, &record, dim);
	if (!error)
		error = subject_pseudonym(snapshot->store, record.id, other_than, subject);
	if (!error)
		error = rotation_apply(snapshot->store, record.id, row_generation(record.next_row),
				       probe, dim, rotated);
	if (error)
		return error;
	*n = score_drawn(snapshot, &record, subject, rotated, seed, scores, max);
	bytes_wipe(rotated, dim * sizeof(float));
	return snapshot->txn.error;
}
