/* Files: limits, secrets and who may read them, new files, whole reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "biomatch/file.h"

struct place {
	char dir[64], path[96];
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	strcpy(place->dir, "/tmp/biomatch-file-XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->path, sizeof(place->path), "%s/f", place->dir);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;

	unlink(place->path);
	assert_int_equal(rmdir(place->dir), 0);
	free(place);
	return 0;
}

static void test_read(void **state)
{
	const struct place *place = *state;
	uint8_t *data = NULL;
	size_t len = 0;

	assert_int_equal(file_write_new(place->path, "a\0b", 3, 0600), 0);
	assert_int_equal(file_read(place->path, 3, &data, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(data, "a\0b\0", 4);
	free(data);
	assert_int_equal(file_read(place->path, 2, &data, &len), BM_EINVAL);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(file_read(place->dir, 1 << 20, &data, &len), BM_EINVAL);
	assert_int_equal(errno, EISDIR);
	assert_int_equal(file_read("/nonexistent", 1, &data, &len), BM_EIO);
	assert_int_equal(errno, ENOENT);
}

static void test_read_empty(void **state)
{
	const struct place *place = *state;
	uint8_t *data = NULL;
	size_t len = 1;

	assert_int_equal(file_write_new(place->path, "", 0, 0600), 0);
	assert_int_equal(file_read(place->path, 0, &data, &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(data[0], 0);
	free(data);
}

static void test_write_new(void **state)
{
	const struct place *place = *state;
	struct stat st;

	assert_int_equal(file_write_new(place->path, "x", 1, 0640), 0);
	assert_int_equal(stat(place->path, &st), 0);
	assert_int_equal(st.st_mode & 0777 & ~0640, 0);
	assert_int_equal(st.st_size, 1);
	assert_int_equal(file_write_new(place->path, "yy", 2, 0600), BM_EIO);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(stat(place->path, &st), 0);
	assert_int_equal(st.st_size, 1);
	assert_int_equal(file_write_new("/nonexistent/f", "x", 1, 0600), BM_EIO);
}

static void test_secret(void **state)
{
	static const unsigned open_modes[] = {0640, 0604, 0660, 0606, 0620, 0602, 0610, 0777};
	const struct place *place = *state;
	uint8_t key[8] = {0};

	assert_int_equal(file_write_new(place->path, "01234567", 8, 0600), 0);
	assert_int_equal(file_read_secret(place->path, key, 8), 0);
	assert_memory_equal(key, "01234567", 8);
	assert_int_equal(chmod(place->path, 0400), 0);
	assert_int_equal(file_read_secret(place->path, key, 8), 0);
	memset(key, 0, sizeof(key));
	for (size_t i = 0; i < sizeof(open_modes) / sizeof(open_modes[0]); i++) {
		assert_int_equal(chmod(place->path, open_modes[i]), 0);
		assert_int_equal(file_read_secret(place->path, key, 8), BM_EINVAL);
		assert_int_equal(errno, EPERM);
	}
	assert_int_equal(chmod(place->path, 0600), 0);
	assert_int_equal(file_read_secret(place->path, key, 7), BM_EINVAL);
	assert_int_equal(file_read_secret(place->dir, key, 8), BM_EINVAL);
	assert_int_equal(file_read_secret("/nonexistent", key, 8), BM_EIO);
	assert_memory_equal(key, "\0\0\0\0\0\0\0\0", 8);
}

/* How a service that is not root gets a secret of root's. */
static void test_secret_of_root(void **state)
{
	const struct place *place = *state;
	uint8_t key[8];

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(place->dir, 0755), 0);
	assert_int_equal(file_write_new(place->path, "01234567", 8, 0440), 0);
	assert_int_equal(chown(place->path, 0, 65534), 0);
	assert_int_equal(setegid(65534), 0);
	assert_int_equal(seteuid(65534), 0);
	assert_int_equal(file_read_secret(place->path, key, 8), 0);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(place->path, 0460), 0);
	assert_int_equal(seteuid(65534), 0);
	assert_int_equal(file_read_secret(place->path, key, 8), BM_EINVAL);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(setegid(0), 0);
}

#define MUCH ((size_t)1 << 20)

struct pouring {
	int fd;
	const uint8_t *data;
	int error;
};

static void *pour(void *arg)
{
	struct pouring *p = arg;

	p->error = file_write_full(p->fd, p->data, MUCH);
	close(p->fd);
	return NULL;
}

/* More than a pipe holds, so that both sides see short reads and writes. */
static void test_full_reads_and_writes(void **state)
{
	uint8_t *in = malloc(MUCH), *out = malloc(MUCH), extra;
	struct pouring p = {.error = 1};
	pthread_t writer;
	int fds[2];

	(void)state;
	assert_true(in && out);
	for (size_t i = 0; i < MUCH; i++)
		out[i] = (uint8_t)(i * 31 >> 3);
	assert_int_equal(pipe(fds), 0);
	p.fd = fds[1];
	p.data = out;
	assert_int_equal(pthread_create(&writer, NULL, pour, &p), 0);
	assert_int_equal(file_read_full(fds[0], in, MUCH), 0);
	pthread_join(writer, NULL);
	assert_int_equal(p.error, 0);
	assert_memory_equal(in, out, MUCH);
	assert_int_equal(file_read_full(fds[0], &extra, 1), BM_EIO);
	close(fds[0]);
	free(in);
	free(out);
}

static void test_nobody_reads(void **state)
{
	int fds[2];

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(file_write_full(fds[1], "x", 1), BM_EIO);
	assert_int_equal(errno, EPIPE);
	close(fds[1]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_new, setup, teardown),
		cmocka_unit_test_setup_teardown(test_secret, setup, teardown),
		cmocka_unit_test_setup_teardown(test_secret_of_root, setup, teardown),
		cmocka_unit_test(test_full_reads_and_writes),
		cmocka_unit_test(test_nobody_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
