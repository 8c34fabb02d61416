/*
 * Kept pictures: as they came, sealed to their encounter and gone with it, followed, and
 * missed by the check where one is damaged, strayed or passed off as another's.
 */
#include "store.h"

#include <string.h>

#define MAP (64 << 20)

static const char picture[] = "the picture that only its purpose may see";

static int init(void **state)
{
	struct test_store *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	test_store_init(s, MAP);
	test_create_gallery(s, "g");
	*state = s;
	return 0;
}

static int deinit(void **state)
{
	test_store_deinit(*state);
	free(*state);
	return 0;
}

static int change(struct test_store *s, enum gallery_change_kind kind, const char *subject,
		  const char *encounter, struct bytes image, bool supersede)
{
	float v[STORE_DIM];
	uint64_t seed = 5;
	struct gallery_change c = {.kind = kind,
				   .gallery = "g",
				   .subject = subject,
				   .encounter = {.expires_ms = 100},
				   .embedding = v,
				   .dim = STORE_DIM,
				   .image = image,
				   .now_ms = 100,
				   .supersede = supersede};
	struct gallery_outcome outcome;

	test_vector(&seed, v, STORE_DIM);
	strcpy(c.encounter.id, encounter);
	return test_apply(s, &c, &outcome);
}

static struct bytes text(const char *t)
{
	return (struct bytes){(const uint8_t *)t, strlen(t)};
}

static void put(struct test_store *s, const char *subject, const char *encounter, const char *image)
{
	assert_int_equal(change(s, GALLERY_PUT, subject, encounter, (struct bytes){0}, false), 0);
	if (image)
		assert_int_equal(
			change(s, GALLERY_KEEP_IMAGE, subject, encounter, text(image), false), 0);
}

/* 0 with what is kept compared, or why there is nothing. */
static int kept(struct test_store *s, const char *subject, const char *encounter,
		struct bytes expected)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	struct bytes image;
	struct arena arena;
	int error;

	arena_init(&arena, 4 << 20);
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	error = gallery_image(snapshot, &info, subject, encounter, &arena, &image);
	if (!error) {
		assert_int_equal(image.len, expected.len);
		assert_memory_equal(image.data, expected.data, image.len);
	}
	gallery_snapshot_close(snapshot);
	arena_deinit(&arena);
	return error;
}

static uint64_t count(struct test_store *s)
{
	static const uint8_t first[1];
	struct bytes key, value;
	struct db_cursor cursor;
	struct db_txn txn;
	uint64_t n = 0;
	bool more;

	assert_int_equal(db_begin_read(s->db, &txn), 0);
	db_cursor_open(&txn, DB_IMAGES, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &key, &value);
	for (; more; more = db_cursor_next(&cursor, &key, &value))
		n++;
	db_cursor_close(&cursor);
	db_abort(&txn);
	return n;
}

static void test_kept_as_it_came(void **state)
{
	struct test_store *s = *state;
	struct gallery_subject found;
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	struct arena arena;

	put(s, "ada", "1", picture);
	put(s, "ada", "2", NULL);
	put(s, "bob", "1", "another");
	assert_int_equal(kept(s, "ada", "1", text(picture)), 0);
	assert_int_equal(kept(s, "bob", "1", text("another")), 0);
	assert_int_equal(kept(s, "ada", "2", text("")), BM_ENOIMAGE);
	assert_int_equal(kept(s, "ada", "3", text("")), BM_ENOENCOUNTER);
	assert_int_equal(kept(s, "eve", "1", text("")), BM_ENOREFERENCE);
	arena_init(&arena, 1 << 20);
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_find(snapshot, "g", &info), 0);
	assert_int_equal(gallery_subject(snapshot, &info, "ada", &arena, &found), 0);
	gallery_snapshot_close(snapshot);
	assert_true(found.encounters[0].has_image);
	assert_false(found.encounters[1].has_image);
	arena_deinit(&arena);
	test_check(s, 0);
	/* Whoever opens the store again finds it. */
	test_store_close(s);
	test_store_open(s, MAP);
	assert_int_equal(kept(s, "ada", "1", text(picture)), 0);
}

