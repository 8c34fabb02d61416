/*
 * The server from outside: calls, statuses, time limits, byte limits, who may
 * connect, what is taken for abuse, and how it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/resource.h>

#include "biomatch/log.h"

#include "certs.h"
#include "h2client.h"
#include "service.h"

#define KIOSK "biomatch://test/airport/kiosk/1"

static char dir[] = "/tmp/biomatch-net-XXXXXX";
static struct test_ca ca, other_ca;

/* A server for one test. */
struct bench {
	char certificate[64], private_key[64], client_ca[64];
	struct net_options options;
	struct record record;
	struct net_server *server;
	char message[256];
};

static void bench_init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	snprintf(b->certificate, sizeof(b->certificate), "%s/server.pem", dir);
	snprintf(b->private_key, sizeof(b->private_key), "%s/server.key", dir);
	snprintf(b->client_ca, sizeof(b->client_ca), "%s/ca.pem", dir);
	b->options = (struct net_options){
		.listen = "127.0.0.1:0",
		.certificate = b->certificate,
		.private_key = b->private_key,
		.client_ca = b->client_ca,
		.threads = 2,
		.max_connections = 32,
		.max_streams = 16,
		.max_message = 4 << 20,
		.max_connection_bytes = 8 << 20,
		.max_total_bytes = 64 << 20,
		.handshake_ms = 5000,
		.idle_ms = 60000,
		.request_ms = 60000,
	};
}

static void bench_open(struct bench *b)
{
	const struct net_handler handler = service_handler(&b->record);

	assert_int_equal(net_server_open(&b->options, &handler, &b->server, b->message), 0);
	assert_int_not_equal(net_server_port(b->server), 0);
}

static struct net_stat stat_of(struct bench *b)
{
	struct net_stat stat;

	net_server_stat(b->server, &stat);
	return stat;
}

/* The server's own threads get there; nothing tells of it. */
#define EVENTUALLY(condition)                                                                      \
	do {                                                                                       \
		int64_t until_ = clock_monotonic_ns() + CLIENT_WAIT_NS;                            \
                                                                                                   \
		while (!(condition)) {                                                             \
			assert_true(clock_monotonic_ns() < until_);                                \
			poll(NULL, 0, 2);                                                          \
		}                                                                                  \
	} while (0)

/* Every call was closed, every byte and connection given back. */
static void bench_close(struct bench *b)
{
	EVENTUALLY(!stat_of(b).connections);
	EVENTUALLY(!stat_of(b).calls_open);
	assert_int_equal(stat_of(b).bytes_held, 0);
	assert_int_equal(stat_of(b).handshaking, 0);
	net_server_close(b->server);
	assert_int_equal(b->record.opens, b->record.closes);
	assert_false(b->record.wrong);
}

static struct client *connect_as(struct bench *b, const char *name)
{
	struct client *c = client_new(net_server_port(b->server), dir, name, TLS1_3_VERSION);

	assert_true(client_handshake(c));
	client_greet(c);
	assert_false(c->shut);
	return c;
}

static struct client *connect_kiosk(struct bench *b)
{
	return connect_as(b, "kiosk");
}

/* A server and a client of it. */
static struct client *begin(struct bench *b)
{
	bench_init(b);
	bench_open(b);
	return connect_kiosk(b);
}

static void end(struct bench *b, struct client *c)
{
	client_free(c);
	bench_close(b);
}

static void call(struct client *c, int32_t stream, const char *path, const void *data, size_t len)
{
	client_request(c, stream, path, NULL);
	client_message(c, stream, data, len, true);
}

/* The nth message of an answer. */
static struct bytes message_of(const struct answer *answer, unsigned n)
{
	size_t at = 0;

	for (;; n--) {
		size_t len;

		assert_true(at + 5 <= answer->len);
		len = bytes_get_be32(answer->body + at + 1);
		assert_int_equal(answer->body[at], 0);
		assert_true(at + 5 + len <= answer->len);
		if (!n)
			return (struct bytes){answer->body + at + 5, len};
		at += 5 + len;
	}
}

static void check_message(const struct answer *answer, unsigned n, const char *text)
{
	struct bytes message = message_of(answer, n);

	assert_int_equal(message.len, strlen(text));
	assert_memory_equal(message.data, text, message.len);
}

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

/* Who may connect. */

/* False when the server refused; the client hears of it by its first read. */
static bool is_let_in(struct bench *b, const char *name, int version)
{
	struct client *c = client_new(net_server_port(b->server), dir, name, version);
	bool in = client_handshake(c);

	if (in) {
		client_greet(c);
		in = !c->shut;
	}
	client_free(c);
	return in;
}

