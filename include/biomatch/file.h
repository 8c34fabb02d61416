/*
 * Whole files and whole reads.
 *
 * Thread: any.  Errors: BM_EIO, BM_ENOMEM, BM_EINVAL (too long); errno is kept
 * for the caller's message.
 */
#ifndef BIOMATCH_FILE_H
#define BIOMATCH_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"

/*
 * Reads a file of at most max bytes into *data, which the caller frees; a NUL
 * stands behind the last byte. BM_EINVAL when it is longer.
 */
int file_read(const char *path, size_t max, uint8_t **data, size_t *len) BM_MUST_CHECK;
/*
 * Reads a secret of exactly len bytes into out. BM_EINVAL when the file has
 * another length, or can be read or written by anyone but its owner; a file of
 * root's may be readable by the group through which a service gets it.
 */
int file_read_secret(const char *path, uint8_t *out, size_t len) BM_MUST_CHECK;
/* The same for one to max secrets of len bytes, one behind the other; *n tells how many. */
int file_read_secrets(const char *path, uint8_t *out, size_t len, size_t max,
		      size_t *n) BM_MUST_CHECK;
/* Writes a new file with this mode; BM_EIO with errno EEXIST when it is there. */
int file_write_new(const char *path, const void *data, size_t len, unsigned mode) BM_MUST_CHECK;
/* Reads or writes all of len bytes on a descriptor; end of file is BM_EIO. */
int file_read_full(int fd, void *data, size_t len) BM_MUST_CHECK;
int file_write_full(int fd, const void *data, size_t len) BM_MUST_CHECK;

#endif
