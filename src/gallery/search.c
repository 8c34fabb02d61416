#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "biomatch/priority.h"
#include "biomatch/score.h"
#include "hits.h"
#include "store.h"

_Static_assert(GALLERY_MAX_SEARCHES <= CODE_MAX_PROBES, "a scan takes every search of a pass");

/* A plane in so many is looked for in memory, and after one that was not there so many on end. */
#define LOOK_EVERY 32
#define COLD_FOR   64
/* Segments that are asked for from disk ahead of the scan: 2 to 10 MB. */
#define READ_AHEAD 8

/* Between two offers of the processor: some 0.1 to 0.3 ms of scanning. */
#define OFFER_SEGMENTS 8

/* Rows of the tail that are asked for from memory at once. */
#define TAIL_BATCH 16

/* One search of a pass: what it asks for, turned into what rows hold. */
struct seek {
	struct gallery_search *search;
	/* Rotated as the newest rows are, and as the oldest. */
	float *probes[2];
	struct code_probe *coded[2];
	uint64_t *types, *sites;
	uint8_t (*subjects)[KEYS_PSEUDONYM_LEN];
	uint8_t other_than[KEYS_PSEUDONYM_LEN];
	atomic_bool stopped;
	struct hits best;  /* under the pass's lock */
	uint64_t compared; /* under the pass's lock */
};

/* Searches that go through a gallery together, on one or more threads. */
struct pass {
	struct gallery_store *store;
	const struct gallery_record *gallery;
	const struct db_txn *view; /* the state of the store that all search */
	struct seek *seeks[GALLERY_MAX_SEARCHES];
	size_t m;
	/* Of the key under which rows are; two while the gallery is re-encoded. */
	unsigned generations[2];
	uint64_t first_row;   /* that any of them asks for */
	pthread_mutex_t lock; /* all below */
	struct db_txn *txn;   /* view, for the thread that comes first */
	bool tail_taken;
	uint64_t next_row; /* segments from here on are still to be searched */
	int error;
};

/* One thread's part of a pass. */
struct scan {
	struct pass *pass;
	struct db_txn *txn;
	size_t m; /* seeks that have not been stopped */
	struct seek *seeks[GALLERY_MAX_SEARCHES];
	struct code_query queries[GALLERY_MAX_SEARCHES];
	struct hits best[GALLERY_MAX_SEARCHES];
	uint64_t compared;
	struct segment segment;
	unsigned taken;     /* segments */
	unsigned cold;      /* segments whose planes are still to be looked for in memory */
	uint64_t ahead_row; /* segments before it have been asked for from disk */
};

static bool among(const uint64_t *list, size_t n, uint64_t value)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i] == value)
			return true;
	}
	return !n;
}

static bool subject_wanted(const struct seek *seek, const uint8_t *subject)
{
	const struct gallery_filter *filter = seek->search->filter;

	if (seek->search->other_than && !memcmp(seek->other_than, subject, KEYS_PSEUDONYM_LEN))
		return false;
	if (!filter || !filter->n_subjects)
		return true;
	for (size_t i = 0; i < filter->n_subjects; i++) {
		if (!memcmp(seek->subjects[i], subject, KEYS_PSEUDONYM_LEN))
			return true;
	}
	return false;
}

/* Whether a row is to be searched at all; asked only of rows whose score matters. */
static bool wanted(const struct seek *seek, const struct row_facts *facts)
{
	const struct gallery_filter *filter = seek->search->filter;

	if (facts->expires_ms <= seek->search->now_ms || facts->row < seek->search->from_row ||
	    !subject_wanted(seek, facts->subject))
		return false;
	if (!filter)
		return true;
	return among(seek->types, filter->n_types, facts->type) &&
	       among(seek->sites, filter->n_sites, facts->site) &&
	       facts->captured_ms >= filter->captured_from_ms &&
	       facts->captured_ms < filter->captured_before_ms;
}

/* Which of a seek's probes is like this row. */
static size_t turn_of(const struct pass *pass, uint64_t row)
{
	return row_generation(row) != pass->generations[0];
}

