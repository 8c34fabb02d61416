/*
 * Preloaded (LD_PRELOAD) between a program and its store.
 *
 *   SHIM_LOG=FILE        appends a struct shim_record for each operation
 *   SHIM_FAIL=CALL:NAME  makes a call (pwrite, fdatasync, ...) on the data file fail
 *                        with an errno of EIO, ENOSPC or EDQUOT, or not return with
 *                        HANG; pwrite stands for every way to write
 *   SHIM_WHEN=FILE       while this file is there
 *   SHIM_HANG=FILE       while this file says so: a call on the threads of a name does
 *                        not return. Its lines are CALL:NAME; the calls are wait (for
 *                        work), turn (of a network loop) and begin (a transaction)
 */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* One operation after the other, so that the log has the order of the disk. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static bool is_called(int fd, const char *name)
{
	char link[32], target[512];
	ssize_t len;
	const char *last;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, target, sizeof(target) - 1);
	if (len <= 0)
		return false;
	target[len] = '\0';
	last = strrchr(target, '/');
	return last && !strcmp(last + 1, name);
}

static int log_fd(void)
{
	static int fd = -1;
	const char *path = getenv("SHIM_LOG");

	if (fd < 0 && path)
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return fd;
}

/* A log with a hole in it would prove nothing. */
static void log_operation(uint32_t kind, uint64_t offset, const struct iovec *iov, int n,
			  size_t len)
{
	struct shim_record record = {kind, (uint32_t)len, offset};
	int fd = log_fd();

	if (fd < 0)
		return;
	if (REAL(write)(fd, &record, sizeof(record)) != (ssize_t)sizeof(record))
		abort();
	for (int i = 0; i < n && len; i++) {
		size_t part = iov[i].iov_len < len ? iov[i].iov_len : len;

		if (REAL(write)(fd, iov[i].iov_base, part) != (ssize_t)part)
			abort();
		len -= part;
	}
}

static bool is_time(void)
{
	const char *when = getenv("SHIM_WHEN");

	return when && !access(when, F_OK);
}

/* Whether the file of SHIM_HANG names a call and the begin of this thread's name. */
static bool hangs(const char *call)
{
	const char *path = getenv("SHIM_HANG");
	char here[32], name[16], line[32];
	bool found = false;
	FILE *file = path ? fopen(path, "r") : NULL;

	if (!file)
		return false;
	pthread_getname_np(pthread_self(), name, sizeof(name));
	snprintf(here, sizeof(here), "%s:%s", call, name);
	while (!found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = *line && !strncmp(here, line, strlen(line));
	}
	fclose(file);
	return found;
}

static void hang_if_told(const char *call)
{
	while (hangs(call))
		usleep(10000);
}

/* True with errno set when this call is to fail now. */
static bool fails(const char *call)
{
	const char *fail = getenv("SHIM_FAIL");
	size_t len = strlen(call);

	if (!fail || strncmp(fail, call, len) || fail[len] != ':' || !is_time())
		return false;
	fail += len + 1;
	if (!strcmp(fail, "HANG")) {
		while (is_time())
			usleep(10000);
		return false;
	}
	errno = !strcmp(fail, "ENOSPC") ? ENOSPC : !strcmp(fail, "EDQUOT") ? EDQUOT : EIO;
	return true;
}

/* Gives -1 for "not one of ours". */
static int kind_of(int fd)
{
	if (is_called(fd, "notes"))
		return SHIM_NOTE;
	if (!is_called(fd, "data.mdb"))
		return -1;
	return fcntl(fd, F_GETFL) & O_DSYNC ? SHIM_SYNCED : SHIM_WRITE;
}

/* A write of any sort; offset -1 for where the descriptor stands. */
static ssize_t write_out(int fd, const struct iovec *iov, int n, off_t offset)
{
	off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) : offset;
	int kind = kind_of(fd);
	ssize_t done;

	if ((kind == SHIM_WRITE || kind == SHIM_SYNCED) && fails("pwrite"))
		return -1;
	pthread_mutex_lock(&lock);
	done = offset < 0 ? REAL(writev)(fd, iov, n) : REAL(pwritev)(fd, iov, n, offset);
	if (kind >= 0 && done > 0)
		log_operation((uint32_t)kind, (uint64_t)at, iov, n, (size_t)done);
	pthread_mutex_unlock(&lock);
	return done;
}

ssize_t write(int fd, const void *data, size_t len)
{
	struct iovec iov = {(void *)(uintptr_t)data, len};

	return kind_of(fd) < 0 ? REAL(write)(fd, data, len) : write_out(fd, &iov, 1, -1);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	return kind_of(fd) < 0 ? REAL(writev)(fd, iov, n) : write_out(fd, iov, n, -1);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	struct iovec iov = {(void *)(uintptr_t)data, len};

	return write_out(fd, &iov, 1, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return write_out(fd, iov, n, offset);
}

int ftruncate(int fd, off_t len)
{
	int result;

	pthread_mutex_lock(&lock);
	result = REAL(ftruncate)(fd, len);
	if (!result && kind_of(fd) == SHIM_WRITE)
		log_operation(SHIM_TRUNCATE, (uint64_t)len, NULL, 0, 0);
	pthread_mutex_unlock(&lock);
	return result;
}

/* What may be written down as synced was written before the sync began. */
static int sync_file(int fd, const char *name, int (*sync)(int))
{
	bool ours = is_called(fd, "data.mdb");
	int result;

	if (ours && fails(name))
		return -1;
	pthread_mutex_lock(&lock);
	result = sync(fd);
	if (ours && !result)
		log_operation(SHIM_SYNC, 0, NULL, 0, 0);
	pthread_mutex_unlock(&lock);
	return result;
}

int fsync(int fd)
{
	return sync_file(fd, "fsync", REAL(fsync));
}

int fdatasync(int fd)
{
	return sync_file(fd, "fdatasync", REAL(fdatasync));
}

/* The store never maps its file for writing: nothing else may sync it so. */
int msync(void *start, size_t len, int flags)
{
	if (log_fd() >= 0)
		abort();
	return REAL(msync)(start, len, flags);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
			   const struct timespec *until)
{
	int result = REAL(pthread_cond_clockwait)(cond, mutex, clock, until);

	/* As if it had not been woken: whoever wakes it may take the lock. */
	if (hangs("wait")) {
		pthread_mutex_unlock(mutex);
		hang_if_told("wait");
		pthread_mutex_lock(mutex);
	}
	return result;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
	hang_if_told("turn");
	return REAL(epoll_wait)(fd, events, n, timeout);
}

/* LMDB's, whose types do not matter here. */
int mdb_txn_begin(void *environment, void *parent, unsigned flags, void **txn);

int mdb_txn_begin(void *environment, void *parent, unsigned flags, void **txn)
{
	hang_if_told("begin");
	return REAL(mdb_txn_begin)(environment, parent, flags, txn);
}
