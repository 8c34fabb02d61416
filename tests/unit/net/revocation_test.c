/* Certificates taken back, while their owners are connected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench.h"

/* The lists of DIR/NAME.pem from now on; what the reload says of them. */
static int revoke_by(struct bench *b, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s.pem", dir, name);
	b->options.crl = path;
	b->message[0] = '\0';
	return net_server_reload(b->server, &b->options, b->message);
}

static void test_open_connections_end(void **state)
{
	struct bench b;
	struct client *kiosk = begin(&b), *revoked = connect_as(&b, "revoked");

	(void)state;
	client_request(kiosk, 1, "/test/Echo", NULL);
	client_request(revoked, 1, "/test/Hang", NULL);
	EVENTUALLY(b.record.opens == 2);
	assert_int_equal(stat_of(&b).crl_ends_ms, 0);
	assert_int_equal(revoke_by(&b, "crl"), 0);
	assert_in_range(stat_of(&b).crl_ends_ms, clock_wall_ms(), clock_wall_ms() + 3601 * 1000);
	CLIENT_UNTIL(revoked, false);
	EVENTUALLY(b.record.cancels == 1);
	assert_int_equal(stat_of(&b).revoked, 1);
	assert_false(is_let_in(&b, "revoked", TLS1_3_VERSION));
	/* Nobody else notices. */
	client_message(kiosk, 1, "hello", 5, true);
	check_message(client_end(kiosk, 1), 0, "hello");
	assert_true(is_let_in(&b, "kiosk", TLS1_3_VERSION));
	client_free(revoked);
	end(&b, kiosk);
}

/* A handshake that began before the list came must not end in a connection. */
static void test_handshake_under_way(void **state)
{
	struct bench b;
	struct client *c;

	(void)state;
	bench_init(&b);
	bench_open(&b);
	c = client_new(net_server_port(b.server), dir, "revoked", TLS1_3_VERSION);
	EVENTUALLY(stat_of(&b).handshaking == 1);
	assert_int_equal(revoke_by(&b, "crl"), 0);
	if (client_handshake(c)) {
		client_greet(c);
		CLIENT_UNTIL(c, false);
	}
	EVENTUALLY(!stat_of(&b).connections);
	assert_int_equal(b.record.opens, 0);
	client_free(c);
	bench_close(&b);
}

/* A list that ought to have been replaced keeps out whom it names, and nobody else. */
static void test_lists_out_of_date(void **state)
{
	static const char *const names[] = {"crl-old", "crl-early"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct bench b;

		bench_init(&b);
		bench_open(&b);
		assert_int_equal(revoke_by(&b, names[i]), 0);
		assert_true(is_let_in(&b, "kiosk", TLS1_3_VERSION));
		assert_false(is_let_in(&b, "revoked", TLS1_3_VERSION));
		bench_close(&b);
	}
}

/* What is no list of our CAs is refused, and the one before stays in force. */
static void test_bad_lists_are_refused(void **state)
{
	static const struct {
		const char *name, *why;
	} bad[] = {
		{"crl-none", "cannot be read"},          {"kiosk", "no whole revocation list"},
		{"crl-cut", "no whole revocation list"}, {"crl-two", "no whole revocation list"},
		{"crl-other", "none of the client CAs"},
	};
	char path[128], text[4096];
	struct bench b;
	size_t len;
	FILE *f;

	(void)state;
	bench_init(&b);
	bench_open(&b);
	assert_int_equal(revoke_by(&b, "crl"), 0);
	snprintf(path, sizeof(path), "%s/crl.pem", dir);
	f = fopen(path, "r");
	assert_non_null(f);
	len = fread(text, 1, sizeof(text), f);
	assert_int_equal(fclose(f), 0);
	/* One that was cut off while it was copied, alone and behind a whole one. */
	snprintf(path, sizeof(path), "%s/crl-cut.pem", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len / 2, f), len / 2);
	assert_int_equal(fclose(f), 0);
	snprintf(path, sizeof(path), "%s/crl-two.pem", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fwrite(text, 1, len / 2, f), len / 2);
	assert_int_equal(fclose(f), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(revoke_by(&b, bad[i].name), BM_ETLS);
		if (!strstr(b.message, bad[i].why) || !strstr(b.message, bad[i].name))
			fail_msg("%s", b.message);
		assert_true(is_let_in(&b, "kiosk", TLS1_3_VERSION));
		assert_false(is_let_in(&b, "revoked", TLS1_3_VERSION));
	}
	bench_close(&b);
	unlink(path);
	snprintf(path, sizeof(path), "%s/crl-cut.pem", dir);
	unlink(path);
}

/* Of a CA without a list nobody knows whom it has revoked. */
static void test_every_ca_needs_its_list(void **state)
{
	char path[128];
	struct bench b;
	FILE *f;

	(void)state;
	bench_init(&b);
	bench_open(&b);
	snprintf(path, sizeof(path), "%s/cas.pem", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, ca.certificate), 1);
	assert_int_equal(PEM_write_X509(f, other_ca.certificate), 1);
	assert_int_equal(fclose(f), 0);
	b.options.client_ca = path;
	assert_int_equal(net_server_reload(b.server, &b.options, b.message), 0);
	assert_true(is_let_in(&b, "stranger", TLS1_3_VERSION));
	assert_int_equal(revoke_by(&b, "crl"), 0);
	assert_true(is_let_in(&b, "kiosk", TLS1_3_VERSION));
	assert_false(is_let_in(&b, "stranger", TLS1_3_VERSION));
	bench_close(&b);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_connections_end),
		cmocka_unit_test(test_handshake_under_way),
		cmocka_unit_test(test_lists_out_of_date),
		cmocka_unit_test(test_bad_lists_are_refused),
		cmocka_unit_test(test_every_ca_needs_its_list),
	};

	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