/* A row whose score is known. */
static int consider(struct scan *scan, size_t i, const struct row_facts *facts, const float *floats)
{
	size_t dim = scan->pass->gallery->dim;
	const float *probe = scan->seeks[i]->probes[turn_of(scan->pass, facts->row)];
	struct hit hit = {.score = score_dot(floats, probe, dim), .row = facts->row};
	int error;

	if (!hits_want(&scan->best[i], hit.score, hit.row))
		return 0;
	/* Damaged facts could hide a face behind a filter. */
	error = facts_verify(facts);
	if (error || !wanted(scan->seeks[i], facts))
		return error;
	error = row_verify(facts, floats, dim);
	if (error)
		return error;
	memcpy(hit.subject, facts->subject, KEYS_PSEUDONYM_LEN);
	hits_offer(&scan->best[i], &hit);
	return 0;
}

/* Scores from their floats the rows whose codes say that they may matter. */
static int rescore(struct scan *scan, size_t i)
{
	const struct gallery_record *gallery = scan->pass->gallery;
	const struct code_query *query = &scan->queries[i];
	uint32_t part = UINT32_MAX;
	const float *floats = NULL;
	int error = 0;

	for (size_t r = 0; !error && r < query->n; r++) {
		uint32_t at = query->rows[r];

		if (part != at / PART_ROWS) {
			part = at / PART_ROWS;
			floats = segment_part(scan->txn, gallery, &scan->segment, part);
			if (!floats)
				return scan->txn->error;
		}
		error = consider(scan, i, &scan->segment.facts[at],
				 floats + (size_t)(at % PART_ROWS) * gallery->dim);
	}
	return error;
}

static void take_all_rows(struct code_query *query, const struct segment *segment)
{
	query->n = 0;
	for (uint32_t at = 0; at < segment->head.rows; at++) {
		if (segment->live[at / 64] >> (at % 64) & 1)
			query->rows[query->n++] = (uint16_t)at;
	}
}

static int scan_segment(struct scan *scan)
{
	const struct segment *segment = &scan->segment;
	struct code_segment codes;
	bool coded;
	int error = 0;

	if (!segment->head.live)
		return 0;
	coded = segment_codes(scan->txn, scan->pass->gallery, segment, &codes);
	if (scan->txn->error)
		return scan->txn->error;
	for (size_t i = 0; i < scan->m; i++) {
		scan->queries[i].bar = hits_bar(&scan->best[i]);
		scan->queries[i].probe =
			scan->seeks[i]->coded[turn_of(scan->pass, segment->head.last_row)];
		if (!coded)
			take_all_rows(&scan->queries[i], segment);
	}
	if (coded)
		code_scan(&codes, scan->queries, scan->m);
	scan->compared += segment->head.live;
	for (size_t i = 0; !error && i < scan->m; i++)
		error = rescore(scan, i);
	return error;
}

/* The next segment that no thread has taken yet. */
static bool take_segment(struct scan *scan)
{
	struct pass *pass = scan->pass;
	bool ok;

	pthread_mutex_lock(&pass->lock);
	ok = !pass->error &&
	     segment_at_or_after(scan->txn, pass->gallery, pass->next_row, &scan->segment);
	if (ok)
		pass->next_row = scan->segment.head.last_row + 1;
	pthread_mutex_unlock(&pass->lock);
	return ok;
}

/* Goes on without the searches that nobody waits for any more. */
static bool still_asked(struct scan *scan)
{
	for (size_t i = 0; i < scan->m;) {
		const struct gallery_search *search = scan->seeks[i]->search;

		if (!search->stop || !search->stop(search->stop_ctx)) {
			i++;
			continue;
		}
		atomic_store(&scan->seeks[i]->stopped, true);
		scan->m--;
		scan->seeks[i] = scan->seeks[scan->m];
		scan->queries[i] = scan->queries[scan->m];
		scan->best[i] = scan->best[scan->m];
	}
	return scan->m > 0;
}

/* The plane that is read from end to end: signs, where every search begins with them. */
static struct bytes plane_read(const struct scan *scan, const struct segment *segment,
			       const struct code_segment *codes)
{
	size_t dim = scan->pass->gallery->dim, rows = segment->head.rows;
	size_t signs = code_sign_bytes(rows, dim), all = signs + code_nibble_bytes(rows, dim);
	bool fast = true;

	for (size_t i = 0; i < scan->m; i++)
		fast = fast && scan->queries[i].mode == CODE_FAST && !scan->queries[i].rest;
	return (struct bytes){codes->signs, fast ? signs : all};
}

