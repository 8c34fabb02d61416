/*
 * Legal holds: what they keep, that expiry acts on decisions all the same, what
 * is due when the last one is released, and that another store follows.
 */
#include "store.h"

#include <string.h>

struct pair {
	struct test_store s, follower;
};

static int init(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	test_store_init(&p->s, 64 << 20);
	test_create_gallery(&p->s, "g");
	*state = p;
	return 0;
}

static int deinit(void **state)
{
	test_store_deinit(&((struct pair *)*state)->s);
	free(*state);
	return 0;
}

static int change_as(struct test_store *s, const struct gallery_change *like,
		     struct gallery_outcome *outcome)
{
	struct gallery_change change = *like;
	float v[STORE_DIM];
	uint64_t seed = 5;

	test_vector(&seed, v, STORE_DIM);
	change.gallery = "g";
	change.embedding = v;
	change.dim = STORE_DIM;
	return test_apply(s, &change, outcome);
}

static void put(struct test_store *s, const char *subject, const char *encounter,
		int64_t expires_ms)
{
	struct gallery_change change = {.kind = GALLERY_PUT,
					.subject = subject,
					.encounter = {.expires_ms = expires_ms},
					.supersede = *encounter == '+'};
	struct gallery_outcome outcome;

	strcpy(change.encounter.id, encounter);
	assert_int_equal(change_as(s, &change, &outcome), 0);
}

static int hold(struct test_store *s, const char *subject, const char *matter)
{
	struct gallery_change change = {.kind = GALLERY_HOLD, .subject = subject, .matter = matter};
	struct gallery_outcome outcome;

	return change_as(s, &change, &outcome);
}

static int release(struct test_store *s, const char *subject, const char *matter)
{
	struct gallery_change change = {
		.kind = GALLERY_RELEASE, .subject = subject, .matter = matter};
	struct gallery_outcome outcome;

	return change_as(s, &change, &outcome);
}

static int delete (struct test_store *s, enum gallery_change_kind kind, const char *subject,
		   const char *encounter, int64_t now_ms)
{
	struct gallery_change change = {.kind = kind, .subject = subject, .now_ms = now_ms};
	struct gallery_outcome outcome;

	strcpy(change.encounter.id, encounter);
	return change_as(s, &change, &outcome);
}

/* The subject's encounters, or a negative error. */
static int encounters(struct test_store *s, const char *subject, bool *is_held)
{
	struct gallery_snapshot *snapshot;
	struct gallery_subject found = {0};
	struct gallery_info info;
	struct arena arena;
	int error;

	arena_init(&arena, 1 << 20);
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	error = gallery_subject(snapshot, &info, subject, &arena, &found);
	gallery_snapshot_close(snapshot);
	arena_deinit(&arena);
	*is_held = found.is_held;
	return error ? error : (int)found.n;
}

static void assert_subject(struct test_store *s, const char *subject, int n, bool held)
{
	bool is_held;

	assert_int_equal(encounters(s, subject, &is_held), n);
	assert_int_equal(is_held, held);
	test_check(s, 0);
}

static uint64_t held(struct test_store *s)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	gallery_snapshot_close(snapshot);
	return info.held;
}

/* The matters of the holds that stand, each with a comma behind it. */
static void assert_matters(struct test_store *s, const char *subject, const char *expected)
{
	struct gallery_hold holds[GALLERY_MAX_HOLDS];
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	char all[2048] = "";
	size_t n;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	assert_int_equal(gallery_holds(snapshot, &info, subject, holds, &n), 0);
	gallery_snapshot_close(snapshot);
	for (size_t i = 0; i < n; i++)
		strcat(strcat(all, holds[i].matter), ",");
	assert_string_equal(all, expected);
}

