/*
 * LMDB with sticky errors: one environment, named tables, and transactions that
 * remember their first failure, so that a run of reads and writes is checked
 * once, at its end. The only code that includes lmdb.h.
 *
 * Thread: a transaction belongs to the thread using it; the write transaction
 * to the writer. Read transactions are not bound to a thread (MDB_NOTLS) and
 * are to be short: one forgotten stops the reuse of pages.
 * Errors: BM_ENOREFERENCE never; a missing key is not an error (db_get returns
 * false). BM_EIO, BM_EFULL, BM_EMAPFULL, BM_ECORRUPT, BM_ELOCKED, BM_ENOMEM, BM_EREADONLY.
 * Owns: values are borrowed from the map until the transaction's end or, in a
 * write transaction, until its next write.
 */
#ifndef BIOMATCH_DB_H
#define BIOMATCH_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

struct db;

/* The tables are fixed: a stored format is one list, in db.c. */
enum db_table {
	DB_META,          /* store version, identity, counters */
	DB_GALLERIES,     /* gallery name -> gallery record */
	DB_SUBJECTS,      /* gallery id, pseudonym -> subject record */
	DB_TAIL,          /* gallery id, row -> fresh row */
	DB_SEGMENTS,      /* gallery id, segment, plane, part -> plane of a sealed segment */
	DB_REQUESTS,      /* request pseudonym -> remembered reply */
	DB_REQUEST_AGE,   /* time, request pseudonym -> owners: the order of forgetting */
	DB_AUDIT,         /* sequence -> entry of the audit log */
	DB_CHANGES,       /* sequence -> change of the change log */
	DB_CHANGE_OWNERS, /* owner, sequence -> tag: the changes that go with a subject */
	DB_EXPIRY, /* time, gallery id, pseudonym, encounter -> nothing: the order of expiry */
	DB_HOLDS,  /* gallery id, pseudonym -> legal holds on a subject */
	DB_REQUEST_OWNERS, /* owner, request pseudonym -> tag: the replies that go with a subject */
	DB_IMAGES,         /* gallery id, pseudonym, encounter -> kept picture, sealed */
	DB_TABLES
};

struct db_txn {
	struct db *db;
	void *handle; /* MDB_txn */
	int error;    /* first failure, sticky; 0 while all went well */
	bool writes;
	struct db_txn *parent; /* of a nested one */
};

struct db_cursor {
	struct db_txn *txn;
	void *handle; /* MDB_cursor */
};

/*
 * Opens the environment in a directory on a local disk that exists and belongs
 * to this user.
 * The map is sparse: it takes address space, the file grows as it fills. BM_ELOCKED when
 * another process has it open. On failure message says what to do.
 */
int db_open(const char *dir, uint64_t map_size, unsigned max_readers, struct db **out,
	    char message[256]) BM_MUST_CHECK;
/* Opens a store that is there for reading alone, beside a daemon that writes it. */
int db_open_reader(const char *dir, uint64_t map_size, struct db **out,
		   char message[256]) BM_MUST_CHECK;
void db_close(struct db *db);
/* Writes the data file as of one commit to a descriptor, while others read and write. */
int db_copy(struct db *db, int fd) BM_MUST_CHECK;

/*
 * Makes the map larger, if it is not so large already, between transactions: new
 * ones wait for the running ones to end. BM_EBUSY when those do not end in time.
 */
int db_grow(struct db *db, uint64_t map_size) BM_MUST_CHECK;

/* True once a commit or sync failed: every later write is BM_EREADONLY. */
bool db_is_read_only(const struct db *db);

struct db_stat {
	uint64_t map_bytes, used_bytes; /* the map's, and those of the file that were ever in use */
	unsigned readers;               /* read transactions under way */
	uint64_t oldest_reader;         /* commits since the oldest of them began; 0 for none */
};
int db_stat(struct db *db, struct db_stat *out) BM_MUST_CHECK;

int db_begin_read(struct db *db, struct db_txn *txn) BM_MUST_CHECK;
int db_begin_write(struct db *db, struct db_txn *txn) BM_MUST_CHECK;
/*
 * A second read transaction on the state that an open one sees, for a thread that
 * helps the other's and ends first; never waits. BM_EBUSY when there is a newer state.
 */
int db_begin_beside(const struct db_txn *view, struct db_txn *txn) BM_MUST_CHECK;
/*
 * Overwrites, on disk, what the file still holds of entries that were deleted or
 * replaced, as much as takes a millisecond or so; *more while there is more to do.
 * What a reader may still see is left and stays wanted. A failure to write makes
 * the store read-only.
 */
int db_scrub(struct db *db, bool *more) BM_MUST_CHECK;
/* To be called inside the transaction that deletes what must not remain. */
void db_want_scrub(struct db *db);
bool db_wants_scrub(const struct db *db);
/* A transaction inside a write transaction: undone alone, committed into it. */
int db_begin_nested(struct db_txn *parent, struct db_txn *txn) BM_MUST_CHECK;
/*
 * Commits, or aborts where the transaction holds an error, which it returns.
 * A top-level commit that fails to write or sync makes the store read-only; the
 * failure of a nested one is its parent's error, too.
 */
int db_commit(struct db_txn *txn) BM_MUST_CHECK;
/* Ends a transaction without keeping anything. Harmless after db_commit. */
void db_abort(struct db_txn *txn);

/* True with *value set when the key is there. */
bool db_get(struct db_txn *txn, enum db_table table, struct bytes key, struct bytes *value);
/* Adds or replaces. */
/*
 * Of bytes of a value in the map: whether all are in memory, and a hint to the kernel to
 * read them from disk before they are looked at.
 */
bool db_is_resident(struct bytes part);
void db_prefetch(struct bytes part);
void db_put(struct db_txn *txn, enum db_table table, struct bytes key, struct bytes value);
/* Adds or replaces a value of len bytes that the caller fills in place; NULL on error. */
void *db_reserve(struct db_txn *txn, enum db_table table, struct bytes key, size_t len);
/* True when there was such a key. */
bool db_delete(struct db_txn *txn, enum db_table table, struct bytes key);

/* A cursor; a failure to open it sticks to the transaction. */
void db_cursor_open(struct db_txn *txn, enum db_table table, struct db_cursor *cursor);
void db_cursor_close(struct db_cursor *cursor);
/* The first entry at or after key; false at the end. */
bool db_cursor_seek(struct db_cursor *cursor, struct bytes key, struct bytes *found,
		    struct bytes *value);
bool db_cursor_next(struct db_cursor *cursor, struct bytes *found, struct bytes *value);
/* The last entry of the table; false when it is empty. */
bool db_cursor_last(struct db_cursor *cursor, struct bytes *found, struct bytes *value);
/* Removes the entry the cursor stands on. */
void db_cursor_delete(struct db_cursor *cursor);

#endif
