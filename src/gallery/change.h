/*
 * Changes as they stand in the change log.
 */
#ifndef GALLERY_CHANGE_H
#define GALLERY_CHANGE_H

#include "biomatch/changes.h"
#include "store.h"

/* What a change that was made elsewhere brings along: what was decided there. */
struct gallery_replica {
	uint32_t gallery, dim;
	unsigned generation; /* of the key that the gallery is under by then */
	uint8_t pseudonym[KEYS_PSEUDONYM_LEN];
	uint8_t digest[PACK_SHA256_LEN];
	char model[GALLERY_MODEL_MAX + 1];
};

/* A change that was made. */
struct logged {
	const struct gallery_change *change;
	const struct gallery_record *gallery;
	const uint8_t *pseudonym; /* NULL for a change of the gallery */
	const char *encounter;    /* "" for none */
	const float *stored;      /* of a put, the floats as they are stored; else NULL */
};
int change_log(const struct gallery_store *store, struct db_txn *txn,
	       const struct logged *l) BM_MUST_CHECK;

#endif
