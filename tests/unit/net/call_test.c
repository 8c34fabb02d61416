/* Calls from outside: answers, statuses, what is refused, and limits of time and bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench.h"

/* Calls. */

static void test_unary(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	struct answer *answer;

	(void)state;
	call(c, 1, "/test/Echo", "hello", 5);
	answer = client_end(c, 1);
	assert_string_equal(answer->headers,
			    ":status: 200\ncontent-type: application/grpc\ngrpc-status: 0\n");
	assert_int_equal(answer->blocks, 2);
	assert_int_equal(answer->len, 10);
	check_message(answer, 0, "hello");

	call(c, 3, "/test/Echo", "", 0);
	answer = client_end(c, 3);
	assert_true(client_has(c, 3, "grpc-status: 0\n"));
	assert_int_equal(answer->len, 5);
	assert_int_equal(stat_of(&b).calls, 2);
	end(&b, c);
	assert_int_equal(b.record.half_closes, 2);
	assert_int_equal(b.record.messages, 2);
}

static void test_large_messages_both_ways(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	const size_t len = (4 << 20) - 1;
	uint8_t *data = malloc(len);
	struct bytes back;

	(void)state;
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + i / 4099);
	call(c, 1, "/test/Echo", data, len);
	back = message_of(client_end(c, 1), 0);
	assert_int_equal(back.len, len);
	assert_memory_equal(back.data, data, len);
	free(data);
	end(&b, c);
}

static void test_streaming_from_another_thread(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	struct answer *answer;
	char text[16];

	(void)state;
	call(c, 1, "/test/Count", "1000", 4);
	call(c, 3, "/test/Count", "0", 1);
	answer = client_end(c, 1);
	assert_true(client_has(c, 1, "grpc-status: 0\n"));
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "%u", i);
		check_message(answer, i, text);
	}
	answer = client_end(c, 3);
	assert_int_equal(answer->len, 0);
	assert_int_equal(answer->blocks, 1); /* nothing but the end */
	end(&b, c);
}

static void test_messages_arrive_one_by_one(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	struct answer *answer = client_answer(c, 1);

	(void)state;
	client_request(c, 1, "/test/Each", NULL);
	for (unsigned i = 1; i <= 5; i++) {
		client_message(c, 1, "ping", 4, false);
		CLIENT_UNTIL(c, answer->len == 9 * i);
		assert_false(answer->ended);
	}
	client_data(c, 1, NULL, 0, true);
	client_end(c, 1);
	assert_true(client_has(c, 1, "grpc-status: 0\n"));
	end(&b, c);
}

static void test_calls_side_by_side(void **state)
{
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	client_request(c, 1, "/test/Hang", NULL);
	for (int32_t stream = 3; stream < 31; stream += 2)
		client_request(c, stream, "/test/Echo", NULL);
	/* In another order than they began. */
	for (int32_t stream = 29; stream >= 3; stream -= 2) {
		client_message(c, stream, &stream, sizeof(stream), true);
		assert_memory_equal(message_of(client_end(c, stream), 0).data, &stream,
				    sizeof(stream));
	}
	assert_int_equal(stat_of(&b).calls_open, 1);
	end(&b, c);
	assert_int_equal(b.record.cancels, 1);
}

static void test_statuses(void **state)
{
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	call(c, 1, "/test/Fail", "", 0);
	assert_string_equal(client_end(c, 1)->headers,
			    ":status: 200\ncontent-type: application/grpc\ngrpc-status: 9\n"
			    "grpc-message: 50%25 of %E5%BC%B5 is wrong\n"
			    "grpc-status-details-bin: CAk\n");
	assert_int_equal(client_answer(c, 1)->blocks, 1);
	call(c, 3, "/test/NoSuch", "", 0);
	client_end(c, 3);
	assert_true(client_has(c, 3, "grpc-status: 12\n"));
	end(&b, c);
}

static void test_facts_of_a_call(void **state)
{
	static const char parent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	client_request(c, 1, "/test/Facts",
		       (const char *[]){"traceparent", parent, "grpc-timeout", "100500m", NULL});
	client_message(c, 1, "", 0, true);
	check_message(client_end(c, 1), 0,
		      "uri=" KIOSK " serial=0102030A valid=1 "
		      "trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 left=100");
	client_request(c, 3, "/test/Facts", (const char *[]){"traceparent", "00-junk", NULL});
	client_message(c, 3, "", 0, true);
	check_message(client_end(c, 3), 0, "uri=" KIOSK " serial=0102030A valid=1 trace= left=-1");
	client_free(c);

	c = connect_as(&b, "two-names");
	call(c, 1, "/test/Facts", "", 0);
	check_message(client_end(c, 1), 0, "uri= serial=03 valid=1 trace= left=-1");
	end(&b, c);
}