/*
 * Where planes are not in memory, those of the next segments are read from disk while this
 * one is scanned, so that a search runs at the speed of the disk. It is noticed
 * by a look at a segment now and then; for a while after that every one is looked at.
 */
static int read_ahead(struct scan *scan)
{
	uint64_t row = scan->segment.head.last_row + 1;
	struct code_segment codes;
	struct segment ahead;
	struct bytes plane;

	if (!scan->cold && scan->taken++ % LOOK_EVERY)
		return 0;
	scan->cold -= scan->cold > 0;
	if (scan->ahead_row < row)
		scan->ahead_row = row;
	while (scan->ahead_row - row < (uint64_t)READ_AHEAD * SEGMENT_ROWS &&
	       segment_at_or_after(scan->txn, scan->pass->gallery, scan->ahead_row, &ahead) &&
	       segment_codes(scan->txn, scan->pass->gallery, &ahead, &codes)) {
		plane = plane_read(scan, &ahead, &codes);
		if (!db_is_resident(plane)) {
			db_prefetch(plane);
			scan->cold = COLD_FOR;
		}
		if (!scan->cold)
			break;
		scan->ahead_row = ahead.head.last_row + 1;
	}
	return scan->txn->error;
}

static int scan_segments(struct scan *scan)
{
	unsigned n = 0;
	int error = 0;

	while (!error && still_asked(scan) && take_segment(scan)) {
		error = read_ahead(scan);
		if (!error)
			error = scan_segment(scan);
		if (++n % OFFER_SEGMENTS == 0)
			priority_offer();
	}
	return error ? error : scan->txn->error;
}

/* Rows of the tail, each on a page of its own, on their way from memory. */
struct tail_rows {
	size_t n;
	struct bytes values[TAIL_BATCH];
};

/* Takes the next rows, and asks for where their floats and facts begin: the reads overlap. */
static bool take_tail_rows(struct scan *scan, struct db_cursor *cursor, struct tail_rows *rows,
			   struct bytes *found, struct bytes *value)
{
	bool more = true;

	rows->n = 0;
	while (more && rows->n < TAIL_BATCH && key_in_gallery(*found, scan->pass->gallery->id)) {
		__builtin_prefetch(value->data + VECTOR_OFFSET);
		__builtin_prefetch(value->data + VECTOR_OFFSET + 64);
		__builtin_prefetch(value->data + value->len - sizeof(struct row_facts));
		rows->values[rows->n++] = *value;
		more = db_cursor_next(cursor, found, value);
	}
	return more && rows->n == TAIL_BATCH;
}

static int scan_tail_rows(struct scan *scan, const struct tail_rows *rows)
{
	int error = 0;

	for (size_t r = 0; !error && r < rows->n; r++) {
		struct row row;

		error = tail_row_parse(rows->values[r], scan->pass->gallery->dim, &row);
		scan->compared++;
		for (size_t i = 0; !error && i < scan->m; i++)
			error = consider(scan, i, &row.facts, row.floats);
	}
	return error;
}

static int scan_tail(struct scan *scan)
{
	struct record_key key = row_key(scan->pass->gallery->id, scan->pass->first_row);
	struct bytes found, value;
	struct db_cursor cursor;
	struct tail_rows rows;
	int error = 0;
	bool more;

	db_cursor_open(scan->txn, DB_TAIL, &cursor);
	more = db_cursor_seek(&cursor, key_bytes(&key), &found, &value);
	while (!error && more) {
		more = take_tail_rows(scan, &cursor, &rows, &found, &value);
		error = scan_tail_rows(scan, &rows);
	}
	db_cursor_close(&cursor);
	return error ? error : scan->txn->error;
}

static void free_scan(struct scan *scan)
{
	if (!scan)
		return;
	for (size_t i = 0; i < scan->pass->m; i++) {
		free(scan->queries[i].rows);
		free(scan->best[i].list);
	}
	free(scan);
}

