/*
 * The change log: gap-free, checksummed, erased and pruned; and a second store
 * that follows it to the same galleries.
 */
#include "store.h"

#include "biomatch/changes.h"

#define SUBJECTS 90

struct pair {
	struct test_store leader, follower;
};

static int init(void **state)
{
	struct pair *p = malloc(sizeof(*p));

	test_store_init(&p->leader, 64 << 20);
	test_create_gallery(&p->leader, "g");
	*state = p;
	return 0;
}

static int deinit(void **state)
{
	struct pair *p = *state;

	test_store_deinit(&p->leader);
	free(p);
	return 0;
}

/* A copy of the leader's store, as a backup makes it. */
static void copy_store(struct pair *p)
{
	char command[256];

	test_store_close(&p->leader);
	p->follower = (struct test_store){.pack = p->leader.pack};
	strcpy(p->follower.dir, "/dev/shm/biomatch-store-XXXXXX");
	assert_non_null(mkdtemp(p->follower.dir));
	snprintf(command, sizeof(command), "cp -r %s/. %s", p->leader.dir, p->follower.dir);
	assert_int_equal(system(command), 0);
	test_store_path(&p->follower, "key", command);
	assert_int_equal(keys_open(command, &p->follower.keys), 0);
	test_store_open(&p->leader, 64 << 20);
	test_store_open(&p->follower, 64 << 20);
	gallery_store_set_following(p->follower.store, true);
}

static int change_at(struct test_store *s, enum gallery_change_kind kind, unsigned n,
		     const char *encounter, int64_t expires_ms)
{
	struct gallery_change c = {.kind = kind,
				   .gallery = "g",
				   .dim = STORE_DIM,
				   .now_ms = 1000 + n,
				   .encounter = {.expires_ms = expires_ms, .type = "t"}};
	struct gallery_outcome outcome;
	uint64_t seed = n;
	float v[STORE_DIM];
	char subject[32];

	snprintf(subject, sizeof(subject), "subject-%u", n);
	test_vector(&seed, v, STORE_DIM);
	c.subject = subject;
	c.embedding = v;
	strcpy(c.encounter.id, encounter);
	return test_apply(s, &c, &outcome);
}

static int change(struct test_store *s, enum gallery_change_kind kind, unsigned n,
		  const char *encounter)
{
	return change_at(s, kind, n, encounter, GALLERY_NEVER);
}

static void put(struct test_store *s, unsigned n, const char *encounter)
{
	assert_int_equal(change(s, GALLERY_PUT, n, encounter), 0);
}

static struct changes_place head(struct test_store *s)
{
	struct changes_place place;
	struct db_txn txn;

	assert_int_equal(db_begin_read(s->db, &txn), 0);
	assert_int_equal(changes_head(&txn, &place), 0);
	db_abort(&txn);
	return place;
}

static void check_log(struct test_store *s, uint64_t expected_entries, uint64_t expected_faults)
{
	uint64_t entries = 0, faults = 0;
	struct db_txn txn;

	assert_int_equal(db_begin_read(s->db, &txn), 0);
	assert_int_equal(changes_check(&txn, s->keys, &entries, &faults), 0);
	db_abort(&txn);
	assert_int_equal(entries, expected_entries);
	assert_int_equal(faults, expected_faults);
}

/* How many of the log's changes have lost their bodies. */
static unsigned erased(struct test_store *s)
{
	struct changes_place end = head(s);
	struct changes_entry entry;
	struct db_txn txn;
	unsigned n = 0;

	assert_int_equal(db_begin_read(s->db, &txn), 0);
	for (uint64_t i = 1; i <= end.sequence; i++) {
		assert_int_equal(changes_get(&txn, i, &entry), 0);
		n += !entry.sealed.len;
	}
	db_abort(&txn);
	return n;
}

static int follow_one(struct pair *p, uint64_t sequence)
{
	struct changes_entry entry;
	struct db_txn from, to;
	int error;

	assert_int_equal(db_begin_read(p->leader.db, &from), 0);
	assert_int_equal(changes_get(&from, sequence, &entry), 0);
	assert_int_equal(db_begin_write(p->follower.db, &to), 0);
	error = gallery_follow(p->follower.store, &to, &entry);
	if (error)
		db_abort(&to);
	else
		error = db_commit(&to);
	db_abort(&from);
	return error;
}

