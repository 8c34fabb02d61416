/* What gRPC says in headers, and its framing, cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/net/grpc.h"

static void test_timeouts(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
		{"1n", 1},
		{"25u", 25000},
		{"100m", 100000000},
		{"5S", 5000000000},
		{"2M", 120000000000},
		{"1H", 3600000000000},
		{"0S", 0},
		{"00000007S", 7000000000},
		{"99999999n", 99999999},
		{"99999999H", INT64_MAX}, /* 11,000 years do not fit */
	};
	static const char *const bad[] = {"",    "S",   "5",   "5s",   "-5S",  "+5S",
					  " 5S", "5 S", "5SS", "0x5S", "1.5S", "123456789S"};
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(grpc_timeout_parse(good[i].text, strlen(good[i].text), &ns), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(grpc_timeout_parse(bad[i], strlen(bad[i]), &ns), BM_EINVAL);
}

static bool is_grpc(const char *type)
{
	return grpc_content_type(type, strlen(type));
}

static void test_content_types(void **state)
{
	(void)state;
	assert_true(is_grpc("application/grpc"));
	assert_true(is_grpc("application/grpc+proto"));
	assert_true(is_grpc("application/grpc;charset=utf-8"));
	assert_false(is_grpc("application/grpc-web"));
	assert_false(is_grpc("application/grp"));
	assert_false(is_grpc("application/json"));
	assert_false(is_grpc(""));
}

static void check_encoded(const char *text, const char *expected)
{
	char *encoded = grpc_message_encode(text, 24);

	assert_string_equal(encoded, expected);
	free(encoded);
}

static void test_messages_are_percent_encoded(void **state)
{
	(void)state;
	check_encoded("", "");
	check_encoded("plain text, ~ and all", "plain text, ~ and all");
	check_encoded("50% done", "50%25 done");
	check_encoded("a\r\nb\x7f", "a%0D%0Ab%7F");
	check_encoded("\xe5\xbc\xb5", "%E5%BC%B5");
	check_encoded("what is longer is cut off there", "what is longer is cut of");
}

static void test_binary_headers_have_no_padding(void **state)
{
	static const char *const expected[] = {"",       "Zg",      "Zm8",     "Zm9v",
					       "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"};

	(void)state;
	for (size_t len = 0; len <= 6; len++) {
		char *encoded = grpc_binary_encode((const uint8_t *)"foobar", len);

		assert_string_equal(encoded, expected[len]);
		free(encoded);
	}
}

static void test_trace_parents(void **state)
{
	static const char good[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
	char text[sizeof(good)];

	(void)state;
	assert_true(grpc_traceparent_valid(good, 55));
	assert_true(grpc_traceparent_valid(
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", 55));
	assert_false(grpc_traceparent_valid(good, 54));
	assert_false(grpc_traceparent_valid(
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", 55));
	assert_false(grpc_traceparent_valid(
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", 55));
	/* No byte may be another. */
	for (size_t i = 0; i < 55; i++) {
		static const char wrong[] = {'g', 'F', '"', '\n', '\0'};

		for (size_t j = 0; j < sizeof(wrong); j++) {
			memcpy(text, good, sizeof(good));
			text[i] = wrong[j];
			assert_false(grpc_traceparent_valid(text, 55));
		}
	}
}

/* Three messages, of 3, 0 and 5 bytes. */
static const uint8_t three[] = "\0\0\0\0\003abc\0\0\0\0\0\0\0\0\0\005defgh";
#define THREE_LEN (sizeof(three) - 1)

/* Feeds the bytes in the pieces given and checks what comes out. */
static void feed_three(const size_t *pieces, size_t n)
{
	static const char *const expected[] = {"abc", "", "defgh"};
	struct grpc_reader reader = {.max_message = 5};
	size_t at = 0, got = 0, len;
	uint8_t *data;

	for (size_t i = 0; i < n; i++) {
		struct bytes in = {three + at, pieces[i]};
		int result;

		at += pieces[i];
		while ((result = grpc_reader_take(&reader, &in, &data, &len)) == 1) {
			assert_true(got < 3);
			assert_int_equal(len, strlen(expected[got]));
			assert_memory_equal(data, expected[got], len);
			free(data);
			got++;
		}
		assert_int_equal(result, 0);
		assert_int_equal(in.len, 0);
	}
	assert_int_equal(got, 3);
	assert_false(grpc_reader_inside(&reader));
	grpc_reader_deinit(&reader);
}

static void test_framing_cut_anywhere(void **state)
{
	size_t ones[THREE_LEN];

	(void)state;
	for (size_t a = 0; a <= THREE_LEN; a++) {
		for (size_t b = a; b <= THREE_LEN; b++)
			feed_three((const size_t[]){a, b - a, THREE_LEN - b}, 3);
	}
	for (size_t i = 0; i < THREE_LEN; i++)
		ones[i] = 1;
	feed_three(ones, THREE_LEN);
}

static int read_prefix(const void *prefix, size_t max)
{
	struct grpc_reader reader = {.max_message = max};
	struct bytes in = {prefix, GRPC_PREFIX};
	uint8_t *data;
	size_t len;
	int result = grpc_reader_take(&reader, &in, &data, &len);

	assert_int_equal(reader.room, 0); /* refused before anything is allocated */
	grpc_reader_deinit(&reader);
	return result;
}

static void test_framing_refuses(void **state)
{
	(void)state;
	assert_int_equal(read_prefix("\0\0\0\001\001", 256), BM_ETOOBIG);
	assert_int_equal(read_prefix("\0\xff\xff\xff\xff", 1 << 20), BM_ETOOBIG);
	assert_int_equal(read_prefix("\1\0\0\0\001", 256), BM_EUNIMPL);
	assert_int_equal(read_prefix("\2\0\0\0\001", 256), BM_EPROTO);
	assert_int_equal(read_prefix("\0\0\0\001\0", 256), 0);
}

static void test_memory_follows_what_arrives(void **state)
{
	const size_t size = 3 << 20;
	struct grpc_reader reader = {.max_message = size};
	uint8_t prefix[GRPC_PREFIX] = {0}, piece[1000], *data = NULL;
	struct bytes in = {prefix, sizeof(prefix)};
	size_t len = 0, sent = 0;
	int result;

	(void)state;
	bytes_put_be32(prefix + 1, (uint32_t)size);
	assert_int_equal(grpc_reader_take(&reader, &in, &data, &len), 0);
	assert_int_equal(reader.room, 0);
	do {
		memset(piece, (int)(sent / sizeof(piece)), sizeof(piece));
		in = (struct bytes){piece,
				    size - sent < sizeof(piece) ? size - sent : sizeof(piece)};
		sent += in.len;
		result = grpc_reader_take(&reader, &in, &data, &len);
		assert_true(reader.room <= 64 * 1024 || reader.room < 2 * sent);
		assert_true(result == 1 || grpc_reader_inside(&reader));
	} while (!result);
	assert_int_equal(result, 1);
	assert_int_equal(sent, size);
	assert_int_equal(len, size);
	for (size_t i = 0; i < size; i++)
		assert_true(data[i] == (uint8_t)(i / sizeof(piece)));
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_content_types),
		cmocka_unit_test(test_messages_are_percent_encoded),
		cmocka_unit_test(test_binary_headers_have_no_padding),
		cmocka_unit_test(test_trace_parents),
		cmocka_unit_test(test_framing_cut_anywhere),
		cmocka_unit_test(test_framing_refuses),
		cmocka_unit_test(test_memory_follows_what_arrives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