static struct scan *new_scan(struct pass *pass)
{
	struct scan *scan = calloc(1, sizeof(*scan));
	bool ok = scan;

	if (!scan)
		return NULL;
	scan->pass = pass;
	scan->m = pass->m;
	for (size_t i = 0; i < pass->m; i++) {
		struct seek *seek = pass->seeks[i];
		uint16_t *rows = malloc(SEGMENT_ROWS * sizeof(*rows));

		scan->seeks[i] = seek;
		scan->queries[i] = (struct code_query){
			.mode = seek->search->fast ? CODE_FAST : CODE_CERTIFIED,
			.rows = rows,
		};
		scan->best[i] = (struct hits){
			.list = calloc(seek->best.max, sizeof(struct hit)),
			.max = seek->best.max,
			.threshold = seek->best.threshold,
		};
		ok = ok && rows && scan->best[i].list;
	}
	if (!ok) {
		free_scan(scan);
		return NULL;
	}
	return scan;
}

static void merge(struct scan *scan)
{
	for (size_t i = 0; i < scan->m; i++) {
		scan->seeks[i]->compared += scan->compared;
		for (size_t h = 0; h < scan->best[i].n; h++)
			hits_offer(&scan->seeks[i]->best, &scan->best[i].list[h]);
	}
}

static int search_part(struct pass *pass, struct db_txn *txn)
{
	struct scan *scan = new_scan(pass);
	bool tail;
	int error = 0;

	if (!scan)
		return BM_ENOMEM;
	scan->txn = txn;
	pthread_mutex_lock(&pass->lock);
	tail = !pass->tail_taken;
	pass->tail_taken = true;
	pthread_mutex_unlock(&pass->lock);
	if (tail && still_asked(scan))
		error = scan_tail(scan);
	if (!error)
		error = scan_segments(scan);
	pthread_mutex_lock(&pass->lock);
	merge(scan);
	pthread_mutex_unlock(&pass->lock);
	free_scan(scan);
	return error;
}

/* One thread's part, whichever thread it is: the first takes the pass's transaction. */
static void take_part(void *arg)
{
	struct pass *pass = arg;
	struct db_txn *txn, own;
	int error = 0;

	pthread_mutex_lock(&pass->lock);
	txn = pass->txn;
	pass->txn = NULL;
	pthread_mutex_unlock(&pass->lock);
	if (txn) {
		error = search_part(pass, txn);
	} else if (!db_begin_beside(pass->view, &own)) {
		error = search_part(pass, &own);
		db_abort(&own);
	}
	if (!error)
		return;
	pthread_mutex_lock(&pass->lock);
	if (!pass->error)
		pass->error = error;
	pthread_mutex_unlock(&pass->lock);
}

static uint64_t *text_sums(struct arena *arena, const char *const *texts, size_t n)
{
	uint64_t *sums = arena_alloc(arena, (n + 1) * sizeof(*sums));

	for (size_t i = 0; sums && i < n; i++)
		sums[i] = bytes_checksum(texts[i], strlen(texts[i]));
	return sums;
}

/* Filters are turned into what rows hold: checksums of texts, pseudonyms. */
static int prepare_filter(const struct pass *pass, struct seek *seek)
{
	const struct gallery_search *search = seek->search;
	const struct gallery_filter *filter = search->filter;
	struct arena *arena = search->arena;
	int error = 0;

	if (search->other_than)
		error = subject_pseudonym(pass->store, pass->gallery->id, search->other_than,
					  seek->other_than);
	if (error || !filter)
		return error;
	seek->types = text_sums(arena, filter->types, filter->n_types);
	seek->sites = text_sums(arena, filter->sites, filter->n_sites);
	seek->subjects = arena_alloc(arena, (filter->n_subjects + 1) * sizeof(*seek->subjects));
	if (!seek->types || !seek->sites || !seek->subjects)
		return BM_ENOMEM;
	for (size_t i = 0; !error && i < filter->n_subjects; i++)
		error = subject_pseudonym(pass->store, pass->gallery->id, filter->subjects[i],
					  seek->subjects[i]);
	return error;
}

static int resolve(const struct pass *pass, struct db_txn *txn, const struct hit *hit,
		   struct gallery_candidate *out)
{
	struct subject subject;
	int error = subject_read(txn, pass->gallery->id, hit->subject, &subject);

