/*
 * A gallery against a list in memory that is searched by brute force: the same
 * subjects, encounters, order and bits of the score after any history of puts,
 * deletes, sealing, moving, closing and opening. As with the writer, each change
 * has a transaction inside that of its group, and some are undone.
 *
 *   SEARCH_GALLERIES=N  makes so many galleries [100]
 */
#include <stdlib.h>

#include "biomatch/parse.h"
#include "store.h"

#include "../../../src/gallery/store.h"

#define MAX_ENTRIES 2000
#define GALLERIES   100
#define STEPS       160

/* One encounter that should be there. */
struct entry {
	char subject[16], encounter[16], type[8], site[8];
	int64_t captured_ms, expires_ms;
	float given[STORE_DIM];
	float vector[STORE_DIM]; /* rotated */
	uint64_t row;            /* from note_rows */
};

struct oracle {
	struct entry entries[MAX_ENTRIES];
	size_t n;
	uint64_t next_name;
	struct db_txn group; /* open while it has a handle */
};

static void end_group(struct oracle *o)
{
	if (o->group.handle)
		assert_int_equal(db_commit(&o->group), 0);
}

/* True when the change is kept. */
static bool change_or_undo(struct test_store *s, struct oracle *o, uint64_t *state,
			   const struct gallery_change *change)
{
	bool keep = test_random(state) % 8;
	struct gallery_outcome outcome;
	struct db_txn txn;

	if (!o->group.handle)
		assert_int_equal(db_begin_write(s->db, &o->group), 0);
	assert_int_equal(db_begin_nested(&o->group, &txn), 0);
	assert_int_equal(gallery_apply(s->store, &txn, change, &outcome), 0);
	if (keep)
		assert_int_equal(db_commit(&txn), 0);
	else
		db_abort(&txn);
	return keep;
}

static void rotate(struct test_store *s, const float *in, float *out)
{
	assert_int_equal(rotation_apply(s->store, 1, 0, in, STORE_DIM, out), 0);
}

static void random_put(struct test_store *s, struct oracle *o, uint64_t *state)
{
	struct entry *e = &o->entries[o->n];
	struct gallery_change change = {.kind = GALLERY_PUT, .gallery = "g", .dim = STORE_DIM};

	test_vector(state, e->given, STORE_DIM);
	if (o->n && test_random(state) % 4 == 0) /* a tie, to the bit */
		memcpy(e->given, o->entries[test_random(state) % o->n].given, sizeof(e->given));
	snprintf(e->subject, sizeof(e->subject), "s%u", (unsigned)(test_random(state) % 60));
	snprintf(e->encounter, sizeof(e->encounter), "e%u", (unsigned)o->next_name++);
	snprintf(e->type, sizeof(e->type), "t%u", (unsigned)(test_random(state) % 3));
	snprintf(e->site, sizeof(e->site), "x%u", (unsigned)(test_random(state) % 3));
	e->captured_ms = (int64_t)(test_random(state) % 1000);
	e->expires_ms =
		test_random(state) % 4 ? GALLERY_NEVER : (int64_t)(test_random(state) % 2000);
	strcpy(change.encounter.id, e->encounter);
	strcpy(change.encounter.type, e->type);
	strcpy(change.encounter.site, e->site);
	change.encounter.captured_ms = e->captured_ms;
	change.encounter.expires_ms = e->expires_ms;
	change.subject = e->subject;
	change.embedding = e->given;
	rotate(s, e->given, e->vector);
	o->n += change_or_undo(s, o, state, &change);
}

static void remove_entries(struct oracle *o, const char *subject, const char *encounter)
{
	size_t kept = 0;

	for (size_t i = 0; i < o->n; i++) {
		if (!strcmp(o->entries[i].subject, subject) &&
		    (!encounter || !strcmp(o->entries[i].encounter, encounter)))
			continue;
		if (kept != i)
			o->entries[kept] = o->entries[i];
		kept++;
	}
	o->n = kept;
}

static void random_delete(struct test_store *s, struct oracle *o, uint64_t *state)
{
	struct gallery_change change = {.gallery = "g"};
	char subject[16], encounter[16];
	size_t i;

	if (!o->n)
		return;
	i = test_random(state) % o->n;
	strcpy(subject, o->entries[i].subject);
	strcpy(encounter, o->entries[i].encounter);
	change.subject = subject;
	change.kind = test_random(state) % 2 ? GALLERY_DELETE_SUBJECT : GALLERY_DELETE_ENCOUNTER;
	strcpy(change.encounter.id, encounter);
	if (change_or_undo(s, o, state, &change))
		remove_entries(o, subject,
			       change.kind == GALLERY_DELETE_SUBJECT ? NULL : encounter);
}