/* One of several clients: calls of all kinds, ended in all ways, over and over. */
static void *busy_client(void *ctx)
{
	static const uint8_t code[4] = {0, 0, 0, NGHTTP2_CANCEL};
	struct bench *b = ctx;

	for (int round = 0; round < 6; round++) {
		struct client *c = connect_kiosk(b);

		for (int32_t stream = 1; stream < 41; stream += 8) {
			call(c, stream, "/test/Echo", "hello", 5);
			call(c, stream + 2, "/test/Count", "50", 2);
			client_request(c, stream + 4, "/test/Facts",
				       (const char *[]){"grpc-timeout", "1u", NULL});
			call(c, stream + 6, "/test/Count", "1000", 4);
			client_frame(c, F_RST_STREAM, 0, stream + 6, code, sizeof(code));
			check_message(client_end(c, stream), 0, "hello");
			check_message(client_end(c, stream + 2), 49, "49");
			client_end(c, stream + 4);
		}
		/* Gone in the middle of an answer. */
		call(c, 41, "/test/Big", "4", 1);
		client_free(c);
	}
	return NULL;
}

static void test_many_clients(void **state)
{
	pthread_t threads[4];
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_open(&b);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, busy_client, &b), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	bench_close(&b);
}

/* Requests that are refused. */

/* Sends a whole request and gives the stream's answer. */
static void check_refused(struct client *c, int32_t stream, const char *name, const char *value,
			  const char *expected)
{
	client_request(c, stream, "/test/Echo", (const char *[]){name, value, NULL});
	client_message(c, stream, "x", 1, true);
	client_end(c, stream);
	assert_true(client_has(c, stream, expected));
	assert_int_equal(client_answer(c, stream)->len, 0);
}

static void test_headers_that_are_refused(void **state)
{
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	check_refused(c, 1, "content-type", "application/json", ":status: 415\n");
	check_refused(c, 3, ":method", "GET", ":status: 405\n");
	check_refused(c, 5, "grpc-encoding", "gzip", "grpc-status: 12\n");
	assert_true(client_has(c, 5, "grpc-accept-encoding: identity\n"));
	check_refused(c, 7, "grpc-timeout", "5", "grpc-status: 13\n");
	check_refused(c, 9, "grpc-timeout", "123456789S", "grpc-status: 13\n");
	assert_int_equal(b.record.opens, 0);
	client_request(c, 11, "/test/Echo", (const char *[]){"grpc-encoding", "identity", NULL});
	client_message(c, 11, "x", 1, true);
	check_message(client_end(c, 11), 0, "x");
	end(&b, c);
}

static void check_framing(struct client *c, int32_t stream, const void *data, size_t len, bool ends,
			  const char *status)
{
	client_request(c, stream, "/test/Limit", NULL);
	client_data(c, stream, data, len, ends);
	client_end(c, stream);
	assert_true(client_has(c, stream, status));
	if (!ends) {
		/* Told to stop sending, but not before it was told why. */
		assert_true(client_answer(c, stream)->ended);
		CLIENT_UNTIL(c, client_answer(c, stream)->reset);
		assert_int_equal(client_answer(c, stream)->reset_code, NGHTTP2_NO_ERROR);
	}
}

static void test_messages_that_are_refused(void **state)
{
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	check_framing(c, 1, "\0\0\0\0\x65", 5, false, "grpc-status: 8\n"); /* 101 bytes */
	check_framing(c, 3, "\0\xff\xff\xff\xff", 5, false, "grpc-status: 8\n");
	check_framing(c, 5, "\1\0\0\0\1x", 6, false, "grpc-status: 12\n");
	check_framing(c, 7, "\7\0\0\0\1x", 6, false, "grpc-status: 13\n");
	check_framing(c, 9, "\0\0\0\0\2x", 6, true, "grpc-status: 13\n"); /* cut off */
	check_framing(c, 11, "\0\0", 2, true, "grpc-status: 13\n");
	assert_int_equal(b.record.messages, 0);
	call(c, 13, "/test/Limit", "still works", 11);
	check_message(client_end(c, 13), 0, "still works");
	end(&b, c);
	assert_int_equal(b.record.cancels, 6);
	assert_int_equal(b.record.half_closes, 1);
}

/* Time. */

