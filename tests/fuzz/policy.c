/* A policy file, and what an endpoint is told by it. */
#include "biomatch/policy.h"
#include "fuzz.h"

static struct fuzz_file file;

/* Tells who is live; a calibration that supports rates down to 0.0001. */
static const struct pack pack = {
	.name = "test",
	.version = "1",
	.model = "test/1",
	.dim = 16,
	.landmarks_kind = PACK_LANDMARKS_68,
	.liveness = {.file = "/nowhere/live.onnx"},
	.calibration_id = "cal-1",
	.calibration_mates = 1000,
	.calibration_non_mates = 100000,
	.calibration = {{0.1, 0.1f}, {0.01, 0.2f}, {0.001, 0.3f}, {0.0001, 0.4f}},
	.calibration_len = 4,
	.band_stranger = 0.2f,
	.band_mate = 0.7f,
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_file_open(&file);
	return 0;
}

static void ask(const struct policy *policy)
{
	static const char *const peers[] = {"biomatch://hk/site/lane/1", "biomatch://hk/s/x/1", ""};
	const struct policy_purpose *purpose;

	for (unsigned i = 0; i < 3 * POLICY_OPERATIONS; i++) {
		int error = policy_decide(policy, peers[i % 3], "gate", i / 3, "people", &purpose);

		if (!error)
			REQUIRE(purpose->operations & 1u << i / 3 && *peers[i % 3]);
		else
			REQUIRE(error == BM_EPEER || error == BM_EPURPOSE || error == BM_EDENIED);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char message[POLICY_MESSAGE_LEN];
	struct policy *policy;
	int error;

	fuzz_file_set(&file, data, size);
	error = policy_open(file.path, &pack, &policy, message);
	if (!error) {
		ask(policy);
		policy_close(policy);
		return 0;
	}
	REQUIRE(error == BM_ECONF && strlen(message) > strlen(file.path) &&
		strlen(message) < sizeof(message));
	return 0;
}
