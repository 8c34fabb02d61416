/*
 * Records in a stream: a length, four bytes, big-endian, and a packed DumpRecord.
 */
#ifndef DUMP_DUMP_H
#define DUMP_DUMP_H

#include <openssl/evp.h>

#include "biomatch/arena.h"
#include "biomatch/dump.h"
#include "biomatch/v1/dump.pb-c.h"

#define DUMP_FORMAT "biomatch-dump-1"
/* The longest is a picture; a subject with all its encounters is below half of it. */
#define DUMP_RECORD_MAX (GALLERY_IMAGE_MAX + ((size_t)1 << 20))
/* Of a record unpacked. */
#define DUMP_MEMORY     ((size_t)8 << 20)
#define DUMP_DIGEST_LEN 32

_Static_assert(GALLERY_MAX_ENCOUNTERS *(PACK_MAX_DIM * sizeof(float) + 1024) < DUMP_RECORD_MAX / 2,
	       "every subject fits");
_Static_assert(GALLERY_IMAGE_MAX + 1024 < DUMP_RECORD_MAX, "every picture fits");

/* A stream and the digest of what has passed. */
struct dump_stream {
	int fd;
	EVP_MD_CTX *digest;
	struct dump_counts counts;
};

int stream_open(struct dump_stream *stream, int fd) BM_MUST_CHECK;
void stream_close(struct dump_stream *stream);
/* Takes bytes that were read or are to be written into the digest. */
int stream_take(struct dump_stream *stream, const void *data, size_t len) BM_MUST_CHECK;
/* The digest of what has passed by now. */
int stream_digest(const struct dump_stream *stream, uint8_t out[DUMP_DIGEST_LEN]) BM_MUST_CHECK;

#endif
