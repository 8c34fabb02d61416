/*
 * What every fuzz target shares. A target is one file, tests/fuzz/<name>.c, that
 * defines LLVMFuzzerTestOneInput; the modules it links stand in fuzz.mk. An input is
 * judged by what the target requires of the answer, not by surviving alone.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Holds in every build, unlike assert. */
#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__,           \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* An input that is taken from the front. */
struct fuzz_input {
	const uint8_t *p, *end;
};

static inline uint8_t fuzz_byte(struct fuzz_input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

static inline const uint8_t *fuzz_take(struct fuzz_input *in, size_t *len)
{
	const uint8_t *at = in->p;

	if (*len > (size_t)(in->end - in->p))
		*len = (size_t)(in->end - in->p);
	in->p += *len;
	return at;
}

/* The input as a C string; the caller frees it. */
static inline char *fuzz_text(struct fuzz_input *in)
{
	size_t len = (size_t)(in->end - in->p);
	char *text = malloc(len + 1);

	REQUIRE(text);
	memcpy(text, in->p, len);
	text[len] = '\0';
	in->p = in->end;
	return text;
}

/* A file in memory, for parsers that open one by its path. */
struct fuzz_file {
	int fd;
	char path[32];
};

static inline void fuzz_file_open(struct fuzz_file *file)
{
	file->fd = memfd_create("fuzz", MFD_CLOEXEC);
	REQUIRE(file->fd >= 0);
	snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->fd);
}

static inline void fuzz_file_set(const struct fuzz_file *file, const void *data, size_t size)
{
	REQUIRE(!ftruncate(file->fd, 0));
	REQUIRE(pwrite(file->fd, data, size, 0) == (ssize_t)size);
}

#endif