static void catch_up(struct pair *p)
{
	uint64_t end = head(&p->leader).sequence;

	for (uint64_t i = head(&p->follower).sequence + 1; i <= end; i++)
		assert_int_equal(follow_one(p, i), 0);
	test_maintain(&p->follower);
}

static int verify(struct test_store *s, unsigned n, struct gallery_candidate *best)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	uint64_t compared, seed = n;
	float v[STORE_DIM];
	char subject[32];
	int error;

	snprintf(subject, sizeof(subject), "subject-%u", n);
	test_vector(&seed, v, STORE_DIM);
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	error = gallery_verify(snapshot, &info, subject, &any_reference, v, STORE_DIM, 0, best,
			       &compared);
	gallery_snapshot_close(snapshot);
	return error;
}

static bool verifies(struct test_store *s, unsigned n, struct gallery_candidate *best)
{
	return !verify(s, n, best);
}

/* The same subjects with the same scores, bit for bit. */
static void assert_same(struct pair *p)
{
	struct changes_place a = head(&p->leader), b = head(&p->follower);

	assert_memory_equal(&a, &b, sizeof(a));
	for (unsigned i = 0; i < SUBJECTS; i++) {
		struct gallery_candidate x, y;
		bool there = verifies(&p->leader, i, &x);

		assert_int_equal(verifies(&p->follower, i, &y), there);
		if (there)
			assert_memory_equal(&x.score, &y.score, sizeof(x.score));
	}
	test_check(&p->follower, 0);
	check_log(&p->follower, b.sequence, 0);
}

static void close_follower(struct pair *p)
{
	test_store_deinit(&p->follower);
}

static void test_every_change_is_logged(void **state)
{
	struct pair *p = *state;
	uint64_t began = head(&p->leader).sequence;

	assert_int_equal(began, 1); /* the gallery */
	for (unsigned i = 0; i < 5; i++)
		put(&p->leader, i, "e");
	assert_int_equal(change(&p->leader, GALLERY_DELETE_SUBJECT, 9, ""), BM_ENOREFERENCE);
	assert_int_equal(change(&p->leader, GALLERY_PUT, 1, "e"), BM_EEXISTS);
	assert_int_equal(head(&p->leader).sequence, began + 5);
	check_log(&p->leader, 6, 0);
}

static void test_erased_with_its_subject(void **state)
{
	struct pair *p = *state;

	put(&p->leader, 1, "a");
	put(&p->leader, 1, "b");
	put(&p->leader, 2, "a");
	assert_int_equal(change(&p->leader, GALLERY_DELETE_ENCOUNTER, 1, "a"), 0);
	assert_int_equal(erased(&p->leader), 1);
	assert_int_equal(change(&p->leader, GALLERY_DELETE_SUBJECT, 1, ""), 0);
	assert_int_equal(erased(&p->leader), 2);
	assert_true(db_wants_scrub(p->leader.db));
	assert_int_equal(change(&p->leader, GALLERY_DELETE_ENCOUNTER, 2, "a"), 0);
	assert_int_equal(erased(&p->leader), 3);
	check_log(&p->leader, 7, 0);
}

static void test_followed_to_the_same(void **state)
{
	struct pair *p = *state;

	for (unsigned i = 0; i < 20; i++)
		put(&p->leader, i, "a");
	test_maintain(&p->leader);
	copy_store(p);
	for (unsigned i = 20; i < SUBJECTS; i++)
		put(&p->leader, i, "a");
	put(&p->leader, 30, "b");
	test_maintain(&p->leader);
	catch_up(p);
	assert_same(p);
	for (unsigned i = 0; i < SUBJECTS; i += 3)
		assert_int_equal(change(&p->leader, GALLERY_DELETE_SUBJECT, i, ""), 0);
	assert_int_equal(change(&p->leader, GALLERY_DELETE_ENCOUNTER, 31, "a"), 0);
	test_create_gallery(&p->leader, "h");
	catch_up(p);
	assert_same(p);
	close_follower(p);
}

