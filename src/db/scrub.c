#include "scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The page format of LMDB 0.9, which has not changed since 0.9.0: a header of 16
 * bytes, with the page's number in 8, padding in 2, flags
 * in 2, then where the unused bytes begin and end in 2 each, or the number of pages
 * of an overflow run in 4. Behind the header stands the offset of each node, in 2
 * bytes. A node has the value's length in 4, flags in 2, the key's length in 2, the
 * key, and the value or the number of the overflow page where that begins.
 */
_Static_assert(MDB_VERSION_MAJOR == 0 && MDB_VERSION_MINOR == 9, "the page format of LMDB 0.9");

#define HEADER      16
#define NODE_HEADER 8
#define IS_BRANCH   0x01
#define IS_LEAF     0x02
#define IS_OVERFLOW 0x04
#define IS_BIG_DATA 0x01
/* The free list is LMDB's table of this number: transaction -> count, page numbers. */
#define FREE_TABLE 0
#define FIRST_PAGE 2

enum page_state { IN_USE, IS_FREE, IS_PINNED };

struct scrub {
	int fd;
	size_t page_size, pages;
	uint8_t *state; /* an enum page_state for each page */
	uint8_t *page, *value_page, *zeros;
	bool wrote, pinned;
};

static size_t get(const uint8_t *from, size_t len)
{
	size_t value = 0;

	memcpy(&value, from, len); /* LMDB stores as the machine does: little-endian */
	return value;
}

static int read_page(struct scrub *s, size_t number)
{
	ssize_t n = pread(s->fd, s->page, s->page_size, (off_t)(number * s->page_size));

	if (n < 0)
		return errno;
	/* A page that was never written ends the file, and reads as zero. */
	memset(s->page + n, 0, s->page_size - (size_t)n);
	return 0;
}

/* Zeroes part of the page in the buffer, and of the file where it is not zero yet. */
static int zero(struct scrub *s, size_t number, size_t from, size_t to)
{
	if (!memcmp(s->page + from, s->zeros, to - from))
		return 0;
	memset(s->page + from, 0, to - from);
	s->wrote = true;
	if (pwrite(s->fd, s->zeros, to - from, (off_t)(number * s->page_size + from)) !=
	    (ssize_t)(to - from))
		return errno ? errno : EIO;
	return 0;
}

static int note_free(struct scrub *s, MDB_val list, enum page_state state)
{
	const uint8_t *ids = list.mv_data;
	size_t n = list.mv_size / sizeof(size_t) ? get(ids, sizeof(size_t)) : 0;

	if (list.mv_size < (n + 1) * sizeof(size_t))
		return MDB_CORRUPTED;
	for (size_t i = 1; i <= n; i++) {
		size_t page = get(ids + i * sizeof(size_t), sizeof(size_t));

		if (page < FIRST_PAGE || page >= s->pages)
			return MDB_CORRUPTED;
		s->state[page] = (uint8_t)state;
	}
	s->pinned |= state == IS_PINNED && n;
	return 0;
}

/*
 * A reader sees the pages that were freed after it began. LMDB shows the free
 * list to read transactions alone; this one is of the same state as the writer.
 */
static int read_free_list(struct scrub *s, MDB_env *env, size_t oldest)
{
	MDB_cursor *cursor;
	MDB_val key, list;
	MDB_txn *txn;
	int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);

	if (rc)
		return rc;
	rc = mdb_cursor_open(txn, FREE_TABLE, &cursor);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	while (!rc && !(rc = mdb_cursor_get(cursor, &key, &list, MDB_NEXT)))
		rc = note_free(s, list,
			       get(key.mv_data, sizeof(size_t)) <= oldest ? IS_FREE : IS_PINNED);
	mdb_cursor_close(cursor);
	mdb_txn_abort(txn);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/*
 * What stands behind a value in its own pages, of which a value that was replaced by
 * a shorter one may have left more than are needed.
 */