/* Ties go to the older row, and upkeep may have moved any. */
static void note_rows(struct test_store *s, struct oracle *o, struct db_txn *txn)
{
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
	struct subject subject;

	for (size_t i = 0; i < o->n; i++) {
		assert_int_equal(subject_pseudonym(s->store, 1, o->entries[i].subject, pseudonym),
				 0);
		assert_int_equal(subject_read(txn, 1, pseudonym, &subject), 0);
		for (uint16_t e = 0; e < subject.n; e++) {
			if (!strcmp(subject.encounters[e].id, o->entries[i].encounter))
				o->entries[i].row = subject.encounters[e].row;
		}
	}
}

static bool listed(const char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(list[i], text))
			return true;
	}
	return !n;
}

static bool matches(const struct entry *e, const struct gallery_search *search)
{
	const struct gallery_filter *f = search->filter;

	if (e->expires_ms <= search->now_ms || e->row < search->from_row ||
	    (search->other_than && !strcmp(search->other_than, e->subject)))
		return false;
	return !f ||
	       (listed(f->types, f->n_types, e->type) && listed(f->sites, f->n_sites, e->site) &&
		listed(f->subjects, f->n_subjects, e->subject) &&
		e->captured_ms >= f->captured_from_ms && e->captured_ms < f->captured_before_ms);
}

/* The best remaining entry of a subject that was not taken; NULL when none is left. */
static const struct entry *best_left(const struct oracle *o, const struct gallery_search *search,
				     const float *probe, const struct entry **taken, size_t n,
				     float *score)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < o->n; i++) {
		const struct entry *e = &o->entries[i];
		float x = score_dot(e->vector, probe, STORE_DIM);
		bool used = false;

		for (size_t t = 0; t < n; t++)
			used |= !strcmp(taken[t]->subject, e->subject);
		if (used || x < search->threshold || !matches(e, search))
			continue;
		if (!best || x > *score || (x == *score && e->row < best->row)) {
			best = e;
			*score = x;
		}
	}
	return best;
}

static void compare(struct test_store *s, const struct oracle *o,
		    const struct gallery_search *search, const struct gallery_result *result)
{
	const struct entry *taken[16];
	float probe[STORE_DIM];
	size_t n = 0;

	rotate(s, search->probe, probe);
	for (; n < search->max_candidates; n++) {
		float score = 0;

		taken[n] = best_left(o, search, probe, taken, n, &score);
		if (!taken[n])
			break;
		assert_true(n < result->n);
		assert_memory_equal(&result->candidates[n].score, &score, sizeof(score));
		assert_string_equal(result->candidates[n].subject, taken[n]->subject);
		assert_string_equal(result->candidates[n].encounter, taken[n]->encounter);
	}
	assert_int_equal(result->n, n);
}

struct part {
	void (*run)(void *arg);
	void *arg;
};

static void *run_part(void *arg)
{
	const struct part *part = arg;

	part->run(part->arg);
	return NULL;
}

/* Three threads share a pass. */
static void share(void *ctx, void (*part)(void *arg), void *arg)
{
	struct part own = {part, arg};
	pthread_t others[2];

	(void)ctx;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&others[i], NULL, run_part, &own), 0);
	part(arg);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(others[i], NULL), 0);
}

/* A pass of the search and of others like it. */
static void search_together(struct test_store *s, const struct oracle *o, uint64_t *state,
			    struct gallery_snapshot *snapshot, struct gallery_search *search)
{
	static const struct gallery_crew crew = {.share = share};
	struct gallery_search all[GALLERY_MAX_SEARCHES], *list[GALLERY_MAX_SEARCHES];
	size_t m = 1 + test_random(state) % GALLERY_MAX_SEARCHES;
	struct arena arenas[GALLERY_MAX_SEARCHES];
	struct gallery_info info;

	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	for (size_t i = 0; i < m; i++) {
		arena_init(&arenas[i], 1 << 20);
		all[i] = *search;
		all[i].arena = &arenas[i];
		list[i] = &all[i];
		if (i == 0)
			continue;
		all[i].threshold = (float)(test_random(state) % 100) / 200.0f - 0.1f;
		all[i].max_candidates = 1 + test_random(state) % 12;
		all[i].fast = test_random(state) % 2;
		if (o->n)
			all[i].probe = o->entries[test_random(state) % o->n].given;
	}
	gallery_identify(snapshot, &info, list, m, test_random(state) % 2 ? &crew : NULL);
	for (size_t i = 0; i < m; i++) {
		assert_int_equal(all[i].error, 0);
		compare(s, o, &all[i], &all[i].result);
		arena_deinit(&arenas[i]);
	}
}