/* A change that was erased before it could be followed leaves its place, and nothing else. */
static void test_followed_past_what_was_erased(void **state)
{
	struct pair *p = *state;

	copy_store(p);
	put(&p->leader, 1, "a");
	put(&p->leader, 2, "a");
	put(&p->leader, 2, "b");
	assert_int_equal(change(&p->leader, GALLERY_DELETE_SUBJECT, 1, ""), 0);
	assert_int_equal(change(&p->leader, GALLERY_DELETE_ENCOUNTER, 2, "a"), 0);
	put(&p->leader, 1, "c");
	catch_up(p);
	assert_same(p);
	assert_int_equal(erased(&p->follower), 2);
	close_follower(p);
}

static void test_gap_is_refused(void **state)
{
	struct pair *p = *state;

	copy_store(p);
	put(&p->leader, 1, "a");
	put(&p->leader, 2, "a");
	assert_int_equal(follow_one(p, 3), BM_EDIVERGED);
	assert_int_equal(follow_one(p, 1), BM_EDIVERGED);
	assert_int_equal(follow_one(p, 2), 0);
	assert_int_equal(follow_one(p, 2), BM_EDIVERGED);
	close_follower(p);
}

static void promote(struct test_store *s, enum changes_role role, bool raise)
{
	struct db_txn txn;

	assert_int_equal(db_begin_write(s->db, &txn), 0);
	changes_set_role(&txn, role);
	if (raise)
		assert_int_equal(changes_raise_epoch(&txn, s->keys, 5000), 0);
	assert_int_equal(db_commit(&txn), 0);
}

/* Who follows takes no changes of its own until it is promoted; who was superseded takes none. */
static void test_roles(void **state)
{
	struct pair *p = *state;

	copy_store(p);
	assert_int_equal(change(&p->follower, GALLERY_PUT, 1, "a"), BM_EFOLLOWER);
	promote(&p->follower, CHANGES_PROMOTED, true);
	put(&p->follower, 1, "a");
	assert_int_equal(head(&p->follower).epoch, head(&p->leader).epoch + 1);
	promote(&p->leader, CHANGES_SUPERSEDED, false);
	assert_int_equal(change(&p->leader, GALLERY_PUT, 2, "a"), BM_ESUPERSEDED);
	check_log(&p->follower, 3, 0);
	close_follower(p);
}

/* Two that went on from one place know it, whoever asks. */
static void test_divergence_is_noticed(void **state)
{
	struct pair *p = *state;
	struct changes_place place;
	struct db_txn txn;

	copy_store(p);
	place = head(&p->leader);
	promote(&p->follower, CHANGES_PROMOTED, true);
	assert_int_equal(db_begin_read(p->follower.db, &txn), 0);
	assert_int_equal(changes_find(&txn, &place), 0);
	db_abort(&txn);
	put(&p->leader, 1, "a");
	place = head(&p->leader);
	assert_int_equal(db_begin_read(p->follower.db, &txn), 0);
	assert_int_equal(changes_find(&txn, &place), BM_EDIVERGED);
	place.sequence += 10;
	assert_int_equal(changes_find(&txn, &place), BM_EDIVERGED);
	db_abort(&txn);
	close_follower(p);
}

static void prune(struct test_store *s, int64_t age_ms, uint64_t entries, unsigned max)
{
	const struct changes_limits limits = {age_ms, entries};
	struct db_txn txn;

	assert_int_equal(db_begin_write(s->db, &txn), 0);
	assert_int_equal(changes_prune(&txn, &limits, 2000, max), 0);
	assert_int_equal(db_commit(&txn), 0);
}

static void test_pruned_by_age_and_number(void **state)
{
	struct pair *p = *state;
	struct changes_place before = head(&p->leader);
	struct changes_entry entry;
	struct db_txn txn;

	for (unsigned i = 0; i < 10; i++)
		put(&p->leader, i, "a"); /* at 1000 + i */
	prune(&p->leader, 2000, 11, 100);
	check_log(&p->leader, 11, 0);
	prune(&p->leader, 2000, 10, 100);
	check_log(&p->leader, 10, 0);
	prune(&p->leader, 995, 10, 2);
	check_log(&p->leader, 8, 0);
	prune(&p->leader, 995, 10, 100);
	check_log(&p->leader, 5, 0);
	assert_int_equal(db_begin_read(p->leader.db, &txn), 0);
	assert_int_equal(changes_get(&txn, 6, &entry), BM_EPRUNED);
	assert_int_equal(changes_get(&txn, 7, &entry), 0);
	assert_int_equal(changes_get(&txn, 12, &entry), BM_EDIVERGED);
	assert_int_equal(changes_find(&txn, &before), BM_EPRUNED);
	db_abort(&txn);
	/* An empty log goes on where it was. */
	prune(&p->leader, 0, 0, 100);
	check_log(&p->leader, 0, 0);
	put(&p->leader, 20, "a");
	assert_int_equal(head(&p->leader).sequence, 12);
	check_log(&p->leader, 1, 0);
}