static int clear_run(struct scrub *s, size_t first, size_t len)
{
	size_t end = HEADER + len, run, from;
	int rc = first < s->pages ? read_page(s, first) : MDB_CORRUPTED;

	if (rc)
		return rc;
	run = get(s->page + 12, 4);
	if (get(s->page, sizeof(size_t)) != first || get(s->page + 10, 2) != IS_OVERFLOW ||
	    run > s->pages - first || end > run * s->page_size)
		return MDB_CORRUPTED;
	for (size_t i = end / s->page_size; !rc && i < run; i++) {
		from = i == end / s->page_size ? end % s->page_size : 0;
		rc = read_page(s, first + i);
		if (!rc)
			rc = zero(s, first + i, from, s->page_size);
	}
	return rc;
}

/* The leaf is read, and its values' pages take its place in the buffer. */
static int clear_slack(struct scrub *s, size_t first, size_t len)
{
	uint8_t *leaf = s->page;
	int rc;

	s->page = s->value_page;
	rc = clear_run(s, first, len);
	s->page = leaf;
	return rc;
}

/* The values of a leaf that have pages of their own. */
static int clear_values(struct scrub *s, size_t lower)
{
	int rc = 0;

	for (size_t at = HEADER; !rc && at < lower; at += 2) {
		size_t node = get(s->page + at, 2), key;

		if (node + NODE_HEADER > s->page_size)
			return MDB_CORRUPTED;
		key = get(s->page + node + 6, 2);
		if (!(get(s->page + node + 4, 2) & IS_BIG_DATA))
			continue;
		if (node + NODE_HEADER + key + sizeof(size_t) > s->page_size)
			return MDB_CORRUPTED;
		rc = clear_slack(s, get(s->page + node + NODE_HEADER + key, sizeof(size_t)),
				 get(s->page + node, 4));
	}
	return rc;
}

/* A page in use; *run is how many pages it stands for. What is not as it must be is left. */
static int clear_page(struct scrub *s, size_t number, size_t *run)
{
	size_t flags = get(s->page + 10, 2), lower = get(s->page + 12, 2);
	size_t upper = get(s->page + 14, 2);
	int rc;

	if (get(s->page, sizeof(size_t)) != number)
		return MDB_CORRUPTED;
	if (flags == IS_OVERFLOW) {
		*run = get(s->page + 12, 4);
		return *run && *run <= s->pages - number ? 0 : MDB_CORRUPTED;
	}
	if ((flags != IS_LEAF && flags != IS_BRANCH) || lower < HEADER || lower > upper ||
	    upper > s->page_size)
		return MDB_CORRUPTED;
	rc = zero(s, number, lower, upper);
	return rc || flags == IS_BRANCH ? rc : clear_values(s, lower);
}

static int walk(struct scrub *s, size_t last)
{
	size_t run;
	int rc = 0;

	for (size_t number = FIRST_PAGE; !rc && number < s->pages; number += run) {
		run = 1;
		if (s->state[number] == IS_PINNED)
			continue;
		rc = read_page(s, number);
		/* Behind the last page stands what a transaction wrote that was undone. */
		if (!rc && (s->state[number] == IS_FREE || number > last))
			rc = zero(s, number, 0, s->page_size);
		else if (!rc)
			rc = clear_page(s, number, &run);
	}
	if (!rc && s->wrote && fdatasync(s->fd))
		rc = errno;
	return rc;
}

int scrub_pages(MDB_env *env, size_t oldest, bool *pinned)
{
	struct scrub s = {0};
	struct stat file;
	MDB_envinfo info;
	MDB_stat stat;
	int rc = mdb_env_get_fd(env, &s.fd);

	if (!rc)
		rc = mdb_env_info(env, &info);
	if (!rc)
		rc = mdb_env_stat(env, &stat);
	if (!rc && fstat(s.fd, &file))
		rc = errno;
	if (rc)
		return rc;
	s.page_size = stat.ms_psize;
	s.pages = (size_t)file.st_size / s.page_size;
	if (s.pages <= info.me_last_pgno)
		s.pages = info.me_last_pgno + 1;
	s.state = calloc(s.pages, 1);
	s.page = malloc(s.page_size);
	s.value_page = malloc(s.page_size);
	s.zeros = calloc(1, s.page_size);
	rc = s.state && s.page && s.value_page && s.zeros ? read_free_list(&s, env, oldest)
							  : ENOMEM;
	if (!rc)
		rc = walk(&s, info.me_last_pgno);
	*pinned = s.pinned;
	free(s.zeros);
	free(s.value_page);
	free(s.page);
	free(s.state);
	return rc;
}
