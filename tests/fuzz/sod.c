/* The EF.SOD of a passport chip: what is signed for one data group is for no other. */
#include "biomatch/passive.h"
#include "fuzz.h"

/* The seeds are of a state whose certificates hold for a century. */
#define NOW_MS INT64_C(1800000000000)

static const char dg2[] = "a data group";
static struct passive_trust *trust;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char message[PASSIVE_MESSAGE_LEN];

	(void)argc, (void)argv;
	REQUIRE(!passive_open("tests/fuzz/csca.pem", NULL, &trust, message));
	return 0;
}

static enum passive_finding find(const uint8_t *data, size_t size, struct bytes group)
{
	struct passive_verdict verdict;

	REQUIRE(!passive_check(trust, (struct bytes){data, size}, group, NOW_MS, &verdict));
	REQUIRE(verdict.finding <= PASSIVE_DIGEST);
	REQUIRE(!verdict.country[0] || !memcmp(verdict.country, "UT", 3));
	return verdict.finding;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum passive_finding finding =
		find(data, size, (struct bytes){(const uint8_t *)dg2, sizeof(dg2) - 1});

	if (finding == PASSIVE_AUTHENTIC)
		finding = find(data, size, (struct bytes){(const uint8_t *)dg2, sizeof(dg2) - 2});
	REQUIRE(finding != PASSIVE_AUTHENTIC);
	return 0;
}
