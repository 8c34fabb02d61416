/* Fixed-order integers, hexadecimal, checksums, wiping, and the clocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"

static void test_big_endian_sorts_as_numbers(void **state)
{
	static const uint64_t numbers[] = {
		0, 1, 255, 256, 65535, 1u << 31, UINT64_C(1) << 63, UINT64_MAX};
	uint8_t last[8], next[8], four[5] = {9, 9, 9, 9, 9};

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		bytes_put_be64(next, numbers[i]);
		assert_true(bytes_get_be64(next) == numbers[i]);
		if (i)
			assert_true(memcmp(last, next, 8) < 0);
		memcpy(last, next, 8);
	}
	bytes_put_be32(four, 0x01020304);
	assert_memory_equal(four, "\1\2\3\4\11", 5);
	assert_int_equal(bytes_get_be32(four), 0x01020304);
}

static void test_hex(void **state)
{
	static const uint8_t bytes[] = {0x00, 0x0f, 0xa5, 0xff};
	uint8_t back[4] = {0};
	char hex[9];

	(void)state;
	bytes_to_hex(bytes, 4, hex);
	assert_string_equal(hex, "000fa5ff");
	assert_int_equal(bytes_from_hex("000fA5Ff", back, 4), 0);
	assert_memory_equal(back, bytes, 4);
	assert_int_equal(bytes_from_hex("", back, 0), 0);
	assert_int_equal(bytes_from_hex("000fa5f", back, 4), BM_EINVAL);
	assert_int_equal(bytes_from_hex("000fa5ff0", back, 4), BM_EINVAL);
	assert_int_equal(bytes_from_hex("000fa5fg", back, 4), BM_EINVAL);
	assert_int_equal(bytes_from_hex("0x0fa5ff", back, 4), BM_EINVAL);
}

static void test_checksum(void **state)
{
	uint8_t data[300];
	uint64_t whole;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	/* Stored records depend on it: XXH3-64 of nothing, from its specification. */
	assert_true(bytes_checksum(data, 0) == UINT64_C(0x2d06800538d394c2));
	whole = bytes_checksum(data, sizeof(data));
	for (size_t i = 0; i < sizeof(data) * 8; i++) {
		data[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_true(bytes_checksum(data, sizeof(data)) != whole);
		data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_true(bytes_checksum(data, sizeof(data) - 1) != whole);
}

static void test_wipe(void **state)
{
	uint8_t data[4] = {1, 2, 3, 4};

	(void)state;
	bytes_wipe(data + 1, 2);
	assert_memory_equal(data, "\1\0\0\4", 4);
}

static void test_clocks(void **state)
{
	int64_t before = clock_monotonic_ns(), wall = clock_wall_ms();

	(void)state;
	assert_true(clock_monotonic_ns() >= before);
	assert_true(wall > INT64_C(1600000000000));
	clock_shift_wall(3600 * 1000);
	assert_in_range(clock_wall_ms() - wall, 3600 * 1000, 3660 * 1000);
	clock_shift_wall(0);
	assert_in_range(clock_wall_ms() - wall, 0, 60 * 1000);
}

static void test_poll_timeout(void **state)
{
	int64_t now = clock_monotonic_ns();

	(void)state;
	assert_int_equal(clock_poll_timeout(CLOCK_FOREVER), -1);
	assert_int_equal(clock_poll_timeout(now - 1), 0);
	assert_int_equal(clock_poll_timeout(INT64_MIN), 0);
	/* Rounded up: a poll that times out has passed the deadline. */
	assert_in_range(clock_poll_timeout(now + 10 * CLOCK_NS_PER_SEC), 9000, 10000);
	assert_int_equal(clock_poll_timeout(CLOCK_FOREVER - 1), INT_MAX);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_big_endian_sorts_as_numbers),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_wipe),
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_poll_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