/* Erases what is due until nothing is; how many there were. */
static int expire_all(struct test_store *s, int64_t now_ms)
{
	struct gallery_expired next;
	struct gallery_snapshot *snapshot;
	struct db_txn txn;
	int n = 0, error;
	bool any;

	for (;; n++) {
		assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
		any = gallery_has_expired(snapshot, now_ms);
		gallery_snapshot_close(snapshot);
		assert_int_equal(db_begin_write(s->db, &txn), 0);
		error = gallery_next_expired(s->store, &txn, now_ms, &next);
		db_abort(&txn);
		assert_int_equal(any, !error);
		if (error)
			return n;
		assert_int_equal(delete (s, GALLERY_EXPIRE, next.subject, next.encounter, now_ms),
				 0);
	}
}

static void test_nothing_is_deleted(void **state)
{
	struct pair *p = *state;
	struct test_store *s = &p->s;

	put(s, "ada", "1", GALLERY_NEVER);
	put(s, "ada", "2", GALLERY_NEVER);
	put(s, "bob", "1", GALLERY_NEVER);
	assert_int_equal(hold(s, "eve", "case 1"), BM_ENOREFERENCE);
	assert_int_equal(release(s, "ada", "case 1"), BM_ENOHOLD);
	assert_int_equal(hold(s, "ada", "case 1"), 0);
	assert_int_equal(hold(s, "ada", "case 1"), BM_EEXISTS);
	assert_subject(s, "ada", 2, true);
	assert_subject(s, "bob", 1, false);
	assert_int_equal(held(s), 1);
	assert_int_equal(delete (s, GALLERY_DELETE_SUBJECT, "ada", "", 0), BM_EHELD);
	assert_int_equal(delete (s, GALLERY_DELETE_ENCOUNTER, "ada", "1", 0), BM_EHELD);
	assert_int_equal(delete (s, GALLERY_DELETE_ENCOUNTER, "ada", "9", 0), BM_EHELD);
	/* What comes later is kept, too, and replaces nothing. */
	put(s, "ada", "+3", GALLERY_NEVER);
	assert_subject(s, "ada", 3, true);
	assert_int_equal(delete (s, GALLERY_DELETE_SUBJECT, "bob", "", 0), 0);
	assert_int_equal(release(s, "ada", "case 2"), BM_ENOHOLD);
	assert_int_equal(release(s, "ada", "case 1"), 0);
	assert_int_equal(held(s), 0);
	put(s, "ada", "+4", GALLERY_NEVER);
	assert_subject(s, "ada", 1, false);
	assert_int_equal(delete (s, GALLERY_DELETE_SUBJECT, "ada", "", 0), 0);
	assert_subject(s, "ada", BM_ENOREFERENCE, false);
}

static void test_each_matter_has_its_own(void **state)
{
	struct test_store *s = &((struct pair *)*state)->s;
	char matter[GALLERY_MATTER_MAX + 1];

	put(s, "ada", "1", GALLERY_NEVER);
	assert_matters(s, "ada", "");
	memset(matter, 'm', GALLERY_MATTER_MAX);
	matter[GALLERY_MATTER_MAX] = '\0';
	for (int i = 0; i < GALLERY_MAX_HOLDS; i++) {
		matter[0] = (char)('a' + i);
		assert_int_equal(hold(s, "ada", matter), 0);
	}
	assert_int_equal(hold(s, "ada", "one more"), BM_ELIMIT);
	assert_int_equal(held(s), 1);
	for (int i = 0; i < GALLERY_MAX_HOLDS - 1; i++) {
		matter[0] = (char)('a' + i);
		assert_int_equal(release(s, "ada", matter), 0);
		assert_subject(s, "ada", 1, true);
	}
	assert_int_equal(hold(s, "ada", "second"), 0);
	matter[0] = 'h';
	assert_int_equal(release(s, "ada", matter), 0);
	assert_matters(s, "ada", "second,");
	/* Whoever opens the store again finds them. */
	test_store_close(s);
	test_store_open(s, 64 << 20);
	assert_matters(s, "ada", "second,");
	assert_int_equal(delete (s, GALLERY_DELETE_SUBJECT, "ada", "", 0), BM_EHELD);
	assert_int_equal(release(s, "ada", "second"), 0);
	assert_subject(s, "ada", 1, false);
}