static void test_limits(void **state)
{
	struct test_store *s = *state;
	uint8_t *large = malloc(GALLERY_IMAGE_MAX + 1);
	struct bytes most = {large, GALLERY_IMAGE_MAX};

	assert_non_null(large);
	for (size_t i = 0; i <= GALLERY_IMAGE_MAX; i++)
		large[i] = (uint8_t)(i * 7 + i / 251);
	put(s, "ada", "1", NULL);
	assert_int_equal(change(s, GALLERY_KEEP_IMAGE, "ada", "1",
				(struct bytes){large, GALLERY_IMAGE_MAX + 1}, false),
			 BM_EIMGSIZE);
	assert_int_equal(change(s, GALLERY_KEEP_IMAGE, "ada", "1", (struct bytes){0}, false),
			 BM_EIMGSIZE);
	assert_int_equal(change(s, GALLERY_KEEP_IMAGE, "ada", "2", most, false), BM_ENOENCOUNTER);
	assert_int_equal(change(s, GALLERY_KEEP_IMAGE, "eve", "1", most, false), BM_ENOREFERENCE);
	assert_int_equal(kept(s, "ada", "1", most), BM_ENOIMAGE);
	assert_int_equal(change(s, GALLERY_KEEP_IMAGE, "ada", "1", most, false), 0);
	assert_int_equal(kept(s, "ada", "1", most), 0);
	assert_int_equal(change(s, GALLERY_KEEP_IMAGE, "ada", "1", text("x"), false), BM_EEXISTS);
	assert_int_equal(kept(s, "ada", "1", most), 0);
	test_check(s, 0);
	free(large);
}

static void test_gone_with_its_encounter(void **state)
{
	struct test_store *s = *state;
	struct bytes none = {0};

	put(s, "ada", "1", picture);
	put(s, "ada", "2", "second");
	put(s, "bob", "1", "bob's");
	put(s, "cy", "1", "cy's");
	assert_int_equal(count(s), 4);
	assert_int_equal(change(s, GALLERY_DELETE_ENCOUNTER, "ada", "1", none, false), 0);
	assert_int_equal(count(s), 3);
	assert_int_equal(kept(s, "ada", "2", text("second")), 0);
	/* Takes the place of the second. */
	assert_int_equal(change(s, GALLERY_PUT, "ada", "3", none, true), 0);
	assert_int_equal(count(s), 2);
	assert_int_equal(kept(s, "ada", "3", text("")), BM_ENOIMAGE);
	assert_int_equal(change(s, GALLERY_DELETE_SUBJECT, "bob", "", none, false), 0);
	assert_int_equal(change(s, GALLERY_EXPIRE, "cy", "1", none, false), 0);
	assert_int_equal(count(s), 0);
	test_check(s, 0);
	/* Who comes again under the same names has no picture. */
	put(s, "bob", "1", NULL);
	assert_int_equal(kept(s, "bob", "1", text("")), BM_ENOIMAGE);
}

/* In the store and its change log. */
static void test_sealed(void **state)
{
	struct test_store *s = *state;
	uint8_t *data;
	char path[128];
	size_t len;

	put(s, "ada", "1", picture);
	test_store_path(s, "store/data.mdb", path);
	assert_int_equal(file_read(path, MAP, &data, &len), 0);
	assert_null(memmem(data, len, picture, strlen(picture)));
	free(data);
}

static void copy_store(const struct test_store *s, struct test_store *copy)
{
	char path[128], command[512];

	*copy = *s;
	strcpy(copy->dir, "/dev/shm/biomatch-store-XXXXXX");
	assert_non_null(mkdtemp(copy->dir));
	snprintf(command, sizeof(command), "cp -r %s/store %s/key %s/", s->dir, s->dir, copy->dir);
	assert_int_equal(system(command), 0);
	test_store_path(copy, "key", path);
	assert_int_equal(keys_open(path, &copy->keys), 0);
	test_store_open(copy, MAP);
	gallery_store_set_following(copy->store, true);
}

