/*
 * A disk that fails: for a child process of a test, as there is no way back.
 */
#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Turns the descriptors of LMDB's data file into ones that cannot be written. */
static inline bool fault_lose_data_file(void)
{
	int lost = 0, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	for (int fd = 3; null >= 0 && fd < 64; fd++) {
		char link[32], target[256];
		ssize_t len;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		len = readlink(link, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = '\0';
		if (strstr(target, "data.mdb"))
			lost += dup2(null, fd) == fd;
	}
	return lost > 0;
}

#endif