/* In the open group as the duplicate check does, or in a snapshot after it. */
static void search_and_compare(struct test_store *s, struct oracle *o, uint64_t *state,
			       struct gallery_search *search)
{
	bool inside = o->group.handle && test_random(state) % 2;
	struct gallery_snapshot *snapshot = NULL;
	struct arena arena;

	if (!inside) {
		end_group(o);
		assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	}
	note_rows(s, o, inside ? &o->group : &snapshot->txn);
	if (o->n && test_random(state) % 4 == 0)
		search->from_row = o->entries[test_random(state) % o->n].row;
	if (!inside) {
		search_together(s, o, state, snapshot, search);
		gallery_snapshot_close(snapshot);
		return;
	}
	arena_init(&arena, 1 << 20);
	search->arena = &arena;
	gallery_identify_in(s->store, &o->group, "g", search);
	assert_int_equal(search->error, 0);
	compare(s, o, search, &search->result);
	arena_deinit(&arena);
}

static void random_search(struct test_store *s, struct oracle *o, uint64_t *state)
{
	static const char *const types[] = {"t0", "t2"}, *const sites[] = {"x1"};
	static const char *const subjects[] = {"s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"};
	struct gallery_filter filter = {.captured_from_ms = INT64_MIN,
					.captured_before_ms = INT64_MAX};
	struct gallery_search search = {.dim = STORE_DIM};
	float v[STORE_DIM];

	test_vector(state, v, STORE_DIM);
	if (o->n && test_random(state) % 4 == 0) /* somebody who is there */
		memcpy(v, o->entries[test_random(state) % o->n].given, sizeof(v));
	search.probe = v;
	search.threshold = (float)(test_random(state) % 100) / 200.0f - 0.1f;
	search.max_candidates = 1 + test_random(state) % 12;
	search.now_ms = (int64_t)(test_random(state) % 2000);
	search.fast = test_random(state) % 2;
	if (test_random(state) % 4 == 0)
		search.other_than = "s3";
	if (test_random(state) % 2)
		search.filter = &filter;
	if (test_random(state) % 3 == 0) {
		filter.types = types;
		filter.n_types = 2;
	}
	if (test_random(state) % 3 == 0) {
		filter.sites = sites;
		filter.n_sites = 1;
	}
	if (test_random(state) % 3 == 0) {
		filter.subjects = subjects;
		filter.n_subjects = 8;
	}
	if (test_random(state) % 3 == 0) {
		filter.captured_from_ms = 200;
		filter.captured_before_ms = 700;
	}
	search_and_compare(s, o, state, &search);
}

static void random_step(struct test_store *s, struct oracle *o, uint64_t *state)
{
	switch (test_random(state) % 10) {
	case 0:
	case 1:
		random_delete(s, o, state);
		break;
	case 2:
		random_search(s, o, state);
		break;
	case 3:
		end_group(o);
		if (test_random(state) % 8 == 0) {
			test_store_close(s);
			test_store_open(s, 64 << 20);
		}
		test_maintain(s);
		break;
	default:
		random_put(s, o, state);
	}
}

static uint64_t galleries(void)
{
	const char *text = getenv("SEARCH_GALLERIES");
	uint64_t n = GALLERIES;

	if (text)
		assert_int_equal(parse_uint(text, 1, 1000000, &n), 0);
	return n;
}

/* Many histories end in a gallery with several segments, some of them sparse. */
static void test_equals_brute_force(void **state)
{
	struct oracle *oracle = calloc(1, sizeof(*oracle));
	uint64_t n = galleries();

	(void)state;
	assert_non_null(oracle);
	for (uint64_t seed = 0; seed < n; seed++) {
		struct test_store s;
		uint64_t random = seed;

		memset(oracle, 0, sizeof(*oracle));
		test_store_init(&s, 64 << 20);
		test_create_gallery(&s, "g");
		for (int step = 0; step < STEPS + (int)(seed % 4) * 100; step++)
			random_step(&s, oracle, &random);
		end_group(oracle);
		test_check(&s, 0);
		for (int i = 0; i < 20; i++)
			random_search(&s, oracle, &random);
		test_store_deinit(&s);
	}
	free(oracle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equals_brute_force),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("gallery search", tests, NULL, NULL);
}