	if (!error)
		error = subject_name(pass->store, txn, pass->gallery->id, hit->subject,
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

static int finish(const struct pass *pass, struct db_txn *txn, struct seek *seek)
{
	struct gallery_result *result = &seek->search->result;
	int error = pass->error;

	if (!error && atomic_load(&seek->stopped))
		error = BM_ECANCELLED;
	if (error)
		return error;
	*result = (struct gallery_result){.compared = seek->compared};
	result->candidates =
		arena_alloc(seek->search->arena, (seek->best.n + 1) * sizeof(*result->candidates));
	if (!result->candidates)
		return BM_ENOMEM;
	for (; !error && result->n < seek->best.n; result->n++)
		error = resolve(pass, txn, &seek->best.list[result->n],
				&result->candidates[result->n]);
	return error;
}

static int turn_probe(const struct pass *pass, struct seek *seek, size_t i)
{
	const struct gallery_search *search = seek->search;
	size_t dim = pass->gallery->dim;
	int error;

	seek->probes[i] = arena_alloc(search->arena, dim * sizeof(float));
	seek->coded[i] = arena_alloc(search->arena, sizeof(*seek->coded[i]));
	if (!seek->probes[i] || !seek->coded[i])
		return BM_ENOMEM;
	error = rotation_apply(pass->store, pass->gallery->id, pass->generations[i], search->probe,
			       dim, seek->probes[i]);
	if (!error)
		code_probe_init(seek->coded[i], seek->probes[i], dim);
	return error;
}

static int turn_probes(const struct pass *pass, struct seek *seek)
{
	int error = turn_probe(pass, seek, 0);

	seek->probes[1] = seek->probes[0];
	seek->coded[1] = seek->coded[0];
	if (!error && pass->generations[1] != pass->generations[0])
		error = turn_probe(pass, seek, 1);
	return error;
}

static int prepare(struct pass *pass, struct seek *seek)
{
	const struct gallery_search *search = seek->search;
	int error = record_fits(pass->store, pass->gallery, search->dim);

	assert(search->max_candidates >= 1 && search->max_candidates <= GALLERY_MAX_CANDIDATES);
	if (error)
		return error;
	seek->best = (struct hits){
		.list = arena_alloc(search->arena, search->max_candidates * sizeof(struct hit)),
		.max = search->max_candidates,
		.threshold = search->threshold,
	};
	if (!seek->best.list)
		return BM_ENOMEM;
	error = turn_probes(pass, seek);
	return error ? error : prepare_filter(pass, seek);
}

/* Takes a search into the pass, unless it cannot be made. */
static void add(struct pass *pass, struct gallery_search *search)
{
	struct seek *seek = arena_alloc(search->arena, sizeof(*seek));

	search->error = BM_ENOMEM;
	if (!seek)
		return;
	seek->search = search;
	search->error = prepare(pass, seek);
	if (search->error)
		return;
	pass->seeks[pass->m++] = seek;
	if (search->from_row < pass->first_row)
		pass->first_row = search->from_row;
}

void search_rows(struct gallery_store *store, struct db_txn *txn,
		 const struct gallery_record *gallery, struct gallery_search *const *searches,
		 size_t m, const struct gallery_crew *crew)
{
	struct pass pass = {.store = store,
			    .gallery = gallery,
			    .view = txn,
			    .txn = txn,
			    .lock = PTHREAD_MUTEX_INITIALIZER,
			    .first_row = UINT64_MAX};

	assert(m > 0 && m <= GALLERY_MAX_SEARCHES);
	pass.generations[0] = row_generation(gallery->next_row);
	pass.generations[1] = row_generation(rows_first(txn, gallery));
	for (size_t i = 0; i < m; i++)
		add(&pass, searches[i]);
	pass.next_row = pass.first_row;
	if (pass.m && crew)
		crew->share(crew->ctx, take_part, &pass);
	else if (pass.m)
		take_part(&pass);
	for (size_t i = 0; i < pass.m; i++)
		pass.seeks[i]->search->error = finish(&pass, txn, pass.seeks[i]);
	pthread_mutex_destroy(&pass.lock);
}
