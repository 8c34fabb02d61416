/* Words from outside: names of endpoints, numbers, sizes, durations, addresses. */
#include "biomatch/bytes.h"
#include "biomatch/parse.h"
#include "biomatch/policy.h"
#include "fuzz.h"

static void read_numbers(const char *s)
{
	char again[32];
	uint64_t n;
	double x;
	bool truth;

	if (!parse_uint(s, 3, 1000000, &n)) {
		REQUIRE(n >= 3 && n <= 1000000);
		snprintf(again, sizeof(again), "%llu", (unsigned long long)n);
		REQUIRE(!strcmp(s, again));
	}
	if (!parse_double(s, -1, 1, &x))
		REQUIRE(x >= -1 && x <= 1);
	if (!parse_bool(s, &truth))
		REQUIRE(!strcmp(s, truth ? "true" : "false"));
	if (!parse_size(s, 1, UINT64_C(1) << 40, &n))
		REQUIRE(n >= 1 && n <= UINT64_C(1) << 40);
	if (!parse_duration_ms(s, 1, 86400000, &n))
		REQUIRE(n >= 1 && n <= 86400000);
}

static void read_names(const char *s)
{
	struct policy_endpoint endpoint;
	char host[PARSE_HOST_MAX + 1], again[320];
	uint8_t raw[8];
	uint16_t port;

	if (!policy_endpoint_parse(s, &endpoint)) {
		snprintf(again, sizeof(again), "biomatch://%s/%s/%s/%s", endpoint.deployment,
			 endpoint.site, endpoint.class, endpoint.number);
		REQUIRE(!strcmp(s, again));
	}
	if (!parse_address(s, host, &port))
		REQUIRE(strlen(host) <= PARSE_HOST_MAX && strlen(s) >= strlen(host) + 2);
	if (!bytes_from_hex(s, raw, sizeof(raw)))
		REQUIRE(strlen(s) >= 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, data + size};
	char *text = fuzz_text(&in);

	read_numbers(text);
	read_names(text);
	free(text);
	return 0;
}