static void test_what_is_due_waits_for_the_release(void **state)
{
	struct test_store *s = &((struct pair *)*state)->s;

	put(s, "ada", "1", 100);
	put(s, "ada", "2", 300);
	put(s, "bob", "1", 100);
	assert_int_equal(hold(s, "ada", "case"), 0);
	put(s, "ada", "3", 200);
	assert_int_equal(expire_all(s, 250), 1);
	assert_subject(s, "ada", 3, true);
	assert_int_equal(hold(s, "bob", "case"), BM_ENOREFERENCE);
	assert_int_equal(release(s, "ada", "case"), 0);
	assert_int_equal(expire_all(s, 250), 2);
	assert_subject(s, "ada", 1, false);
	assert_int_equal(expire_all(s, 300), 1);
	assert_subject(s, "ada", BM_ENOREFERENCE, false);
}

/* As bytes that are found nowhere but in the sealed text. */
static void test_nothing_is_left_of_the_matter(void **state)
{
	static const char matter[] = "the matter that nobody may read";
	struct test_store *s = &((struct pair *)*state)->s;
	uint8_t *data;
	char path[128];
	size_t len;

	put(s, "ada", "1", GALLERY_NEVER);
	assert_int_equal(hold(s, "ada", matter), 0);
	test_store_path(s, "store/data.mdb", path);
	assert_int_equal(file_read(path, 1 << 26, &data, &len), 0);
	assert_null(memmem(data, len, matter, strlen(matter)));
	free(data);
}

static void copy_store(struct pair *p)
{
	char path[128], command[512];

	p->follower = p->s;
	strcpy(p->follower.dir, "/dev/shm/biomatch-store-XXXXXX");
	assert_non_null(mkdtemp(p->follower.dir));
	snprintf(command, sizeof(command), "cp -r %s/store %s/key %s/", p->s.dir, p->s.dir,
		 p->follower.dir);
	assert_int_equal(system(command), 0);
	test_store_path(&p->follower, "key", path);
	assert_int_equal(keys_open(path, &p->follower.keys), 0);
	test_store_open(&p->follower, 64 << 20);
	gallery_store_set_following(p->follower.store, true);
}

static void catch_up(struct pair *p)
{
	struct changes_place end, at;
	struct changes_entry entry;
	struct db_txn from, to;

	assert_int_equal(db_begin_read(p->s.db, &from), 0);
	assert_int_equal(changes_head(&from, &end), 0);
	for (;;) {
		assert_int_equal(db_begin_write(p->follower.db, &to), 0);
		assert_int_equal(changes_head(&to, &at), 0);
		if (at.sequence == end.sequence)
			break;
		assert_int_equal(changes_get(&from, at.sequence + 1, &entry), 0);
		assert_int_equal(gallery_follow(p->follower.store, &to, &entry), 0);
		assert_int_equal(db_commit(&to), 0);
	}
	assert_memory_equal(&at, &end, sizeof(at));
	db_abort(&to);
	db_abort(&from);
}

static void test_followed(void **state)
{
	struct pair *p = *state;

	copy_store(p);
	put(&p->s, "ada", "1", 100);
	assert_int_equal(hold(&p->s, "ada", "case 1"), 0);
	assert_int_equal(hold(&p->s, "ada", "case 2"), 0);
	put(&p->s, "ada", "2", 200);
	catch_up(p);
	assert_matters(&p->follower, "ada", "case 1,case 2,");
	assert_subject(&p->follower, "ada", 2, true);
	assert_int_equal(held(&p->follower), 1);
	assert_int_equal(release(&p->s, "ada", "case 1"), 0);
	catch_up(p);
	assert_matters(&p->follower, "ada", "case 2,");
	assert_int_equal(release(&p->s, "ada", "case 2"), 0);
	assert_int_equal(expire_all(&p->s, 150), 1);
	catch_up(p);
	assert_subject(&p->follower, "ada", 1, false);
	assert_int_equal(held(&p->follower), 0);
	test_store_deinit(&p->follower);
}

