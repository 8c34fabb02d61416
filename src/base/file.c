#include "biomatch/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "biomatch/bytes.h"

int file_read_full(int fd, void *data, size_t len)
{
	uint8_t *p = data;

	while (len) {
		ssize_t n = read(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return BM_EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int file_write_full(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return BM_EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int file_read(const char *path, size_t max, uint8_t **data, size_t *len)
{
	uint8_t *buffer = NULL;
	struct stat st;
	int error = BM_EIO, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return BM_EIO;
	if (fstat(fd, &st))
		goto out;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > max) {
		errno = S_ISREG(st.st_mode) ? EFBIG : EISDIR;
		error = BM_EINVAL;
		goto out;
	}
	buffer = malloc((size_t)st.st_size + 1);
	if (!buffer) {
		error = BM_ENOMEM;
		goto out;
	}
	error = file_read_full(fd, buffer, (size_t)st.st_size);
	if (error) {
		free(buffer);
		goto out;
	}
	buffer[st.st_size] = 0;
	*data = buffer;
	*len = (size_t)st.st_size;
out:
	close(fd);
	return error;
}

/*
 * The bits by which others could read or change a secret. Root gives its files to a
 * service through the group's bits, and so do systemd's credentials (their ACL's
 * mask shows there).
 */
static mode_t others_of(const struct stat *st)
{
	return st->st_uid == 0 && geteuid() != 0 ? 037 : 077;
}

int file_read_secrets(const char *path, uint8_t *out, size_t len, size_t max, size_t *n)
{
	struct stat st;
	int error = BM_EIO, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return BM_EIO;
	if (fstat(fd, &st))
		goto out;
	*n = (size_t)st.st_size / len;
	if (!S_ISREG(st.st_mode) || !*n || *n > max || st.st_size != (off_t)(*n * len) ||
	    (st.st_mode & others_of(&st))) {
		errno = st.st_mode & others_of(&st) ? EPERM : EINVAL;
		error = BM_EINVAL;
		goto out;
	}
	error = file_read_full(fd, out, *n * len);
out:
	close(fd);
	return error;
}

int file_read_secret(const char *path, uint8_t *out, size_t len)
{
	size_t n;

	return file_read_secrets(path, out, len, 1, &n);
}

int file_write_new(const char *path, const void *data, size_t len, unsigned mode)
{
	int error, fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	if (fd < 0)
		return BM_EIO;
	error = file_write_full(fd, data, len);
	if (!error && fsync(fd))
		error = BM_EIO;
	if (close(fd) && !error)
		error = BM_EIO;
	if (error)
		unlink(path);
	return error;
}
