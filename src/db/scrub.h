/*
 * Overwrites what LMDB leaves behind: it frees pages without clearing them, and
 * what a page does not use may hold bytes of other entries, since LMDB takes its
 * buffers again as they are.
 *
 * Two things are kept so that the work follows the changes and not the file. Of
 * every page in use, what it does not use is zero: scrub_open sees to that for the
 * pages that are there, scrub_commit for those that a transaction has written.
 * Hence only free pages can hold what was erased; scrub_step clears some at a time.
 *
 * All functions give an errno or an MDB code. Thread: the one that writes.
 */
#ifndef DB_SCRUB_H
#define DB_SCRUB_H

#include <lmdb.h>
#include <stdbool.h>

struct scrub;

/* Reads every page of the trees once, while nobody writes. */
int scrub_open(MDB_env *env, struct scrub **out);
void scrub_close(struct scrub *scrub);

/* After the commit of transaction txn, before the next one begins. */
int scrub_commit(struct scrub *scrub, size_t txn);

/*
 * While the caller holds a write transaction without changes: clears free pages
 * from where the last step ended, and syncs when it comes to the end; *more tells that
 * it did not. Pages that a reader which began at oldest may still see are left.
 */
int scrub_step(struct scrub *scrub, size_t oldest, bool *more);

#endif
