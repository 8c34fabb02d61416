/*
 * A disk that loses power: rebuilds from a shim's log what could be on it.
 *
 * Until a sync is over, any sectors of 512 bytes of what was written since the
 * last one may have reached the disk, in any order; a sector itself is never
 * torn. A write through O_DSYNC is there once it is over, and says nothing about
 * the writes before it.
 */
#ifndef CRASH_DISK_H
#define CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>

#include "shim.h"

#define DISK_SECTOR 512

/* Disks that lie, for the controls: each forgets one promise. */
enum disk_lie { DISK_HONEST, DISK_DROPS_SYNC, DISK_DROPS_DSYNC };

struct disk_write {
	uint64_t offset;
	const uint8_t *data;
	uint32_t len;
	bool must; /* it was synced itself */
};

struct disk {
	enum disk_lie lie;
	uint8_t *log; /* the whole of it */
	size_t log_len, at;
	uint8_t *durable;
	size_t durable_len;
	struct disk_write *pending;
	size_t n_pending;
};

/* False where the log cannot be read or is cut off. */
bool disk_open(struct disk *disk, const char *log, enum disk_lie lie);
void disk_close(struct disk *disk);
/*
 * The next operation, begun but not over; false at the end. The power may fail
 * now: see disk_image. disk_finish ends the operation.
 */
bool disk_begin(struct disk *disk, struct shim_record *record, const uint8_t **data);
void disk_finish(struct disk *disk, const struct shim_record *record);
/* What one power cut may leave, in memory that the caller frees; the random state chooses. */
uint8_t *disk_image(const struct disk *disk, uint64_t *random, size_t *len);

#endif