/* Whoever follows late finds holds on what was erased since: their own, and those of a former
 * encounter. */
static void test_followed_late(void **state)
{
	struct pair *p = *state;

	copy_store(p);
	put(&p->s, "ada", "1", GALLERY_NEVER);
	assert_int_equal(hold(&p->s, "ada", "case"), 0);
	assert_int_equal(release(&p->s, "ada", "case"), 0);
	assert_int_equal(delete (&p->s, GALLERY_DELETE_SUBJECT, "ada", "", 0), 0);
	put(&p->s, "bob", "1", GALLERY_NEVER);
	assert_int_equal(hold(&p->s, "bob", "case"), 0);
	put(&p->s, "bob", "2", 100);
	assert_int_equal(release(&p->s, "bob", "case"), 0);
	assert_int_equal(delete (&p->s, GALLERY_DELETE_ENCOUNTER, "bob", "1", 0), 0);
	assert_int_equal(hold(&p->s, "bob", "another"), 0);
	catch_up(p);
	assert_subject(&p->follower, "ada", BM_ENOREFERENCE, false);
	assert_subject(&p->follower, "bob", 1, true);
	assert_matters(&p->follower, "bob", "another,");
	test_store_deinit(&p->follower);
}

/* Places taken back, and holds lost, behind the store's back. */
static void test_damage_is_found(void **state)
{
	struct test_store *s = &((struct pair *)*state)->s;
	struct bytes first = {(const uint8_t *)"", 1}, key, value;
	struct db_cursor cursor;
	uint8_t damaged[512];
	struct db_txn txn;

	put(s, "ada", "1", 100);
	assert_int_equal(hold(s, "ada", "case"), 0);
	test_check(s, 0);
	assert_int_equal(db_begin_write(s->db, &txn), 0);
	db_cursor_open(&txn, DB_HOLDS, &cursor);
	assert_true(db_cursor_seek(&cursor, first, &key, &value));
	assert_true(value.len <= sizeof(damaged));
	memcpy(damaged, value.data, value.len);
	damaged[value.len - 1] ^= 1;
	db_put(&txn, DB_HOLDS, key, (struct bytes){damaged, value.len});
	db_cursor_close(&cursor);
	assert_int_equal(db_commit(&txn), 0);
	test_check(s, 1);
	assert_int_equal(release(s, "ada", "case"), BM_ECORRUPT);
	assert_int_equal(delete (s, GALLERY_DELETE_SUBJECT, "ada", "", 0), BM_EHELD);
	assert_int_equal(db_begin_write(s->db, &txn), 0);
	db_cursor_open(&txn, DB_HOLDS, &cursor);
	assert_true(db_cursor_seek(&cursor, first, &key, &value));
	db_cursor_delete(&cursor);
	db_cursor_close(&cursor);
	assert_int_equal(db_commit(&txn), 0);
	/* The number of the held, a place that is missing, and the sum of the places. */
	test_check(s, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_is_deleted, init, deinit),
		cmocka_unit_test_setup_teardown(test_each_matter_has_its_own, init, deinit),
		cmocka_unit_test_setup_teardown(test_what_is_due_waits_for_the_release, init,
						deinit),
		cmocka_unit_test_setup_teardown(test_nothing_is_left_of_the_matter, init, deinit),
		cmocka_unit_test_setup_teardown(test_followed, init, deinit),
		cmocka_unit_test_setup_teardown(test_followed_late, init, deinit),
		cmocka_unit_test_setup_teardown(test_damage_is_found, init, deinit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