static void test_certificates(void **state)
{
	struct bench b;
	char revoking[64];

	(void)state;
	bench_init(&b);
	bench_open(&b);
	assert_true(is_let_in(&b, "kiosk", TLS1_3_VERSION));
	assert_false(is_let_in(&b, NULL, TLS1_3_VERSION));
	assert_false(is_let_in(&b, "stranger", TLS1_3_VERSION));
	assert_false(is_let_in(&b, "kiosk", TLS1_2_VERSION));
	EVENTUALLY(stat_of(&b).handshake_failures == 3);

	snprintf(revoking, sizeof(revoking), "%s/ca-revoking.pem", dir);
	b.options.client_ca = revoking;
	assert_int_equal(net_server_reload(b.server, &b.options, b.message), 0);
	assert_true(is_let_in(&b, "kiosk", TLS1_3_VERSION));
	assert_false(is_let_in(&b, "revoked", TLS1_3_VERSION));
	b.options.client_ca = b.client_ca;
	bench_close(&b);
}

static void test_reload_keeps_connections(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	char other[64];

	(void)state;
	snprintf(other, sizeof(other), "%s/other-ca.pem", dir);
	b.options.client_ca = other;
	assert_int_equal(net_server_reload(b.server, &b.options, b.message), 0);
	assert_false(is_let_in(&b, "kiosk", TLS1_3_VERSION));
	assert_true(is_let_in(&b, "stranger", TLS1_3_VERSION));
	call(c, 1, "/test/Echo", "hello", 5);
	check_message(client_end(c, 1), 0, "hello");

	/* What cannot be read changes nothing. */
	b.options.client_ca = "/nonexistent/ca.pem";
	assert_int_equal(net_server_reload(b.server, &b.options, b.message), BM_ETLS);
	assert_non_null(strstr(b.message, "/nonexistent/ca.pem"));
	assert_true(is_let_in(&b, "stranger", TLS1_3_VERSION));
	end(&b, c);
}

static void check_open_fails(struct bench *b, int error, const char *what)
{
	const struct net_handler handler = service_handler(&b->record);

	assert_int_equal(net_server_open(&b->options, &handler, &b->server, b->message), error);
	assert_non_null(strstr(b->message, what));
}

static void test_open_says_what_is_wrong(void **state)
{
	static const char *const bad[] = {
		"localhost", "127.0.0.1:99999", "127.0.0.1:x", "no.such.host.invalid:1", "fd:0",
		"fd:x",      "192.0.2.1:0"};
	struct bench b, second;
	char address[32];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bench_init(&b);
		b.options.listen = bad[i];
		check_open_fails(&b, BM_ENET, bad[i]);
	}
	bench_init(&b);
	b.options.certificate = "/nonexistent/server.pem";
	check_open_fails(&b, BM_ETLS, "/nonexistent/server.pem");
	bench_init(&b);
	snprintf(b.private_key, sizeof(b.private_key), "%s/kiosk.key", dir);
	check_open_fails(&b, BM_ETLS, "kiosk.key");
	bench_init(&b);
	snprintf(b.client_ca, sizeof(b.client_ca), "%s/kiosk.key", dir);
	check_open_fails(&b, BM_ETLS, "kiosk.key");

	bench_init(&b);
	bench_open(&b);
	bench_init(&second);
	snprintf(address, sizeof(address), "127.0.0.1:%u", net_server_port(b.server));
	second.options.listen = address;
	check_open_fails(&second, BM_ENET, "in use");
	bench_close(&b);
}

static void test_listening_socket_is_taken_over(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct bench b;
	char name[16];

	(void)state;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 5), 0);
	bench_init(&b);
	snprintf(name, sizeof(name), "fd:%d", fd);
	b.options.listen = name;
	bench_open(&b);
	assert_true(is_let_in(&b, "kiosk", TLS1_3_VERSION));
	bench_close(&b);
	close(fd);
}

static void test_connections_wait_for_a_place(void **state)
{
	struct bench b;
	struct client *first, *second;

	(void)state;
	bench_init(&b);
	b.options.max_connections = 1;
	bench_open(&b);
	first = connect_kiosk(&b);
	second = client_new(net_server_port(b.server), dir, "kiosk", TLS1_3_VERSION);
	assert_int_equal(stat_of(&b).accepted, 1);
	client_free(first);
	assert_true(client_handshake(second));
	client_greet(second);
	call(second, 1, "/test/Echo", "hello", 5);
	check_message(client_end(second, 1), 0, "hello");
	end(&b, second);
}

