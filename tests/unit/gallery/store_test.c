#include "store.h"

#include <fcntl.h>
#include <sys/mman.h>

static int init(void **state)
{
	struct test_store *s = malloc(sizeof(*s));

	test_store_init(s, 64 << 20);
	*state = s;
	return 0;
}

static int deinit(void **state)
{
	test_store_deinit(*state);
	free(*state);
	return 0;
}

static int put(struct test_store *s, const char *subject, const char *encounter, uint64_t seed)
{
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = "g",
					.subject = subject,
					.dim = STORE_DIM,
					.encounter = {.expires_ms = GALLERY_NEVER}};
	struct gallery_outcome outcome;
	float v[STORE_DIM];
	int error;

	test_vector(&seed, v, STORE_DIM);
	change.embedding = v;
	strcpy(change.encounter.id, encounter);
	error = test_apply(s, &change, &outcome);
	if (!error && !*encounter)
		assert_int_equal(strlen(outcome.encounter), 36);
	return error;
}

static int verify(struct test_store *s, const char *subject, uint64_t seed, int64_t now,
		  struct gallery_candidate *best)
{
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	uint64_t compared;
	float v[STORE_DIM];
	int error;

	test_vector(&seed, v, STORE_DIM);
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	error = gallery_find(snapshot, "g", &info);
	if (!error)
		error = gallery_verify(snapshot, &info, subject, &any_reference, v, STORE_DIM, now,
				       best, &compared);
	gallery_snapshot_close(snapshot);
	return error;
}

static int delete (struct test_store *s, const char *subject, const char *encounter)
{
	struct gallery_change change = {.kind = encounter ? GALLERY_DELETE_ENCOUNTER
							  : GALLERY_DELETE_SUBJECT,
					.gallery = "g",
					.subject = subject};
	struct gallery_outcome outcome;

	if (encounter)
		strcpy(change.encounter.id, encounter);
	return test_apply(s, &change, &outcome);
}

static void test_errors(void **state)
{
	struct test_store *s = *state;
	struct gallery_change change = {.kind = GALLERY_CREATE, .gallery = "g"};
	struct gallery_candidate best;
	struct gallery_outcome outcome;
	float v[STORE_DIM + 16] = {1};
	char name[16];

	assert_int_equal(put(s, "ada", "1", 1), BM_ENOGALLERY);
	test_create_gallery(s, "g");
	assert_int_equal(test_apply(s, &change, &outcome), BM_EEXISTS);
	assert_int_equal(verify(s, "ada", 1, 0, &best), BM_ENOREFERENCE);
	assert_int_equal(put(s, "ada", "1", 1), 0);
	assert_int_equal(put(s, "ada", "1", 2), BM_EEXISTS);
	assert_int_equal(put(s, "ada", "", 2), 0);
	assert_int_equal(delete (s, "ada", "9"), BM_ENOENCOUNTER);
	assert_int_equal(delete (s, "eve", NULL), BM_ENOREFERENCE);
	change.kind = GALLERY_DROP;
	assert_int_equal(test_apply(s, &change, &outcome), BM_ENOTEMPTY);
	for (int i = 2; i < GALLERY_MAX_ENCOUNTERS; i++) {
		snprintf(name, sizeof(name), "x%d", i);
		assert_int_equal(put(s, "ada", name, 3), 0);
	}
	assert_int_equal(put(s, "ada", "one-more", 3), BM_ELIMIT);
	change = (struct gallery_change){.kind = GALLERY_PUT,
					 .gallery = "g",
					 .subject = "bob",
					 .embedding = v,
					 .dim = STORE_DIM + 16};
	assert_int_equal(test_apply(s, &change, &outcome), BM_EMODEL);
	test_check(s, 0);
	assert_int_equal(delete (s, "ada", NULL), 0);
	change = (struct gallery_change){.kind = GALLERY_DROP, .gallery = "g"};
	assert_int_equal(test_apply(s, &change, &outcome), 0);
	assert_int_equal(verify(s, "ada", 1, 0, &best), BM_ENOGALLERY);
}

static void test_verify_takes_best_and_heeds_expiry(void **state)
{
	struct test_store *s = *state;
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = "g",
					.subject = "ada",
					.dim = STORE_DIM,
					.encounter = {.id = "short", .expires_ms = 500}};
	struct gallery_candidate best;
	struct gallery_outcome outcome;
	uint64_t seed = 1;
	float v[STORE_DIM];

	test_create_gallery(s, "g");
	test_vector(&seed, v, STORE_DIM);
	change.embedding = v;
	assert_int_equal(test_apply(s, &change, &outcome), 0);
	assert_int_equal(verify(s, "ada", 1, 499, &best), 0);
	assert_true(best.score > 0.9999f);
	assert_int_equal(verify(s, "ada", 1, 500, &best), BM_EEXPIRED);
	assert_int_equal(put(s, "ada", "long", 2), 0);
	assert_int_equal(verify(s, "ada", 1, 499, &best), 0);
	assert_string_equal(best.encounter, "short");
	assert_int_equal(verify(s, "ada", 1, 500, &best), 0);
	assert_string_equal(best.encounter, "long");
	assert_int_equal(verify(s, "ada", 2, 499, &best), 0);
	assert_string_equal(best.encounter, "long");
}