static void test_deadline(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	int64_t start = clock_monotonic_ns(), took;

	(void)state;
	client_request(c, 1, "/test/Hang", (const char *[]){"grpc-timeout", "100m", NULL});
	client_message(c, 1, "x", 1, true);
	client_end(c, 1);
	took = clock_monotonic_ns() - start;
	assert_true(client_has(c, 1, "grpc-status: 4\n"));
	assert_true(took >= 95 * CLOCK_NS_PER_MS && took < 5 * CLOCK_NS_PER_SEC);
	EVENTUALLY(b.record.cancels == 1 && b.record.closes == 1);
	/* One that is over before it starts. */
	client_request(c, 3, "/test/Hang", (const char *[]){"grpc-timeout", "0n", NULL});
	client_end(c, 3);
	assert_true(client_has(c, 3, "grpc-status: 4\n"));
	end(&b, c);
}

static void test_cancellation(void **state)
{
	uint8_t code[4] = {0, 0, 0, NGHTTP2_CANCEL};
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	client_request(c, 1, "/test/Hang", NULL);
	client_message(c, 1, "x", 1, true);
	EVENTUALLY(b.record.half_closes == 1);
	client_frame(c, F_RST_STREAM, 0, 1, code, sizeof(code));
	EVENTUALLY(b.record.closes == 1);
	assert_int_equal(b.record.cancels, 1);

	/* In the middle of an upload: what was received is given back. */
	client_request(c, 3, "/test/Echo", NULL);
	client_data(c, 3, (const uint8_t *)"\0\0\1\0\0abc", 8, false);
	EVENTUALLY(stat_of(&b).bytes_held > 0);
	client_frame(c, F_RST_STREAM, 0, 3, code, sizeof(code));
	EVENTUALLY(b.record.cancels == 2 && !stat_of(&b).bytes_held);

	/* And when the connection is lost. */
	client_request(c, 5, "/test/Hang", NULL);
	EVENTUALLY(b.record.opens == 3);
	end(&b, c);
	assert_int_equal(b.record.cancels, 3);
}

static void test_slow_uploads_end(void **state)
{
	struct bench b;
	struct client *c;

	(void)state;
	bench_init(&b);
	b.options.request_ms = 300;
	bench_open(&b);
	c = connect_kiosk(&b);
	client_request(c, 1, "/test/Echo", NULL);
	client_data(c, 1, (const uint8_t *)"\0\0\0\0\4a", 6, false);
	/* Between messages a stream may take its time, inside one it may not. */
	client_request(c, 3, "/test/Each", NULL);
	client_message(c, 3, "x", 1, false);
	client_request(c, 5, "/test/Each", NULL);
	client_message(c, 5, "x", 1, false);
	client_data(c, 5, (const uint8_t *)"\0\0\0\0\4a", 6, false);
	client_end(c, 1);
	client_end(c, 5);
	assert_true(client_has(c, 1, "grpc-status: 4\n"));
	assert_true(client_has(c, 5, "grpc-status: 4\n"));
	assert_false(client_answer(c, 3)->ended);
	client_message(c, 3, "y", 1, true);
	client_end(c, 3);
	assert_true(client_has(c, 3, "grpc-status: 0\n"));

	/* Headers that do not end take the connection with them. */
	client_frame(c, F_HEADERS, 0, 7, NULL, 0);
	CLIENT_UNTIL(c, false);
	end(&b, c);
}

static void test_slow_handshake_is_closed(void **state)
{
	struct bench b;
	struct client *c;
	int64_t start = clock_monotonic_ns();
	char byte = 22;

	(void)state;
	bench_init(&b);
	b.options.handshake_ms = 300;
	bench_open(&b);
	c = client_new(net_server_port(b.server), dir, "kiosk", TLS1_3_VERSION);
	EVENTUALLY(stat_of(&b).handshaking == 1);
	/* A byte now and then does not help. */
	while (send(c->fd, &byte, 1, MSG_NOSIGNAL) == 1) {
		poll(NULL, 0, 20);
		byte = 3;
		assert_true(clock_monotonic_ns() - start < CLIENT_WAIT_NS);
	}
	assert_true(clock_monotonic_ns() - start >= 300 * CLOCK_NS_PER_MS);
	end(&b, c);
}

static void test_idle_connection_is_told_and_closed(void **state)
{
	struct bench b;
	struct client *c;

	(void)state;
	bench_init(&b);
	b.options.idle_ms = 200;
	bench_open(&b);
	c = connect_kiosk(&b);
	CLIENT_UNTIL(c, false);
	assert_int_equal(c->goaways, 2);
	assert_int_equal(c->goaway_code, NGHTTP2_NO_ERROR);
	end(&b, c);
}

/* Bytes. */

