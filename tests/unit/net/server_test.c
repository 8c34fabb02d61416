/* The server from outside: who may connect, what is taken for abuse, and how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/resource.h>

#include "../../../src/net/meter.h"
#include "bench.h"

/* Who may connect. */

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
	client_request(c, 1, "/test/Echo", NULL);
	EVENTUALLY(b.record.opens == 1);
	assert_int_equal(net_server_reload(b.server, &b.options, b.message), 0);
	client_message(c, 1, "hello", 5, true);
	check_message(client_end(c, 1), 0, "hello");

	/* Under other CAs, those that came with a certificate of the old have to go. */
	snprintf(other, sizeof(other), "%s/other-ca.pem", dir);
	b.options.client_ca = other;
	assert_int_equal(net_server_reload(b.server, &b.options, b.message), 0);
	CLIENT_UNTIL(c, false);
	assert_false(is_let_in(&b, "kiosk", TLS1_3_VERSION));
	assert_true(is_let_in(&b, "stranger", TLS1_3_VERSION));

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

/* The TLS library answers each by itself. */
static void test_key_changes_are_counted(void **state)
{
	struct bench b;
	struct client *c = begin(&b);
	int changes = 0;

	(void)state;
	for (; changes < 20000 && !c->shut; changes++) {
		if (SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 ||
		    SSL_do_handshake(c->ssl) != 1)
			client_wait_socket(c, POLLIN | POLLOUT,
					   clock_monotonic_ns() + CLIENT_WAIT_NS);
		client_read(c);
	}
	CLIENT_UNTIL(c, false);
	assert_true(c->shut);
	assert_in_range(changes, METER_BURST / 2, 19999);
	end(&b, c);
}

/* Who wants more than a share waits, is served all the same, and nobody else waits. */
static void test_loop_is_shared(void **state)
{
	static uint8_t message[1 << 20];
	struct client *c, *other;
	struct bench b;
	int32_t stream = 1;

	(void)state;
	bench_init(&b);
	b.options.threads = 1;
	b.options.connection_share = 5;
	bench_open(&b);
	c = connect_kiosk(&b);
	other = connect_kiosk(&b);
	for (; stream < 2 * CLIENT_STREAMS - 2 && !stat_of(&b).rests; stream += 2) {
		call(c, stream, "/test/Echo", message, sizeof(message));
		assert_true(client_end(c, stream)->ended);
	}
	assert_true(stat_of(&b).rests > 0);
	call(other, 1, "/test/Echo", "x", 1);
	assert_true(client_end(other, 1)->ended);
	call(c, stream, "/test/Echo", "x", 1);
	assert_true(client_end(c, stream)->ended);
	client_free(other);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_reload_keeps_connections),
		cmocka_unit_test(test_open_says_what_is_wrong),
		cmocka_unit_test(test_listening_socket_is_taken_over),
		cmocka_unit_test(test_connections_wait_for_a_place),
		cmocka_unit_test(test_out_of_descriptors),
		cmocka_unit_test(test_floods_are_cut_off),
		cmocka_unit_test(test_resets_are_counted),
		cmocka_unit_test(test_key_changes_are_counted),
		cmocka_unit_test(test_loop_is_shared),
		cmocka_unit_test(test_header_bomb),
		cmocka_unit_test(test_headers_too_large),
		cmocka_unit_test(test_junk_instead_of_http2),
		cmocka_unit_test(test_drain_lets_calls_finish),
		cmocka_unit_test(test_drain_ends),
		cmocka_unit_test(test_close_without_drain),
	};

	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