static void test_list_pages(void **state)
{
	struct test_store *s = *state;
	struct gallery_snapshot *snapshot;
	struct gallery_info page[2];
	size_t n;

	test_create_gallery(s, "a");
	test_create_gallery(s, "b");
	test_create_gallery(s, "b-2");
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_list(snapshot, "", page, 2, &n), 0);
	assert_int_equal(n, 2);
	assert_string_equal(page[1].name, "b");
	assert_string_equal(page[1].model, "test/1");
	assert_int_equal(gallery_list(snapshot, "b", page, 2, &n), 0);
	assert_int_equal(n, 1);
	assert_string_equal(page[0].name, "b-2");
	gallery_snapshot_close(snapshot);
}

static void test_survives_reopen_under_its_key_only(void **state)
{
	struct test_store *s = *state;
	struct gallery_candidate best;
	struct gallery_store *store;
	struct keys *other;
	char path[128];

	test_create_gallery(s, "g");
	assert_int_equal(put(s, "ada", "1", 1), 0);
	test_store_close(s);
	test_store_open(s, 64 << 20);
	assert_int_equal(verify(s, "ada", 1, 0, &best), 0);
	assert_true(best.score > 0.9999f);

	test_store_key(s, "other", 8);
	test_store_path(s, "other", path);
	assert_int_equal(keys_open(path, &other), 0);
	assert_int_equal(gallery_store_open(s->db, other, &s->pack, &store), BM_EKEY);
	keys_close(other);
}

/* The data file in memory, to be read or damaged. */
static uint8_t *map_file(struct test_store *s, size_t *len)
{
	char path[128];
	struct stat st;
	uint8_t *data;
	int fd;

	test_store_path(s, "store/data.mdb", path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	data = mmap(NULL, *len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(data, MAP_FAILED);
	close(fd);
	return data;
}

static void test_no_subject_id_on_disk(void **state)
{
	struct test_store *s = *state;
	float v[STORE_DIM];
	uint64_t seed = 1;
	uint8_t *data;
	size_t len;

	test_create_gallery(s, "g");
	assert_int_equal(put(s, "SUBJECT-K1234567", "1", 1), 0);
	test_vector(&seed, v, STORE_DIM);
	data = map_file(s, &len);
	assert_null(memmem(data, len, "K1234567", 8));
	/* The template is there, but turned: its own bytes are not. */
	assert_null(memmem(data, len, v, 2 * sizeof(float)));
	munmap(data, len);
}

static void test_damage_is_found(void **state)
{
	struct test_store *s = *state;
	struct gallery_candidate best;
	struct gallery_snapshot *snapshot;
	uint64_t faults;
	uint8_t *data, *at;
	size_t len;

	test_create_gallery(s, "g");
	for (int i = 0; i < 64; i++) {
		char name[16];

		snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(put(s, name, "only-encounter", (uint64_t)i + 1), 0);
	}
	test_maintain(s);
	test_check(s, 0);
	assert_int_equal(verify(s, "s5", 6, 0, &best), 0);
	test_store_close(s);

	data = map_file(s, &len);
	for (at = data; (at = memmem(at, len - (size_t)(at - data), "only-encounter", 14)); at++)
		at[5] ^= 1;
	munmap(data, len);
	test_store_open(s, 64 << 20);
	assert_int_equal(verify(s, "s5", 6, 0, &best), BM_ECORRUPT);
	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_check(snapshot, test_report, NULL, &faults), 0);
	assert_true(faults >= 64);
	gallery_snapshot_close(snapshot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_errors, init, deinit),
		cmocka_unit_test_setup_teardown(test_verify_takes_best_and_heeds_expiry, init,
						deinit),
		cmocka_unit_test_setup_teardown(test_list_pages, init, deinit),
		cmocka_unit_test_setup_teardown(test_survives_reopen_under_its_key_only, init,
						deinit),
		cmocka_unit_test_setup_teardown(test_no_subject_id_on_disk, init, deinit),
		cmocka_unit_test_setup_teardown(test_damage_is_found, init, deinit),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("gallery store", tests, NULL, NULL);
}