static void test_damage_is_found(void **state)
{
	struct pair *p = *state;
	uint8_t copy[8192], key[8];
	struct bytes value;
	struct db_txn txn;

	put(&p->leader, 1, "a");
	put(&p->leader, 2, "a");
	bytes_put_be64(key, 2);
	assert_int_equal(db_begin_write(p->leader.db, &txn), 0);
	assert_true(db_get(&txn, DB_CHANGES, (struct bytes){key, 8}, &value));
	memcpy(copy, value.data, value.len);
	copy[value.len - 1] ^= 1;
	db_put(&txn, DB_CHANGES, (struct bytes){key, 8}, (struct bytes){copy, value.len});
	assert_int_equal(db_commit(&txn), 0);
	copy_store(p);
	assert_int_equal(db_begin_read(p->follower.db, &txn), 0);
	db_abort(&txn);
	{
		uint64_t entries = 0, faults = 0;

		assert_int_equal(db_begin_read(p->follower.db, &txn), 0);
		assert_int_equal(changes_check(&txn, p->follower.keys, &entries, &faults), 0);
		db_abort(&txn);
		assert_true(faults > 0);
	}
	close_follower(p);
}

/* So many generations of the key, for both. */
static void add_keys(struct pair *p, size_t n)
{
	uint8_t keys[4][KEYS_MASTER_LEN];
	char path[128], name[16];

	for (size_t i = 0; i < n; i++)
		memset(keys[i], (int)(7 + i), KEYS_MASTER_LEN);
	snprintf(name, sizeof(name), "keys-%zu", n);
	test_store_path(&p->leader, name, path);
	assert_int_equal(file_write_new(path, keys, n * KEYS_MASTER_LEN, 0600), 0);
	assert_int_equal(keys_reload(p->leader.keys, path), 0);
	assert_int_equal(keys_reload(p->follower.keys, path), 0);
}

/* A gallery that moves to another key does so where it is followed, at the same place. */
static void test_rotation_is_followed(void **state)
{
	struct pair *p = *state;

	for (unsigned i = 0; i < 70; i++)
		put(&p->leader, i, "a");
	copy_store(p);
	add_keys(p, 2);
	put(&p->leader, 70, "a");
	assert_int_equal(change(&p->leader, GALLERY_ROTATE, 0, ""), 0);
	put(&p->leader, 71, "a");
	assert_int_equal(change(&p->leader, GALLERY_DELETE_SUBJECT, 3, ""), 0);
	catch_up(p);
	test_maintain(&p->leader);
	assert_same(p);
	/* A follower that is behind by a whole move makes up for it. */
	add_keys(p, 3);
	assert_int_equal(change(&p->leader, GALLERY_ROTATE, 0, ""), 0);
	assert_int_equal(follow_one(p, head(&p->leader).sequence), 0);
	test_maintain(&p->leader);
	add_keys(p, 4);
	assert_int_equal(change(&p->leader, GALLERY_ROTATE, 0, ""), 0);
	test_maintain(&p->leader);
	put(&p->leader, 72, "a");
	catch_up(p);
	assert_same(p);
	assert_int_equal(change(&p->follower, GALLERY_ROTATE, 0, ""), BM_EFOLLOWER);
	close_follower(p);
}

static int next_expired(struct test_store *s)
{
	struct gallery_expired next;
	struct db_txn txn;
	int error;

	assert_int_equal(db_begin_write(s->db, &txn), 0);
	error = gallery_next_expired(s->store, &txn, 5000, &next);
	db_abort(&txn);
	return error;
}

