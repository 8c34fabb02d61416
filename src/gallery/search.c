#include <assert.h>

#include "biomatch/score.h"
#include "store.h"

/* A row that is among the best so far. */
struct hit {
	float score;
	uint64_t row;
	uint8_t subject[KEYS_PSEUDONYM_LEN];
};

/* One search under way. */
struct scan {
	struct db_txn *txn;
	const struct gallery_record *gallery;
	const struct gallery_search *search;
	const float *probe; /* rotated */
	uint64_t *types, *sites;
	uint8_t (*subjects)[KEYS_PSEUDONYM_LEN];
	uint8_t other_than[KEYS_PSEUDONYM_LEN];
	struct hit *hits; /* best first, one for a subject */
	size_t n_hits;
	uint64_t compared;
	struct code_query query;
	uint16_t rows[SEGMENT_ROWS];
};

/* What a score must reach to matter: a tie with the last of a full list does not. */
static bool matters(const struct scan *scan, float score)
{
	if (scan->n_hits == scan->search->max_candidates)
		return score > scan->hits[scan->n_hits - 1].score;
	return score >= scan->search->threshold;
}

/*
 * Keeps the best row of each of the best subjects. Rows come in ascending
 * order, so of equal scores the one that is there stays in front.
 */
static void offer(struct scan *scan, const struct row_facts *facts, float score)
{
	size_t from, to = 0;

	for (from = 0; from < scan->n_hits; from++) {
		if (!memcmp(scan->hits[from].subject, facts->subject, KEYS_PSEUDONYM_LEN))
			break;
	}
	if (from < scan->n_hits && scan->hits[from].score >= score)
		return;
	if (from == scan->n_hits && scan->n_hits < scan->search->max_candidates)
		scan->n_hits++;
	else if (from == scan->n_hits)
		from--;
	while (to < from && scan->hits[to].score >= score)
		to++;
	memmove(&scan->hits[to + 1], &scan->hits[to], (from - to) * sizeof(*scan->hits));
	scan->hits[to] = (struct hit){.score = score, .row = facts->row};
	memcpy(scan->hits[to].subject, facts->subject, KEYS_PSEUDONYM_LEN);
}

static bool among(const uint64_t *list, size_t n, uint64_t value)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i] == value)
			return true;
	}
	return !n;
}

static bool subject_wanted(const struct scan *scan, const uint8_t *subject)
{
	const struct gallery_filter *filter = scan->search->filter;

	if (scan->search->other_than && !memcmp(scan->other_than, subject, KEYS_PSEUDONYM_LEN))
		return false;
	if (!filter || !filter->n_subjects)
		return true;
	for (size_t i = 0; i < filter->n_subjects; i++) {
		if (!memcmp(scan->subjects[i], subject, KEYS_PSEUDONYM_LEN))
			return true;
	}
	return false;
}

/* Whether a row is to be searched at all; asked only of rows whose score matters. */
static bool wanted(const struct scan *scan, const struct row_facts *facts)
{
	const struct gallery_filter *filter = scan->search->filter;

	if (facts->expires_ms <= scan->search->now_ms || facts->row < scan->search->from_row ||
	    !subject_wanted(scan, facts->subject))
		return false;
	if (!filter)
		return true;
	return among(scan->types, filter->n_types, facts->type) &&
	       among(scan->sites, filter->n_sites, facts->site) &&
	       facts->captured_ms >= filter->captured_from_ms &&
	       facts->captured_ms < filter->captured_before_ms;
}

static int consider(struct scan *scan, const struct row_facts *facts, const float *floats,
		    float score)
{
	int error;

	if (!matters(scan, score))
		return 0;
	/* Damaged facts could hide a face behind a filter. */
	error = facts_verify(facts);
	if (error || !wanted(scan, facts))
		return error;
	error = row_verify(facts, floats, scan->gallery->dim);
	if (!error)
		offer(scan, facts, score);
	return error;
}

/* The lowest score that matters now. */
static float bar_of(const struct scan *scan)
{
	return scan->n_hits == scan->search->max_candidates ? scan->hits[scan->n_hits - 1].score
							    : scan->search->threshold;
}

/* Scores from their floats the rows whose codes say that they may matter. */
static int rescore(struct scan *scan, const struct segment *segment)
{
	size_t dim = scan->gallery->dim;
	uint32_t part = UINT32_MAX;
	const float *floats = NULL;

	for (size_t i = 0; i < scan->query.n; i++) {
		uint32_t at = scan->query.rows[i];
		const float *row;
		int error;

		if (part != at / PART_ROWS) {
			part = at / PART_ROWS;
			floats = segment_part(scan->txn, scan->gallery, segment, part);
			if (!floats)
				return scan->txn->error;
		}
		row = floats + (size_t)(at % PART_ROWS) * dim;
		error = consider(scan, &segment->facts[at], row, score_dot(row, scan->probe, dim));
		if (error)
			return error;
	}
	return 0;
}

static void take_all_rows(struct code_query *query, const struct segment *segment)
{
	query->n = 0;
	for (uint32_t at = 0; at < segment->head.rows; at++) {
		if (segment->live[at / 64] >> (at % 64) & 1)
			query->rows[query->n++] = (uint16_t)at;
	}
}

static int scan_segment(struct scan *scan, const struct segment *segment)
{
	struct code_segment codes;

	if (!segment->head.live)
		return 0;
	if (segment_codes(scan->txn, scan->gallery, segment, &codes)) {
		scan->query.bar = bar_of(scan);
		code_scan(&codes, &scan->query, 1);
	} else {
		take_all_rows(&scan->query, segment);
	}
	if (scan->txn->error)
		return scan->txn->error;
	scan->compared += segment->head.live;
	return rescore(scan, segment);
}