static void test_a_client_that_does_not_read(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	unsigned refused = 0;

	(void)state;
	c->keeps_windows = true;
	/* 16 times 2 MiB, where 8 are allowed. */
	for (int32_t stream = 1; stream < 32; stream += 2)
		call(c, stream, "/test/Big", "8", 1);
	EVENTUALLY(b.record.closes == 16);
	assert_true(stat_of(&b).bytes_held > 0);
	assert_true(stat_of(&b).bytes_held <= b.options.max_connection_bytes);
	/* The others learn why, on the stream that has no window left too. */
	c->keeps_windows = false;
	client_update_window(c, 0, 64 << 20);
	for (int32_t stream = 1; stream < 32; stream += 2) {
		client_update_window(c, stream, 8 << 20);
		client_end(c, stream);
		refused += client_has(c, stream, "grpc-status: 8\n");
	}
	assert_in_range(refused, 1, 15);
	end(&b, c);
}

static void test_uploads_take_turns(void **state)
{
	const size_t len = 2 << 20;
	uint8_t *framed = calloc(1, 5 + len);
	size_t sent[8] = {0};
	bool all = false;
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	/* 16 MiB at one time over a connection that may hold 8: all get through. */
	bytes_put_be32(framed + 1, (uint32_t)len);
	for (int i = 0; i < 8; i++)
		client_request(c, 2 * i + 1, "/test/Size", NULL);
	while (!all) {
		bool moved = false;

		all = true;
		client_read(c);
		for (int i = 0; i < 8; i++) {
			struct answer *answer = client_answer(c, 2 * i + 1);
			size_t n =
				5 + len - sent[i] < CLIENT_FRAME ? 5 + len - sent[i] : CLIENT_FRAME;

			assert_false(answer->reset || c->shut);
			if (sent[i] == 5 + len)
				continue;
			all = false;
			if (answer->window < (int64_t)n || c->window < (int64_t)n)
				continue;
			sent[i] += n;
			client_data(c, 2 * i + 1, framed + sent[i] - n, n, sent[i] == 5 + len);
			moved = true;
		}
		if (!moved && !all)
			client_wait_socket(c, POLLIN, clock_monotonic_ns() + CLOCK_NS_PER_SEC);
	}
	for (int i = 0; i < 8; i++) {
		check_message(client_end(c, 2 * i + 1), 0, "2097152");
		assert_true(client_has(c, 2 * i + 1, "grpc-status: 0\n"));
	}
	free(framed);
	end(&b, c);
}

static void test_limit_over_all_connections(void **state)
{
	static uint8_t half[300 << 10];
	struct bench b;
	struct client *a, *c;

	(void)state;
	bench_init(&b);
	b.options.max_message = b.options.max_connection_bytes = b.options.max_total_bytes = 1
											     << 20;
	bench_open(&b);
	a = connect_kiosk(&b);
	c = connect_kiosk(&b);
	bytes_put_be32(half + 1, 1 << 20);
	client_request(a, 1, "/test/Echo", NULL);
	client_data(a, 1, half, sizeof(half), false);
	EVENTUALLY(stat_of(&b).bytes_held >= sizeof(half) - 5);
	/* Refused at once; the one before it goes on and ends well. */
	call(c, 1, "/test/Big", "4", 1);
	client_end(c, 1);
	assert_true(client_has(c, 1, "grpc-status: 8\n"));
	assert_true(stat_of(&b).bytes_held <= b.options.max_total_bytes);
	client_free(a);
	EVENTUALLY(!stat_of(&b).bytes_held);
	call(c, 3, "/test/Big", "2", 1);
	client_end(c, 3);
	assert_true(client_has(c, 3, "grpc-status: 0\n"));
	end(&b, c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unary),
		cmocka_unit_test(test_large_messages_both_ways),
		cmocka_unit_test(test_streaming_from_another_thread),
		cmocka_unit_test(test_messages_arrive_one_by_one),
		cmocka_unit_test(test_calls_side_by_side),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_facts_of_a_call),
		cmocka_unit_test(test_many_clients),
		cmocka_unit_test(test_headers_that_are_refused),
		cmocka_unit_test(test_messages_that_are_refused),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_cancellation),
		cmocka_unit_test(test_slow_uploads_end),
		cmocka_unit_test(test_slow_handshake_is_closed),
		cmocka_unit_test(test_idle_connection_is_told_and_closed),
		cmocka_unit_test(test_a_client_that_does_not_read),
		cmocka_unit_test(test_uploads_take_turns),
		cmocka_unit_test(test_limit_over_all_connections),
	};

	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
