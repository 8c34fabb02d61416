/*
 * A store in a throw-away directory, with a small pack that has no models.
 */
#ifndef TESTS_STORE_H
#define TESTS_STORE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "biomatch/file.h"
#include "biomatch/gallery.h"
#include "biomatch/log.h"
#include "biomatch/score.h"

#define STORE_DIM 64

/* Whichever a subject has. */
static const struct gallery_references any_reference = {.max = GALLERY_MAX_REFERENCES};

struct test_store {
	char dir[64];
	struct pack pack;
	struct keys *keys;
	struct db *db;
	struct gallery_store *store;
};

static inline void test_store_path(const struct test_store *s, const char *name, char out[128])
{
	snprintf(out, 128, "%s/%s", s->dir, name);
}

static inline void test_store_key(struct test_store *s, const char *name, uint8_t fill)
{
	uint8_t key[KEYS_MASTER_LEN];
	char path[128];

	memset(key, fill, sizeof(key));
	test_store_path(s, name, path);
	assert_int_equal(file_write_new(path, key, sizeof(key), 0600), 0);
}

static inline void test_store_open(struct test_store *s, uint64_t map_size)
{
	char path[128], message[256] = "";

	test_store_path(s, "store", path);
	if (db_open(path, map_size, 64, &s->db, message))
		fail_msg("%s", message);
	assert_int_equal(gallery_store_open(s->db, s->keys, &s->pack, &s->store), 0);
	gallery_store_set_segment_rows(s->store, 64);
}

static inline void test_store_close(struct test_store *s)
{
	gallery_store_close(s->store);
	db_close(s->db);
}

static inline void test_store_init(struct test_store *s, uint64_t map_size)
{
	char path[128];

	log_set_level(LOG_LEVEL_ERROR);
	*s = (struct test_store){.pack = {.name = "test",
					  .version = "1",
					  .model = "test/1",
					  .dim = STORE_DIM,
					  .digest = {1, 2, 3}}};
	/* In memory, where each of the many commits does not wait for a disk. */
	strcpy(s->dir, "/dev/shm/biomatch-store-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	test_store_key(s, "key", 7);
	test_store_path(s, "key", path);
	assert_int_equal(keys_open(path, &s->keys), 0);
	test_store_path(s, "store", path);
	assert_int_equal(mkdir(path, 0700), 0);
	test_store_open(s, map_size);
}

/* The place of a store that is closed. */
static inline void test_store_remove(struct test_store *s)
{
	char command[128];

	keys_close(s->keys);
	snprintf(command, sizeof(command), "rm -r %s", s->dir);
	assert_int_equal(system(command), 0);
}

static inline void test_store_deinit(struct test_store *s)
{
	test_store_close(s);
	test_store_remove(s);
}

/* A small generator, so that a failing test can be run again. */
static inline uint64_t test_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline void test_vector(uint64_t *state, float *v, size_t dim)
{
	for (size_t i = 0; i < dim; i++)
		v[i] = (float)(test_random(state) % 2001) / 1000.0f - 1.0f;
	assert_int_equal(score_normalise(v, dim), 0);
}

/* One change in a transaction of its own. */
static inline int test_apply(struct test_store *s, const struct gallery_change *change,
			     struct gallery_outcome *outcome)
{
	struct db_txn txn;
	int error = db_begin_write(s->db, &txn);

	if (error)
		return error;
	error = gallery_apply(s->store, &txn, change, outcome);
	if (error) {
		db_abort(&txn);
		return error;
	}
	return db_commit(&txn);
}

static inline void test_create_gallery(struct test_store *s, const char *name)
{
	struct gallery_change change = {.kind = GALLERY_CREATE, .gallery = name, .now_ms = 1000};
	struct gallery_outcome outcome;

	assert_int_equal(test_apply(s, &change, &outcome), 0);
}

static inline void test_maintain(struct test_store *s)
{
	struct db_txn txn;
	bool more = true;

	while (more) {
		assert_int_equal(db_begin_write(s->db, &txn), 0);
		assert_int_equal(gallery_maintain(s->store, &txn, &more), 0);
		assert_int_equal(db_commit(&txn), 0);
	}
}

static inline void test_report(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

static inline void test_check(struct test_store *s, uint64_t expected)
{
	struct gallery_snapshot *snapshot;
	uint64_t faults;

	assert_int_equal(gallery_snapshot_open(s->store, &snapshot), 0);
	assert_int_equal(gallery_check(snapshot, test_report, NULL, &faults), 0);
	assert_int_equal(faults, expected);
	gallery_snapshot_close(snapshot);
}

#endif