/* Only the leader says when an encounter's time is over; who follows comes to the same, mark
 * included. */
static void test_expiry_is_followed(void **state)
{
	struct pair *p = *state;
	struct gallery_candidate best;

	assert_int_equal(change_at(&p->leader, GALLERY_PUT, 1, "a", 900), 0);
	copy_store(p);
	assert_int_equal(change_at(&p->leader, GALLERY_PUT, 2, "a", 900), 0);
	put(&p->leader, 2, "b");
	catch_up(p);
	assert_int_equal(next_expired(&p->leader), 0);
	assert_int_equal(next_expired(&p->follower), BM_ENOREFERENCE);
	assert_int_equal(change(&p->leader, GALLERY_EXPIRE, 1, "a"), 0);
	assert_int_equal(change(&p->leader, GALLERY_EXPIRE, 2, "a"), 0);
	assert_int_equal(erased(&p->leader), 2);
	assert_int_equal(next_expired(&p->leader), BM_ENOREFERENCE);
	catch_up(p);
	assert_same(p);
	assert_int_equal(erased(&p->follower), 2);
	assert_int_equal(verify(&p->follower, 1, &best), BM_EEXPIRED);
	assert_int_equal(verify(&p->follower, 2, &best), 0);
	assert_int_equal(change_at(&p->leader, GALLERY_PUT, 3, "a", 900), 0);
	assert_int_equal(change(&p->leader, GALLERY_EXPIRE, 3, "a"), 0);
	/* The body was erased before it came here: there is nobody to mark. */
	catch_up(p);
	assert_same(p);
	close_follower(p);
}

static void supersede(struct test_store *s, const char *type, const char *encounter,
		      unsigned expected)
{
	struct gallery_change c = {.kind = GALLERY_PUT,
				   .gallery = "g",
				   .subject = "subject-1",
				   .dim = STORE_DIM,
				   .now_ms = 2000,
				   .supersede = true,
				   .encounter = {.expires_ms = 900}};
	struct gallery_outcome outcome;
	uint64_t seed = 1;
	float v[STORE_DIM];

	test_vector(&seed, v, STORE_DIM);
	c.embedding = v;
	strcpy(c.encounter.id, encounter);
	strcpy(c.encounter.type, type);
	assert_int_equal(test_apply(s, &c, &outcome), 0);
	assert_int_equal(outcome.encounters, expected);
	test_check(s, 0);
}

/* What replaces takes all others of its type, none of another's, and does so where it is followed.
 */
static void test_superseded(void **state)
{
	struct pair *p = *state;
	struct gallery_candidate best;

	put(&p->leader, 1, "a");
	put(&p->leader, 2, "a");
	copy_store(p);
	put(&p->leader, 1, "b");
	supersede(&p->leader, "other", "c", 0);
	supersede(&p->leader, "t", "d", 2);
	supersede(&p->leader, "t", "e", 1);
	assert_int_equal(erased(&p->leader), 3);
	catch_up(p);
	assert_same(p);
	assert_int_equal(erased(&p->follower), 3);
	assert_int_equal(verify(&p->follower, 2, &best), 0);
	assert_int_equal(change(&p->leader, GALLERY_DELETE_ENCOUNTER, 1, "c"), 0);
	assert_int_equal(change(&p->leader, GALLERY_DELETE_ENCOUNTER, 1, "d"), BM_ENOENCOUNTER);
	assert_int_equal(change(&p->leader, GALLERY_DELETE_ENCOUNTER, 1, "e"), 0);
	assert_int_equal(verify(&p->leader, 1, &best), BM_ENOREFERENCE);
	close_follower(p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, init, deinit)
	const struct CMUnitTest tests[] = {
		TEST(test_every_change_is_logged),
		TEST(test_erased_with_its_subject),
		TEST(test_followed_to_the_same),
		TEST(test_followed_past_what_was_erased),
		TEST(test_gap_is_refused),
		TEST(test_roles),
		TEST(test_divergence_is_noticed),
		TEST(test_pruned_by_age_and_number),
		TEST(test_damage_is_found),
		TEST(test_expiry_is_followed),
		TEST(test_superseded),
		TEST(test_rotation_is_followed),
	};
#undef TEST

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("changes", tests, NULL, NULL);
}
