/* Numbers written by people: what is a value and what only looks like one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "biomatch/parse.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const no_numbers[] = {
	"",     " 1",
	"1 ",   "8443x",
	"020",  "00",
	"+1",   "-1",
	"-0",   "1e3",
	"0x10", "1.0",
	"0.5a", "1,000",
	"１",   "18446744073709551616",
	"1_",   "\t1",
	"1\n",  "nan",
	"inf",  "99999999999999999999999999",
};

static void test_uint(void **state)
{
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(no_numbers); i++) {
		if (parse_uint(no_numbers[i], 0, UINT64_MAX, &v) != BM_EINVAL)
			fail_msg("accepted \"%s\"", no_numbers[i]);
	}
	assert_int_equal(v, 7);
	assert_int_equal(parse_uint("0", 0, 9, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(parse_uint("18446744073709551615", 0, UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(parse_uint("8443", 1, 65535, &v), 0);
	assert_int_equal(v, 8443);
	assert_int_equal(parse_uint("4", 5, 9, &v), BM_EINVAL);
	assert_int_equal(parse_uint("5", 5, 9, &v), 0);
	assert_int_equal(parse_uint("9", 5, 9, &v), 0);
	assert_int_equal(parse_uint("10", 5, 9, &v), BM_EINVAL);
	assert_int_equal(v, 9);
}

static void test_double(void **state)
{
	static const char *const bad[] = {"",   " 1",    "1 ",  "0.5abc", "0x1p3", "inf", "nan",
					  "1e", "1e999", "--1", "1.2.3",  ".",     "e5",  "1e5000"};
	double v = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (parse_double(bad[i], -1e300, 1e300, &v) != BM_EINVAL)
			fail_msg("accepted \"%s\"", bad[i]);
	}
	assert_float_equal(v, 7, 0);
	assert_int_equal(parse_double("0.001", 0, 1, &v), 0);
	assert_float_equal(v, 0.001, 0);
	assert_int_equal(parse_double("1e-3", 0, 1, &v), 0);
	assert_float_equal(v, 0.001, 0);
	assert_int_equal(parse_double("-2.5", -3, 0, &v), 0);
	assert_float_equal(v, -2.5, 0);
	assert_int_equal(parse_double("1.0001", 0, 1, &v), BM_EINVAL);
	assert_int_equal(parse_double("-0.0001", 0, 1, &v), BM_EINVAL);
}

static void test_bool(void **state)
{
	static const char *const bad[] = {"", "True", "yes", "no", "1", "0", "truex", " true"};
	bool v = true;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(parse_bool(bad[i], &v), BM_EINVAL);
	assert_int_equal(parse_bool("false", &v), 0);
	assert_false(v);
	assert_int_equal(parse_bool("true", &v), 0);
	assert_true(v);
}

static void test_size(void **state)
{
	static const char *const bad[] = {"",
					  "KiB",
					  "1KB",
					  "1kib",
					  "1 KiB",
					  "-1KiB",
					  "01KiB",
					  "1.5GiB",
					  "1KiBs",
					  "16777216TiB",
					  "18446744073709551615KiB"};
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (parse_size(bad[i], 0, UINT64_MAX, &v) != BM_EINVAL)
			fail_msg("accepted \"%s\"", bad[i]);
	}
	assert_int_equal(v, 7);
	assert_int_equal(parse_size("512", 0, 512, &v), 0);
	assert_int_equal(v, 512);
	assert_int_equal(parse_size("3KiB", 0, 4096, &v), 0);
	assert_int_equal(v, 3072);
	assert_int_equal(parse_size("2MiB", 0, UINT64_MAX, &v), 0);
	assert_int_equal(v, 2 << 20);
	assert_int_equal(parse_size("1GiB", 0, UINT64_MAX, &v), 0);
	assert_int_equal(v, 1 << 30);
	assert_int_equal(parse_size("16777215TiB", 0, UINT64_MAX, &v), 0);
	assert_true(v == UINT64_C(16777215) << 40);
	/* The range is of bytes, not of the number written. */
	assert_int_equal(parse_size("5KiB", 0, 4096, &v), BM_EINVAL);
}

static void test_duration(void **state)
{
	static const char *const bad[] = {"",     "5",     "5S",  "5sec", "5 s",
					  "0x5s", "1h30m", "-5s", "ms"};
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (parse_duration_ms(bad[i], 0, UINT64_MAX, &v) != BM_EINVAL)
			fail_msg("accepted \"%s\"", bad[i]);
	}
	assert_int_equal(parse_duration_ms("0s", 0, 1, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(parse_duration_ms("250ms", 0, 1000, &v), 0);
	assert_int_equal(v, 250);
	assert_int_equal(parse_duration_ms("2m", 0, UINT64_MAX, &v), 0);
	assert_int_equal(v, 120000);
	assert_int_equal(parse_duration_ms("3h", 0, UINT64_MAX, &v), 0);
	assert_int_equal(v, 3 * 3600000);
	assert_int_equal(parse_duration_ms("7d", 0, UINT64_MAX, &v), 0);
	assert_int_equal(v, 7 * 86400000);
	assert_int_equal(parse_duration_ms("2s", 0, 1000, &v), BM_EINVAL);
}

static void test_address(void **state)
{
	static const char *const bad[] = {"", "host", "host:", "host:x", "host:65536", "host:1 "};
	char host[PARSE_HOST_MAX + 1], text[PARSE_HOST_MAX + 8];
	uint16_t port = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (parse_address(bad[i], host, &port) != BM_EINVAL)
			fail_msg("accepted \"%s\"", bad[i]);
	}
	memset(text, 'a', PARSE_HOST_MAX + 1);
	strcpy(text + PARSE_HOST_MAX + 1, ":1");
	assert_int_equal(parse_address(text, host, &port), BM_EINVAL);
	assert_int_equal(port, 7);
	assert_int_equal(parse_address("127.0.0.1:8443", host, &port), 0);
	assert_string_equal(host, "127.0.0.1");
	assert_int_equal(port, 8443);
	assert_int_equal(parse_address("[::1]:0", host, &port), 0);
	assert_string_equal(host, "::1");
	assert_int_equal(port, 0);
	assert_int_equal(parse_address(":65535", host, &port), 0);
	assert_string_equal(host, "");
	assert_int_equal(port, 65535);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uint),     cmocka_unit_test(test_double),
		cmocka_unit_test(test_bool),     cmocka_unit_test(test_size),
		cmocka_unit_test(test_duration), cmocka_unit_test(test_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
