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
 * bytes. A leaf's node has the value's length in 4, flags in 2, the key's length in 2, the
 * key, and the value or the number of the overflow page where that begins; a
 * branch's node the child's number in 6, the key's length and the key. A table is 48
 * bytes that end with the number of its root. Pages 0 and 1 take turns as the head of
 * the file: behind the header 24 bytes, the tables of free pages and of tables, the
 * last page, and the transaction that wrote it all.
 */
_Static_assert(MDB_VERSION_MAJOR == 0 && MDB_VERSION_MINOR == 9, "the page format of LMDB 0.9");

#define HEADER      16
#define NODE_HEADER 8
#define IS_BRANCH   0x01
#define IS_LEAF     0x02
#define IS_OVERFLOW 0x04
#define IS_BIG_DATA 0x01
#define IS_TABLE    0x02
#define TABLE_LEN   48
#define TABLE_ROOT  40
#define META_TABLES (HEADER + 24)
#define META_TXN    (META_TABLES + 2 * TABLE_LEN + 8)
#define META_PAGES  2
#define NO_ROOT     SIZE_MAX
#define MAX_DEPTH   32
#define WORD        64
/* The free list is LMDB's table of this number: transaction -> count, page numbers. */
#define FREE_TABLE 0
/* Free pages that one step clears: a millisecond or so. */
#define STEP_PAGES 512

struct scrub {
	MDB_env *env;
	int fd;
	size_t page_size;
	uint64_t *used;            /* a bit a page: in use, and what it does not use is zero */
	uint64_t *free;            /* a bit a page: no reader sees it; of one step */
	uint64_t *zeroed;          /* a bit a page: free when last looked at, and zero since */
	size_t pages;              /* that there are bits for, in whole words */
	size_t last;               /* page of the commit before */
	size_t next;               /* page that a step begins at */
	bool wrote;                /* since the last sync */
	uint8_t *level[MAX_DEPTH]; /* a page on each level of a walk */
	uint8_t *value, *zeros;
};

static size_t get(const uint8_t *from, size_t len)
{
	size_t value = 0;

	memcpy(&value, from, len); /* LMDB stores as the machine does: little-endian */
	return value;
}

static bool has_bit(const uint64_t *bits, size_t page)
{
	return bits[page / WORD] >> page % WORD & 1;
}

static void set_bit(uint64_t *bits, size_t page, bool on)
{
	uint64_t bit = UINT64_C(1) << page % WORD;

	bits[page / WORD] = on ? bits[page / WORD] | bit : bits[page / WORD] & ~bit;
}

static void note_used(struct scrub *s, size_t page)
{
	set_bit(s->used, page, true);
	set_bit(s->zeroed, page, false);
}

static int grow_bits(uint64_t **bits, size_t old, size_t words)
{
	uint64_t *grown = realloc(*bits, words * sizeof(*grown));

	if (!grown)
		return ENOMEM;
	memset(grown + old, 0, (words - old) * sizeof(*grown));
	*bits = grown;
	return 0;
}

static int make_room(struct scrub *s, size_t pages)
{
	size_t old = s->pages / WORD, words = (pages / WORD + 1) * 3 / 2 + 1;
	int rc;

	if (pages <= s->pages)
		return 0;
	rc = grow_bits(&s->used, old, words);
	if (!rc)
		rc = grow_bits(&s->free, old, words);
	if (!rc)
		rc = grow_bits(&s->zeroed, old, words);
	if (!rc)
		s->pages = words * WORD;
	return rc;
}

/* Pages of the file, whether LMDB counts them or not. */
static int count_pages(struct scrub *s, size_t *pages)
{
	struct stat file;
	MDB_envinfo info;
	int rc = mdb_env_info(s->env, &info);

	if (!rc && fstat(s->fd, &file))
		rc = errno;
	if (rc)
		return rc;
	*pages = (size_t)file.st_size / s->page_size;
	if (*pages <= info.me_last_pgno)
		*pages = info.me_last_pgno + 1;
	return make_room(s, *pages);
}

static int read_page(struct scrub *s, size_t number, uint8_t *page)
{
	ssize_t n = pread(s->fd, page, s->page_size, (off_t)(number * s->page_size));

	if (n < 0)
		return errno;
	/* A page that was never written ends the file, and reads as zero. */
	memset(page + n, 0, s->page_size - (size_t)n);
	return 0;
}

/* Zeroes part of a page in the file where it is not zero yet. */
static int zero(struct scrub *s, size_t number, const uint8_t *page, size_t from, size_t to)
{
	if (!memcmp(page + from, s->zeros, to - from))
		return 0;
	s->wrote = true;
	if (pwrite(s->fd, s->zeros, to - from, (off_t)(number * s->page_size + from)) !=
	    (ssize_t)(to - from))
		return errno ? errno : EIO;
	return 0;
}

