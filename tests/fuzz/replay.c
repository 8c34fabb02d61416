/*
 * Runs a fuzz target over files, and over every file of a directory, without
 * libFuzzer: what was found once stays found, whichever compiler is at hand.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "fuzz.h"

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned replayed;

static void replay_file(const char *path, size_t size)
{
	/* Its own allocation, so that a read past its end is seen. */
	uint8_t *data = malloc(size ? size : 1);
	FILE *file = fopen(path, "rb");

	REQUIRE(data && file);
	REQUIRE(fread(data, 1, size, file) == size);
	fclose(file);
	fprintf(stderr, "%s\n", path);
	REQUIRE(!LLVMFuzzerTestOneInput(data, size));
	free(data);
	replayed++;
}

static void replay(const char *path)
{
	struct dirent *entry;
	struct stat st;
	char inner[4096];
	DIR *dir;

	REQUIRE(!stat(path, &st));
	if (!S_ISDIR(st.st_mode)) {
		replay_file(path, (size_t)st.st_size);
		return;
	}
	dir = opendir(path);
	REQUIRE(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
		replay(inner);
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%u inputs replayed\n", replayed);
	return replayed ? 0 : 1;
}
