/* A server, its certificates and clients for it: what the tests of net share. */
#ifndef TEST_NET_BENCH_H
#define TEST_NET_BENCH_H

#include <signal.h>

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

static inline void bench_init(struct bench *b)
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
		.connection_share = 100,
		.handshake_ms = 5000,
		.idle_ms = 60000,
		.request_ms = 60000,
		.stall_ms = 30000,
	};
}

static inline void bench_open(struct bench *b)
{
	const struct net_handler handler = service_handler(&b->record);

	assert_int_equal(net_server_open(&b->options, &handler, &b->server, b->message), 0);
	assert_int_not_equal(net_server_port(b->server), 0);
}

static inline struct net_stat stat_of(struct bench *b)
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
static inline void bench_close(struct bench *b)
{
	EVENTUALLY(!stat_of(b).connections);
	EVENTUALLY(!stat_of(b).calls_open);
	assert_int_equal(stat_of(b).bytes_held, 0);
	assert_int_equal(stat_of(b).handshaking, 0);
	net_server_close(b->server);
	assert_int_equal(b->record.opens, b->record.closes);
	assert_false(b->record.wrong);
}

static inline struct client *connect_as(struct bench *b, const char *name)
{
	struct client *c = client_new(net_server_port(b->server), dir, name, TLS1_3_VERSION);

	assert_true(client_handshake(c));
	client_greet(c);
	assert_false(c->shut);
	return c;
}

static inline struct client *connect_kiosk(struct bench *b)
{
	return connect_as(b, "kiosk");
}

/* False when the server refused; the client hears of it by its first read. */
static inline bool is_let_in(struct bench *b, const char *name, int version)
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

/* A server and a client of it. */
static inline struct client *begin(struct bench *b)
{
	bench_init(b);
	bench_open(b);
	return connect_kiosk(b);
}

static inline void end(struct bench *b, struct client *c)
{
	client_free(c);
	bench_close(b);
}

static inline void call(struct client *c, int32_t stream, const char *path, const void *data,
			size_t len)
{
	client_request(c, stream, path, NULL);
	client_message(c, stream, data, len, true);
}

/* The nth message of an answer. */
static inline struct bytes message_of(const struct answer *answer, unsigned n)
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

static inline void check_message(const struct answer *answer, unsigned n, const char *text)
{
	struct bytes message = message_of(answer, n);

	assert_int_equal(message.len, strlen(text));
	assert_memory_equal(message.data, text, message.len);
}

static inline int make_certificates(void **state)
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
	certs_revoke(dir, &ca, "ca-revoking", 4, -30, 3600, true);
	certs_revoke(dir, &ca, "crl", 4, -30, 3600, false);
	certs_revoke(dir, &ca, "crl-old", 4, -3600, -30, false);
	certs_revoke(dir, &ca, "crl-early", 4, 600, 3600, false);
	certs_revoke(dir, &other_ca, "crl-other", 4, -30, 3600, false);
	return 0;
}

static inline int remove_certificates(void **state)
{
	static const char *const names[] = {"server",   "kiosk",   "two-names", "revoked",
					    "stranger", "ca",      "other-ca",  "ca-revoking",
					    "crl",      "crl-old", "crl-early", "crl-other"};
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

#endif