/*
 * What stands behind a value in its own pages, of which a value that was replaced by
 * a shorter one may have left more than are needed.
 */
static int clear_run(struct scrub *s, size_t first, size_t len)
{
	size_t end = HEADER + len, run, from;
	int rc = first < s->pages ? read_page(s, first, s->value) : MDB_CORRUPTED;

	if (rc)
		return rc;
	run = get(s->value + 12, 4);
	if (get(s->value, sizeof(size_t)) != first || get(s->value + 10, 2) != IS_OVERFLOW ||
	    run > s->pages - first || end > run * s->page_size)
		return MDB_CORRUPTED;
	for (size_t i = 0; i < run; i++)
		note_used(s, first + i);
	for (size_t i = end / s->page_size; !rc && i < run; i++) {
		from = i == end / s->page_size ? end % s->page_size : 0;
		rc = read_page(s, first + i, s->value);
		if (!rc)
			rc = zero(s, first + i, s->value, from, s->page_size);
	}
	return rc;
}

static int walk(struct scrub *s, size_t number, unsigned depth);

/* What a node of a page refers to, unless it has been looked at since it was written. */
static int follow(struct scrub *s, const uint8_t *page, size_t node, bool branch, unsigned depth)
{
	size_t key, flags, data, page_number;

	if (node + NODE_HEADER > s->page_size)
		return MDB_CORRUPTED;
	if (branch)
		return walk(s, get(page + node, 6), depth + 1);
	flags = get(page + node + 4, 2);
	key = get(page + node + 6, 2);
	data = node + NODE_HEADER + key;
	if (!(flags & (IS_BIG_DATA | IS_TABLE)))
		return 0;
	if (data + (flags & IS_TABLE ? TABLE_LEN : sizeof(size_t)) > s->page_size)
		return MDB_CORRUPTED;
	if (flags & IS_TABLE)
		return walk(s, get(page + data + TABLE_ROOT, sizeof(size_t)), depth + 1);
	page_number = get(page + data, sizeof(size_t));
	if (page_number < s->pages && has_bit(s->used, page_number))
		return 0;
	return clear_run(s, page_number, get(page + node, 4));
}

/*
 * A tree from this page down, as far as it is new: a page that has been looked at has
 * not changed since, nor has anything below it.
 */
static int walk(struct scrub *s, size_t number, unsigned depth)
{
	size_t flags, lower, upper;
	uint8_t *page;
	int rc;

	if (number == NO_ROOT)
		return 0;
	if (number < META_PAGES || number >= s->pages || depth >= MAX_DEPTH)
		return MDB_CORRUPTED;
	if (has_bit(s->used, number))
		return 0;
	if (!s->level[depth] && !(s->level[depth] = malloc(s->page_size)))
		return ENOMEM;
	page = s->level[depth];
	rc = read_page(s, number, page);
	if (rc)
		return rc;
	flags = get(page + 10, 2);
	lower = get(page + 12, 2);
	upper = get(page + 14, 2);
	if (get(page, sizeof(size_t)) != number || (flags != IS_LEAF && flags != IS_BRANCH) ||
	    lower < HEADER || lower > upper || upper > s->page_size)
		return MDB_CORRUPTED;
	rc = zero(s, number, page, lower, upper);
	for (size_t at = HEADER; !rc && at < lower; at += 2)
		rc = follow(s, page, get(page + at, 2), flags == IS_BRANCH, depth);
	/* Last, so that a walk that failed comes back. */
	if (!rc)
		note_used(s, number);
	return rc;
}

/* The trees that transaction txn left; none where it changed nothing. */
static int walk_trees(struct scrub *s, size_t txn)
{
	int rc;

	for (size_t meta = 0; meta < META_PAGES; meta++) {
		size_t roots[2];

		rc = read_page(s, meta, s->value);
		if (rc)
			return rc;
		if (get(s->value + META_TXN, sizeof(size_t)) != txn)
			continue;
		for (size_t i = 0; i < 2; i++)
			roots[i] = get(s->value + META_TABLES + i * TABLE_LEN + TABLE_ROOT,
				       sizeof(size_t));
		rc = walk(s, roots[0], 0);
		return rc ? rc : walk(s, roots[1], 0);
	}
	return 0;
}

static int note_free(struct scrub *s, size_t page)
{
	set_bit(s->free, page, true);
	return 0;
}

/*
 * A page that the commit does not use any more. One that the commit before did not use
 * either was taken and given back in between, by nested transactions, and was written all
 * the same; nobody has ever seen it.
 */
static int note_given_back(struct scrub *s, size_t page)
{
	int rc;

	set_bit(s->used, page, false);
	if (!has_bit(s->zeroed, page) && page <= s->last)
		return 0;
	rc = read_page(s, page, s->value);
	return rc ? rc : zero(s, page, s->value, 0, s->page_size);
}

