/*
 * A store as a stream that any later version, a store under another key, and
 * other software can read: docs/dump.md has the format. What comes out of here is
 * neither sealed nor turned; whoever calls keeps it off the disk.
 *
 * Thread: any; a load is the store's only writer.
 * Errors: BM_EDUMP for what is damaged, cut or of another format, BM_EMODEL where the
 * store's pack is not the model of a gallery, BM_EIO with errno where it cannot be
 * written, and those of gallery.
 * Owns: nothing; buffers are wiped.
 */
#ifndef BIOMATCH_DUMP_H
#define BIOMATCH_DUMP_H

#include <stdint.h>

#include "biomatch/db.h"
#include "biomatch/error.h"
#include "biomatch/gallery.h"

struct dump_counts {
	uint64_t galleries, subjects, encounters, images;
};

/* Writes all galleries as they are at one moment. */
int dump_write(struct gallery_store *store, int64_t now_ms, int fd,
	       struct dump_counts *counts) BM_MUST_CHECK;
/*
 * Adds what a dump holds to a store that has no gallery of these names, in many
 * transactions: after an error the store holds a part of it, and is to be thrown away. The
 * last one leaves an entry in the audit log, "load", with the dump's SHA-256.
 */
int dump_load(struct gallery_store *store, struct db *db, int64_t now_ms, int fd,
	      struct dump_counts *counts) BM_MUST_CHECK;

#endif
