/* A model pack's manifest, and the thresholds that follow from it. */
#include <errno.h>

#include "biomatch/pack.h"
#include "fuzz.h"

static struct fuzz_file file;
static char dir[] = "/tmp/biomatch-fuzz-XXXXXX";

static void remove_dir(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/manifest.yaml", dir);
	unlink(path);
	rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char path[64];

	(void)argc;
	(void)argv;
	fuzz_file_open(&file);
	REQUIRE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/manifest.yaml", dir);
	REQUIRE(!symlink(file.path, path));
	REQUIRE(!atexit(remove_dir));
	return 0;
}

static void ask(const struct pack *pack)
{
	float loose, strict;
	double smallest;

	REQUIRE(pack->dim && pack->dim <= PACK_MAX_DIM && pack->dim % 16 == 0);
	REQUIRE(pack->calibration_len >= 2 && pack->calibration_len <= PACK_MAX_CALIBRATION);
	REQUIRE(pack->band_stranger < pack->band_mate);
	if (pack_threshold(pack, 1e-3, &strict, &smallest))
		REQUIRE(smallest > 1e-3);
	else if (!pack_threshold(pack, 1e-2, &loose, &smallest))
		REQUIRE(loose <= strict);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char message[PACK_MESSAGE_LEN];
	struct pack *pack;
	int error;

	fuzz_file_set(&file, data, size);
	error = pack_open(dir, false, &pack, message);
	if (!error) {
		ask(pack);
		pack_close(pack);
		return 0;
	}
	REQUIRE(error == BM_EPACK && strlen(message) > strlen(dir) &&
		strlen(message) < sizeof(message));
	return 0;
}