static int note_list(struct scrub *s, MDB_val list, int (*note)(struct scrub *s, size_t page))
{
	const uint8_t *ids = list.mv_data;
	size_t n = list.mv_size / sizeof(size_t) ? get(ids, sizeof(size_t)) : 0;
	int rc = 0;

	if (list.mv_size < (n + 1) * sizeof(size_t))
		return MDB_CORRUPTED;
	for (size_t i = 1; !rc && i <= n; i++) {
		size_t page = get(ids + i * sizeof(size_t), sizeof(size_t));

		if (page < META_PAGES || page >= s->pages)
			return MDB_CORRUPTED;
		rc = note(s, page);
	}
	return rc;
}

/*
 * Notes the pages that the transactions from first to last have freed, and that
 * are free still. LMDB shows its free list to read transactions alone; this one
 * is of the state after the last write. *later: others freed more.
 */
static int note_freed(struct scrub *s, size_t first, size_t last,
		      int (*note)(struct scrub *s, size_t page), bool *later)
{
	MDB_val key = {sizeof(first), &first}, list;
	MDB_cursor *cursor;
	MDB_txn *txn;
	int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);

	*later = false;
	if (rc)
		return rc;
	rc = mdb_cursor_open(txn, FREE_TABLE, &cursor);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	rc = mdb_cursor_get(cursor, &key, &list, MDB_SET_RANGE);
	while (!rc && !*later) {
		*later = get(key.mv_data, sizeof(size_t)) > last;
		if (!*later)
			rc = note_list(s, list, note);
		if (!rc)
			rc = mdb_cursor_get(cursor, &key, &list, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	mdb_txn_abort(txn);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

int scrub_commit(struct scrub *s, size_t txn)
{
	MDB_envinfo info;
	size_t pages;
	bool later;
	int rc = count_pages(s, &pages);

	if (!rc)
		rc = mdb_env_info(s->env, &info);
	if (!rc)
		rc = note_freed(s, txn, txn, note_given_back, &later);
	if (!rc)
		rc = walk_trees(s, txn);
	/* What was written is not known any more: the next commit looks at everything. */
	if (rc) {
		memset(s->used, 0, s->pages / 8);
		memset(s->zeroed, 0, s->pages / 8);
	} else {
		s->last = info.me_last_pgno;
	}
	return rc;
}

/* Behind the last page stands what a transaction wrote that was undone. */
static int clear_free(struct scrub *s, size_t last, size_t pages)
{
	int rc = 0;

	for (size_t n = 0; !rc && n < STEP_PAGES && s->next < pages; s->next++) {
		if ((s->next <= last && !has_bit(s->free, s->next)) || has_bit(s->zeroed, s->next))
			continue;
		rc = read_page(s, s->next, s->value);
		if (!rc)
			rc = zero(s, s->next, s->value, 0, s->page_size);
		if (!rc)
			set_bit(s->zeroed, s->next, true);
		n++;
	}
	return rc;
}

int scrub_step(struct scrub *s, size_t oldest, bool *more)
{
	MDB_envinfo info;
	size_t pages;
	bool later;
	int rc = count_pages(s, &pages);

	*more = false;
	if (!rc)
		rc = mdb_env_info(s->env, &info);
	if (rc)
		return rc;
	memset(s->free, 0, s->pages / 8);
	rc = note_freed(s, 0, oldest, note_free, &later);
	if (!rc)
		rc = clear_free(s, info.me_last_pgno, pages);
	*more = !rc && s->next < pages;
	if (!rc && !*more && s->wrote && fdatasync(s->fd))
		rc = errno;
	if (!*more) {
		s->next = META_PAGES;
		s->wrote = false;
	}
	return rc;
}

int scrub_open(MDB_env *env, struct scrub **out)
{
	struct scrub *s = calloc(1, sizeof(*s));
	MDB_envinfo info;
	MDB_stat stat;
	size_t pages;
	int rc = s ? mdb_env_get_fd(env, &s->fd) : ENOMEM;

	if (!rc)
		rc = mdb_env_info(env, &info);
	if (!rc)
		rc = mdb_env_stat(env, &stat);
	if (!rc) {
		s->env = env;
		s->page_size = stat.ms_psize;
		s->next = META_PAGES;
		s->last = info.me_last_pgno;
		s->value = malloc(s->page_size);
		s->zeros = calloc(1, s->page_size);
		rc = s->value && s->zeros ? count_pages(s, &pages) : ENOMEM;
	}
	if (!rc)
		rc = walk_trees(s, info.me_last_txnid);
	if (rc) {
		scrub_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

void scrub_close(struct scrub *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < MAX_DEPTH; i++)
		free(s->level[i]);
	free(s->value);
	free(s->zeros);
	free(s->zeroed);
	free(s->free);
	free(s->used);
	free(s);
}