static void catch_up(struct test_store *from, struct test_store *to)
{
	struct changes_place end, at;
	struct changes_entry entry;
	struct db_txn in, out;

	assert_int_equal(db_begin_read(from->db, &in), 0);
	assert_int_equal(changes_head(&in, &end), 0);
	for (;;) {
		assert_int_equal(db_begin_write(to->db, &out), 0);
		assert_int_equal(changes_head(&out, &at), 0);
		if (at.sequence == end.sequence)
			break;
		assert_int_equal(changes_get(&in, at.sequence + 1, &entry), 0);
		assert_int_equal(gallery_follow(to->store, &out, &entry), 0);
		assert_int_equal(db_commit(&out), 0);
	}
	assert_memory_equal(&at, &end, sizeof(at));
	db_abort(&out);
	db_abort(&in);
}

static void test_followed(void **state)
{
	struct test_store *s = *state, follower;

	copy_store(s, &follower);
	put(s, "ada", "1", picture);
	catch_up(s, &follower);
	assert_int_equal(kept(&follower, "ada", "1", text(picture)), 0);
	/* One that is erased before it was followed, and one after. */
	put(s, "bob", "1", "bob's");
	assert_int_equal(change(s, GALLERY_DELETE_SUBJECT, "bob", "", (struct bytes){0}, false), 0);
	assert_int_equal(change(s, GALLERY_DELETE_SUBJECT, "ada", "", (struct bytes){0}, false), 0);
	put(s, "cy", "1", "cy's");
	catch_up(s, &follower);
	assert_int_equal(count(&follower), 1);
	assert_int_equal(kept(&follower, "cy", "1", text("cy's")), 0);
	test_check(&follower, 0);
	test_store_deinit(&follower);
}

/* The key and value of the n-th picture. */
struct entry {
	uint8_t key[128], value[256];
	size_t key_len, len;
};

static void read_entry(struct test_store *s, unsigned n, struct entry *out)
{
	static const uint8_t first[1];
	struct bytes key, value;
	struct db_cursor cursor;
	struct db_txn txn;

	assert_int_equal(db_begin_read(s->db, &txn), 0);
	db_cursor_open(&txn, DB_IMAGES, &cursor);
	assert_true(db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &key, &value));
	while (n--)
		assert_true(db_cursor_next(&cursor, &key, &value));
	assert_true(key.len <= sizeof(out->key) && value.len <= sizeof(out->value));
	memcpy(out->key, key.data, key.len);
	memcpy(out->value, value.data, value.len);
	out->key_len = key.len;
	out->len = value.len;
	db_cursor_close(&cursor);
	db_abort(&txn);
}

static void write_entry(struct test_store *s, const struct entry *key, const struct entry *value)
{
	struct db_txn txn;

	assert_int_equal(db_begin_write(s->db, &txn), 0);
	db_put(&txn, DB_IMAGES, (struct bytes){key->key, key->key_len},
	       (struct bytes){value->value, value->len});
	assert_int_equal(db_commit(&txn), 0);
}

static void test_damage_is_found(void **state)
{
	struct test_store *s = *state;
	struct entry one, two, stray;

	put(s, "ada", "1", picture);
	put(s, "ada", "2", "second");
	read_entry(s, 0, &one);
	read_entry(s, 1, &two);
	/* Whole, but another's. */
	write_entry(s, &one, &two);
	test_check(s, 1);
	assert_int_equal(kept(s, "ada", "1", text("")), BM_ECORRUPT);
	assert_int_equal(kept(s, "ada", "2", text("second")), 0);
	stray = one;
	stray.value[stray.len - 1] ^= 1;
	write_entry(s, &one, &stray);
	test_check(s, 1);
	write_entry(s, &one, &one);
	test_check(s, 0);
	/* Of no encounter. */
	stray = one;
	stray.key[stray.key_len - 1] = '9';
	write_entry(s, &stray, &one);
	test_check(s, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept_as_it_came, init, deinit),
		cmocka_unit_test_setup_teardown(test_limits, init, deinit),
		cmocka_unit_test_setup_teardown(test_gone_with_its_encounter, init, deinit),
		cmocka_unit_test_setup_teardown(test_sealed, init, deinit),
		cmocka_unit_test_setup_teardown(test_followed, init, deinit),
		cmocka_unit_test_setup_teardown(test_damage_is_found, init, deinit),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