static int scan_segments(struct scan *scan)
{
	uint64_t row = scan->search->from_row;
	struct segment segment;

	while (segment_at_or_after(scan->txn, scan->gallery, row, &segment)) {
		int error;

		if (scan->search->stop && scan->search->stop(scan->search->stop_ctx))
			return BM_ECANCELLED;
		error = scan_segment(scan, &segment);
		if (error)
			return error;
		row = segment.head.last_row + 1;
	}
	return scan->txn->error;
}

static int scan_tail(struct scan *scan)
{
	struct record_key key = row_key(scan->gallery->id, scan->search->from_row);
	size_t dim = scan->gallery->dim;
	struct bytes found, value;
	struct db_cursor cursor;
	int error = 0;
	bool more;

	db_cursor_open(scan->txn, DB_TAIL, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	for (; !error && more && key_in_gallery(found, scan->gallery->id);
	     more = db_cursor_next(&cursor, &found, &value)) {
		struct row row;

		error = tail_row_parse(value, dim, &row);
		if (error)
			break;
		scan->compared++;
		error = consider(scan, &row.facts, row.floats,
				 score_dot(row.floats, scan->probe, dim));
	}
	db_cursor_close(&cursor);
	return error ? error : scan->txn->error;
}

static uint64_t *text_sums(struct arena *arena, const char *const *texts, size_t n)
{
	uint64_t *sums = arena_alloc(arena, (n + 1) * sizeof(*sums));

	for (size_t i = 0; sums && i < n; i++)
		sums[i] = bytes_checksum(texts[i], strlen(texts[i]));
	return sums;
}

/* Filters are turned into what rows hold: checksums of texts, pseudonyms. */
static int prepare_filter(struct scan *scan, struct gallery_store *store, struct arena *arena)
{
	const struct gallery_filter *filter = scan->search->filter;
	int error = 0;

	if (scan->search->other_than)
		error = subject_pseudonym(store, scan->gallery->id, scan->search->other_than,
					  scan->other_than);
	if (error || !filter)
		return error;
	scan->types = text_sums(arena, filter->types, filter->n_types);
	scan->sites = text_sums(arena, filter->sites, filter->n_sites);
	scan->subjects = arena_alloc(arena, (filter->n_subjects + 1) * sizeof(*scan->subjects));
	if (!scan->types || !scan->sites || !scan->subjects)
		return BM_ENOMEM;
	for (size_t i = 0; !error && i < filter->n_subjects; i++)
		error = subject_pseudonym(store, scan->gallery->id, filter->subjects[i],
					  scan->subjects[i]);
	return error;
}

static int resolve(struct gallery_store *store, const struct scan *scan, const struct hit *hit,
		   struct gallery_candidate *out)
{
	struct subject subject;
	int error = subject_read(scan->txn, scan->gallery->id, hit->subject, &subject);

	if (!error)
		error = subject_name(store, scan->txn, scan->gallery->id, hit->subject,
				     out->subject);
	if (error)
		return error == BM_ENOREFERENCE ? BM_ECORRUPT : error;
	out->score = hit->score;
	for (uint16_t i = 0; i < subject.n; i++) {
		if (subject.encounters[i].row == hit->row) {
			text_load(out->encounter, subject.encounters[i].id, GALLERY_ENCOUNTER_MAX);
			return 0;
		}
	}
	return BM_ECORRUPT;
}

static int resolve_all(struct gallery_store *store, const struct scan *scan, struct arena *arena,
		       struct gallery_result *result)
{
	int error = 0;

	result->compared = scan->compared;
	result->candidates = arena_alloc(arena, (scan->n_hits + 1) * sizeof(*result->candidates));
	if (!result->candidates)
		return BM_ENOMEM;
	for (result->n = 0; !error && result->n < scan->n_hits; result->n++)
		error = resolve(store, scan, &scan->hits[result->n],
				&result->candidates[result->n]);
	return error;
}

int search_rows(struct gallery_store *store, struct db_txn *txn,
		const struct gallery_record *gallery, const struct gallery_search *search,
		struct arena *arena, struct gallery_result *result)
{
	float *probe = arena_alloc(arena, gallery->dim * sizeof(*probe));
	struct code_probe *coded = arena_alloc(arena, sizeof(*coded));
	struct scan *scan = arena_alloc(arena, sizeof(*scan));
	int error = record_fits(store, gallery, search->dim);

	assert(search->max_candidates >= 1 && search->max_candidates <= GALLERY_MAX_CANDIDATES);
	if (error)
		return error;
	if (!probe || !coded || !scan)
		return BM_ENOMEM;
	*scan = (struct scan){.txn = txn, .gallery = gallery, .search = search, .probe = probe};
	scan->query = (struct code_query){.probe = coded,
					  .mode = search->fast ? CODE_FAST : CODE_CERTIFIED,
					  .rows = scan->rows};
	scan->hits = arena_alloc(arena, (search->max_candidates + 1) * sizeof(*scan->hits));
	if (!scan->hits)
		return BM_ENOMEM;
	error = rotation_apply(store, gallery->id, search->probe, gallery->dim, probe);
	if (error)
		return error;
	code_probe_init(coded, probe, gallery->dim);
	error = prepare_filter(scan, store, arena);
	if (!error)
		error = scan_segments(scan);
	if (!error)
		error = scan_tail(scan);
	return error ? error : resolve_all(store, scan, arena, result);
}