static void test_out_of_descriptors(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	struct rlimit limit, none;
	int fd = dup(c->fd), late;
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons(net_server_port(b.server))};
	char byte;

	(void)state;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)fd;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	/* Turned away, not left to wait; who is in is served. */
	assert_int_equal(connect(late, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_true(recv(late, &byte, 1, 0) <= 0);
	call(c, 1, "/test/Echo", "hello", 5);
	check_message(client_end(c, 1), 0, "hello");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	close(late);
	close(fd);
	assert_true(is_let_in(&b, "kiosk", TLS1_3_VERSION));
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

/* Abuse. */

/* Sends copies of a frame until the server has enough or has taken them all. */
static bool flood(struct client *c, uint8_t type, uint8_t flags, int32_t stream,
		  const void *payload, size_t len)
{
	uint8_t frames[100 * 64], *to = frames;

	assert_true(9 + len <= 64);
	for (int i = 0; i < 100; i++) {
		to += put_head(to, (uint32_t)len, type, flags, stream);
		memcpy(to, payload, len);
		to += len;
	}
	for (int i = 0; i < 100 && !c->shut; i++) {
		client_write(c, frames, (size_t)(to - frames));
		client_read(c);
	}
	if (!c->shut)
		call(c, 3, "/test/Echo", "x", 1);
	CLIENT_UNTIL(c, client_answer(c, 3)->ended);
	return !c->shut;
}

static void test_floods_are_cut_off(void **state)
{
	static const uint8_t payload[16] = {0, 0, 0, 0, 16};
	static const struct {
		uint8_t type;
		bool on_stream;
		size_t len;
	} floods[] = {
		{F_PRIORITY, true, 5},      {F_DATA, true, 0},
		{F_WINDOW_UPDATE, true, 4}, {F_WINDOW_UPDATE, false, 4},
		{F_SETTINGS, false, 0},     {F_PING, false, 8},
		{0xbb, false, 0},           {0xbb, true, 16},
	};
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_open(&b);
	for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
		static const uint8_t one[4] = {0, 0, 0, 1};
		struct client *c = connect_kiosk(&b);

		client_request(c, 1, "/test/Hang", NULL);
		assert_false(flood(c, floods[i].type, 0, floods[i].on_stream ? 1 : 0,
				   floods[i].type == F_WINDOW_UPDATE ? one : payload,
				   floods[i].len));
		client_free(c);
	}
	bench_close(&b);
	assert_int_equal(b.record.cancels, b.record.opens);
}

static void test_resets_are_counted(void **state)
{
	static const uint8_t code[4] = {0, 0, 0, NGHTTP2_CANCEL};
	uint8_t block[512];
	size_t len = client_header_block(block, "/test/Hang", NULL);
	struct bench b;
	struct client *c = begin(&b);
	int32_t stream = 1;

	(void)state;
	for (; stream < 20000 && !c->shut; stream += 2) {
		client_frame(c, F_HEADERS, END_HEADERS, stream, block, len);
		client_frame(c, F_RST_STREAM, 0, stream, code, sizeof(code));
	}
	CLIENT_UNTIL(c, false);
	assert_true(c->shut);
	assert_in_range(b.record.opens, 500, 5000);
	end(&b, c);
}

/* HPACK: an entry in the table, and then a byte for each time it is repeated. */
static void test_header_bomb(void **state)
{
	static uint8_t block[16000];
	char value[110];
	int64_t start = clock_monotonic_ns();
	size_t n, at;
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	memset(value, 'v', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	at = client_header_block(block, "/test/Echo", NULL);
	n = at + put_header(block + at, "x-bomb", value);
	block[at] = 0x40; /* a literal that enters the table */
	memset(block + n, 0x80 | 62, sizeof(block) - n);
	client_frame(c, F_HEADERS, END_HEADERS | END_STREAM, 1, block, sizeof(block));
	CLIENT_UNTIL(c, false);
	assert_true(c->shut);
	assert_true(clock_monotonic_ns() - start < 2 * CLOCK_NS_PER_SEC);
	assert_int_equal(b.record.opens, 0);
	end(&b, c);
}

static void test_headers_too_large(void **state)
{
	static uint8_t block[16384];
	char value[120];
	struct bench b;
	struct client *c = begin(&b);
	size_t n = client_header_block(block, "/test/Echo", NULL);

	(void)state;
	memset(value, 'v', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	for (int i = 0; i < 105; i++)
		n += put_header(block + n, "x-much", value);
	client_frame(c, F_HEADERS, END_HEADERS | END_STREAM, 1, block, n);
	client_end(c, 1);
	assert_true(client_has(c, 1, "grpc-status: 8\n"));
	assert_int_equal(b.record.opens, 0);
	call(c, 3, "/test/Echo", "hello", 5);
	check_message(client_end(c, 3), 0, "hello");
	end(&b, c);
}

static void test_junk_instead_of_http2(void **state)
{
	struct bench b;
	struct client *c;

	(void)state;
	bench_init(&b);
	bench_open(&b);
	c = client_new(net_server_port(b.server), dir, "kiosk", TLS1_3_VERSION);
	assert_true(client_handshake(c));
	client_write(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35);
	CLIENT_UNTIL(c, false);
	end(&b, c);
}

/* The end. */

static void *drain_thread(void *ctx)
{
	net_server_drain(((struct bench *)ctx)->server, 10000);
	return NULL;
}

static void test_drain_lets_calls_finish(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	pthread_t thread;

	(void)state;
	client_request(c, 1, "/test/Echo", NULL);
	EVENTUALLY(b.record.opens == 1);
	assert_int_equal(pthread_create(&thread, NULL, drain_thread, &b), 0);
	/* First a notice; a call that was under way to the server is still taken. */
	CLIENT_UNTIL(c, c->goaways == 1);
	assert_int_equal(c->last_stream, INT32_MAX);
	call(c, 3, "/test/Echo", "late", 4);
	check_message(client_end(c, 3), 0, "late");
	CLIENT_UNTIL(c, c->goaways == 2);
	assert_int_equal(c->last_stream, 3);
	assert_int_equal(c->goaway_code, NGHTTP2_NO_ERROR);
	/* The one that is open ends as if nothing were. */
	client_message(c, 1, "hello", 5, true);
	check_message(client_end(c, 1), 0, "hello");
	CLIENT_UNTIL(c, false);
	assert_int_equal(pthread_join(thread, NULL), 0);
	end(&b, c);
	assert_int_equal(b.record.cancels, 0);
}

static void test_drain_ends(void **state)
{
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	client_request(c, 1, "/test/Hang", NULL);
	EVENTUALLY(b.record.opens == 1);
	net_server_drain(b.server, 50);
	EVENTUALLY(b.record.closes == 1);
	assert_int_equal(b.record.cancels, 1);
	end(&b, c);
}

static void test_close_without_drain(void **state)
{
	struct bench b;
	struct client *c = begin(&b);

	(void)state;
	client_request(c, 1, "/test/Hang", NULL);
	EVENTUALLY(b.record.opens == 1);
	net_server_close(b.server);
	assert_int_equal(b.record.closes, 1);
	assert_int_equal(b.record.cancels, 1);
	client_free(c);
}

static int make_certificates(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	if (!mkdtemp(dir))
		return -1;
	ca = certs_make_ca(dir, "ca");
	other_ca = certs_make_ca(dir, "other-ca");
	certs_make(dir, &ca, "server", 2, "DNS:localhost,IP:127.0.0.1");
	certs_make(dir, &ca, "kiosk", 0x0102030a, "DNS:kiosk,URI:" KIOSK);
	certs_make(dir, &ca, "two-names", 3,
		   "URI:biomatch://test/a/kiosk/1,URI:biomatch://test/a/kiosk/2");
	certs_make(dir, &ca, "revoked", 4, "URI:" KIOSK);
	certs_make(dir, &other_ca, "stranger", 5, "URI:" KIOSK);
	certs_revoke(dir, &ca, "ca-revoking", 4);
	return 0;
}

static int remove_certificates(void **state)
{
	static const char *const names[] = {"server",   "kiosk", "two-names", "revoked",
					    "stranger", "ca",    "other-ca",  "ca-revoking"};
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s.pem", dir, names[i]);
		unlink(path);
		snprintf(path, sizeof(path), "%s/%s.key", dir, names[i]);
		unlink(path);
	}
	certs_free_ca(&ca);
	certs_free_ca(&other_ca);
	return rmdir(dir);
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
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_reload_keeps_connections),
		cmocka_unit_test(test_open_says_what_is_wrong),
		cmocka_unit_test(test_listening_socket_is_taken_over),
		cmocka_unit_test(test_connections_wait_for_a_place),
		cmocka_unit_test(test_out_of_descriptors),
		cmocka_unit_test(test_a_client_that_does_not_read),
		cmocka_unit_test(test_uploads_take_turns),
		cmocka_unit_test(test_limit_over_all_connections),
		cmocka_unit_test(test_floods_are_cut_off),
		cmocka_unit_test(test_resets_are_counted),
		cmocka_unit_test(test_header_bomb),
		cmocka_unit_test(test_headers_too_large),
		cmocka_unit_test(test_junk_instead_of_http2),
		cmocka_unit_test(test_drain_lets_calls_finish),
		cmocka_unit_test(test_drain_ends),
		cmocka_unit_test(test_close_without_drain),
	};

	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
