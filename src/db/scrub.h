/*
 * Overwrites what LMDB leaves behind: it frees pages without clearing them, and
 * what a page does not use may hold bytes of a deleted entry.
 */
#ifndef DB_SCRUB_H
#define DB_SCRUB_H

#include <lmdb.h>
#include <stdbool.h>

/*
 * While the caller holds a write transaction without changes, which keeps others out:
 * zeroes every free page and every byte that no page uses, then syncs. Pages that
 * a reader which began at oldest may still see are left, and *pinned is set.
 * Gives an errno or an MDB code.
 */
int scrub_pages(MDB_env *env, size_t oldest, bool *pinned);

#endif
