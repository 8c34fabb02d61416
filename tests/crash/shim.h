/*
 * What the shim writes down: every operation on a store's data file, and every
 * note beside it, in the order in which they happened.
 */
#ifndef CRASH_SHIM_H
#define CRASH_SHIM_H

#include <stdint.h>

enum shim_kind {
	SHIM_WRITE,    /* to the data file; durable after the next sync */
	SHIM_SYNCED,   /* to the data file through O_DSYNC; durable once it is over */
	SHIM_SYNC,     /* of the data file */
	SHIM_TRUNCATE, /* of the data file to offset bytes */
	SHIM_NOTE,     /* to a file called "notes": what the program knew then */
};

/* In front of len bytes of data. */
struct shim_record {
	uint32_t kind, len;
	uint64_t offset;
};

#endif
