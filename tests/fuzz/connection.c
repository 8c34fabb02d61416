/*
 * A connection's bytes, from the loop's wakeups down to the calls: everything of
 * net but TLS itself, whose reads and writes are played here. The input is a
 * program: what the peer sends, how much it takes, what the handler does and how
 * time passes. After it, nothing may be held, owed or open any more.
 */
#include <openssl/err.h>
#include <sys/eventfd.h>

#include "../../src/net/conn.h"
#include "biomatch/log.h"
#include "fuzz.h"

/* Twice what the limits below take, so that a small input is not a long one. */
#define SENT_MAX  (64 * 1024)
#define OPS_MAX   200
#define CALLS_MAX 64

static struct net_server server;
static struct loop loops[2], *const lobby = &loops[LOBBY], *const loop = &loops[1];

/* What the peer has sent and TLS has not read; and what it will take. */
static struct {
	uint8_t data[SENT_MAX];
	size_t len, at, chunk;
	size_t takes;
	bool closed;
	int32_t stream;
	size_t last; /* where its last frame begins */
} peer;

/* The handler's calls, each finished once and closed once. */
static struct held {
	struct net_call *call;
	bool in_use, finished;
	uint8_t kind;
} calls[CALLS_MAX];

static X509 *certificate;

X509 *SSL_get1_peer_certificate(const SSL *ssl)
{
	(void)ssl;
	X509_up_ref(certificate);
	return certificate;
}

int SSL_accept(SSL *ssl)
{
	(void)ssl;
	return 1;
}

int SSL_read(SSL *ssl, void *to, int room)
{
	size_t n = peer.len - peer.at, most;

	(void)ssl;
	n = n < (size_t)room ? n : (size_t)room;
	/* In pieces, but not a quarter of a million for one input. */
	most = peer.chunk + n / 64;
	n = n < most ? n : most;
	if (!n)
		return peer.closed ? 0 : -1;
	memcpy(to, peer.data + peer.at, n);
	peer.at += n;
	return (int)n;
}

int SSL_write(SSL *ssl, const void *from, int len)
{
	size_t n = (size_t)len < peer.takes ? (size_t)len : peer.takes;

	(void)ssl;
	(void)from;
	if (!n)
		return -2;
	if (peer.takes != SIZE_MAX)
		peer.takes -= n;
	return (int)n;
}

/* Nothing is ever left there, and the real thing gives 32 strings back each time. */
void ERR_clear_error(void)
{
}

int SSL_has_pending(const SSL *ssl)
{
	(void)ssl;
	return peer.at < peer.len;
}

int SSL_get_error(const SSL *ssl, int rc)
{
	(void)ssl;
	return rc == -2   ? SSL_ERROR_WANT_WRITE
	       : rc == -1 ? SSL_ERROR_WANT_READ
			  : SSL_ERROR_ZERO_RETURN;
}

int SSL_shutdown(SSL *ssl)
{
	(void)ssl;
	return 1;
}

static void finish(struct held *held, enum grpc_status code, const char *message, size_t details)
{
	static const uint8_t zeros[70000];

	if (!held->in_use || held->finished)
		return;
	held->finished = true;
	net_call_finish(held->call, &(struct net_status){code, message, {zeros, details}});
}

static void send_message(struct held *held, size_t len)
{
	if (held->in_use && !held->finished)
		net_call_send(held->call, calloc(1, len ? len : 1), len);
}

/* "/e" answers each message, "/k" keeps quiet, "/s" takes small messages alone. */
static int handler_open(void *ctx, struct net_call *call, const char *path, size_t *max_message,
			void **state)
{
	(void)ctx;
	if (strlen(path) != 2 || !strchr("eks", path[1]))
		return BM_EUNIMPL;
	if (path[1] == 's')
		*max_message = 16;
	for (struct held *held = calls; held < calls + CALLS_MAX; held++) {
		if (held->in_use)
			continue;
		*held = (struct held){.call = call, .in_use = true, .kind = (uint8_t)path[1]};
		*state = held;
		return 0;
	}
	return BM_ENOMEM;
}

static void handler_message(void *ctx, void *state, uint8_t *data, size_t len)
{
	struct held *held = state;

	(void)ctx;
	REQUIRE(held->in_use && (held->kind != 's' || len <= 16));
	if (held->kind == 'e' && !held->finished)
		net_call_send(held->call, data, len);
	else
		free(data);
}

static void handler_half_close(void *ctx, void *state)
{
	struct held *held = state;

	(void)ctx;
	REQUIRE(held->in_use);
	if (held->kind != 'k')
		finish(held, GRPC_OK, NULL, 0);
}

static void handler_cancel(void *ctx, void *state)
{
	(void)ctx;
	finish(state, GRPC_CANCELLED, NULL, 0);
}

static void handler_close(void *ctx, void *state)
{
	struct held *held = state;

	(void)ctx;
	REQUIRE(held->in_use && held->finished);
	held->in_use = false;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_LEVEL_ERROR);
	server.options = (struct net_options){
		.threads = 1,
		.max_connections = 8,
		.max_streams = 8,
		.max_message = 10000,
		.max_connection_bytes = 25000,
		.max_total_bytes = 25000,
		.connection_share = 100,
		.handshake_ms = 1000,
		.idle_ms = 5000,
		.request_ms = 2000,
		.stall_ms = 3000,
	};
	server.handler = (struct net_handler){
		.open = handler_open,
		.message = handler_message,
		.half_close = handler_half_close,
		.cancel = handler_cancel,
		.close = handler_close,
	};
	server.loops = loops;
	server.n_loops = 2;
	server.listen_fd = server.reserve_fd = -1;
	REQUIRE(!pthread_mutex_init(&server.lock, NULL));
	REQUIRE(!pthread_mutex_init(&server.tls_lock, NULL));
	REQUIRE(!pthread_cond_init(&server.emptied, NULL));
	server.tls = SSL_CTX_new(TLS_server_method());
	certificate = X509_new();
	REQUIRE(certificate && server.tls && !loop_open(&server, lobby) &&
		!loop_open(&server, loop));
	return 0;
}

static void turn(void)
{
	/* The socket is always ready, so a loop without an end would never come back. */
	REQUIRE(event_base_loop(loop->base, EVLOOP_NONBLOCK | EVLOOP_ONCE) >= 0);
	REQUIRE(server.bytes_held <= server.options.max_total_bytes);
}

static void put(const void *data, size_t len)
{
	if (len > SENT_MAX - peer.len)
		len = SENT_MAX - peer.len;
	if (len)
		memcpy(peer.data + peer.len, data, len);
	peer.len += len;
}

static void put_frame(uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t len)
{
	uint8_t head[9];

	bytes_put_be32(head, (uint32_t)len << 8);
	head[3] = type;
	head[4] = flags;
	bytes_put_be32(head + 5, stream);
	peer.last = peer.len;
	put(head, sizeof(head));
	put(payload, len);
}

/* A header field that no table needs (RFC 7541, 6.2.2). */
static size_t literal(uint8_t *to, const char *name, const uint8_t *value, size_t len)
{
	size_t n = strlen(name);

	to[0] = 0;
	to[1] = (uint8_t)n;
	memcpy(to + 2, name, n);
	to[2 + n] = (uint8_t)len;
	memcpy(to + 3 + n, value, len);
	return 3 + n + len;
}

static size_t literal_text(uint8_t *to, const char *name, const char *value)
{
	return literal(to, name, (const uint8_t *)value, strlen(value));
}

static void put_request(struct fuzz_input *in)
{
	static const char *const paths[] = {"/e", "/k", "/s", "/x"};
	static const char *const names[] = {"grpc-timeout", "traceparent", "grpc-encoding",
					    "x-more", "te"};
	uint8_t block[512], how = fuzz_byte(in);
	size_t n = 0, len = fuzz_byte(in) & 0x7f;
	const uint8_t *value = fuzz_take(in, &len);

	n += literal_text(block + n, ":method", how & 0x40 ? "GET" : "POST");
	n += literal_text(block + n, ":scheme", "https");
	n += literal_text(block + n, ":path", paths[how & 3]);
	n += literal_text(block + n, ":authority", "a");
	n += literal_text(block + n, "content-type", "application/grpc");
	if (len)
		n += literal(block + n, names[how % 5], value, len);
	peer.stream += 2;
	put_frame(NGHTTP2_HEADERS, how & 0x80 ? 5 : 4, (uint32_t)peer.stream - 2, block, n);
}

static uint32_t pick_stream(struct fuzz_input *in)
{
	uint8_t back = fuzz_byte(in);

	return back == 255 ? 0 : (uint32_t)(peer.stream - 2 - 2 * (back & 7)) & 0x7fffffff;
}

static void put_message(struct fuzz_input *in)
{
	static uint8_t payload[16384];
	uint8_t how = fuzz_byte(in);
	uint32_t stream = pick_stream(in), len = fuzz_byte(in) * (how & 2 ? 40u : 1u);
	size_t sent = GRPC_PREFIX + (how & 4 ? len / 2 : len);

	payload[0] = how >> 6;
	bytes_put_be32(payload + 1, len);
	if (sent > sizeof(payload))
		sent = sizeof(payload);
	put_frame(NGHTTP2_DATA, how & 1, stream, payload, sent);
}

static void put_raw(struct fuzz_input *in)
{
	uint8_t type = fuzz_byte(in), flags = fuzz_byte(in);
	uint32_t stream = pick_stream(in);
	size_t len = fuzz_byte(in);
	const uint8_t *payload = fuzz_take(in, &len);

	if (type == 255)
		put(payload, len);
	else
		put_frame(type & 15, flags, stream, payload, len);
}

static void repeat(unsigned times)
{
	size_t len = peer.len - peer.last, at = peer.last;

	while (times-- && len && len <= SENT_MAX - peer.len) {
		put(peer.data + at, len);
		peer.last = peer.len - len;
	}
}

static void pass_time(unsigned ms)
{
	struct conn *next;

	for (struct conn *conn = loop->conns; conn; conn = next) {
		next = conn->next;
		conn_sweep(conn, clock_monotonic_ns() + ms * CLOCK_NS_PER_MS);
	}
}

static void drain(void)
{
	struct conn *next;

	for (struct conn *conn = loop->conns; conn; conn = next) {
		next = conn->next;
		conn_drain(conn);
	}
}

static void step(struct fuzz_input *in)
{
	struct held *held;

	switch (fuzz_byte(in) % 12) {
	case 0:
	case 1:
		put_request(in);
		break;
	case 2:
	case 3:
		put_message(in);
		break;
	case 4:
		put_raw(in);
		break;
	case 5:
		repeat(fuzz_byte(in) * 16u);
		break;
	case 6:
		peer.chunk = fuzz_byte(in) + 1u;
		break;
	case 7:
		peer.takes = fuzz_byte(in);
		peer.takes = peer.takes == 255 ? SIZE_MAX : peer.takes * 64;
		break;
	case 8:
		pass_time(fuzz_byte(in) * 256u);
		break;
	case 9:
		held = &calls[fuzz_byte(in) % CALLS_MAX];
		finish(held, fuzz_byte(in) % 17, "caf\xc3\xa9 100%", fuzz_byte(in) * 256u);
		break;
	case 10:
		held = &calls[fuzz_byte(in) % CALLS_MAX];
		send_message(held, fuzz_byte(in) * 256u);
		break;
	default:
		if (fuzz_byte(in) & 1)
			drain();
		else
			peer.closed = true;
	}
	turn();
}

static void begin(void)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	/* Ready to read and to write, whenever the loop looks. */
	int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);

	REQUIRE(fd >= 0);
	peer.len = peer.at = peer.last = 0;
	peer.chunk = SENT_MAX;
	peer.takes = SIZE_MAX;
	peer.closed = false;
	peer.stream = 1;
	put(preface, sizeof(preface) - 1);
	put_frame(NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	server.connections = server.handshaking = 1;
	handshake_begin(&server, fd);
	REQUIRE(event_base_loop(lobby->base, EVLOOP_NONBLOCK | EVLOOP_ONCE) >= 0);
	REQUIRE(!lobby->conns && loop->inbox);
}

static void end(void)
{
	while (loop->conns)
		conn_close(loop->conns);
	for (struct held *held = calls; held < calls + CALLS_MAX; held++)
		finish(held, GRPC_INTERNAL, NULL, 0);
	while (loop->inbox)
		turn();
	for (struct held *held = calls; held < calls + CALLS_MAX; held++)
		REQUIRE(!held->in_use);
	REQUIRE(!server.bytes_held && !server.calls_open && !server.connections &&
		!server.handshaking);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, data + size};

	begin();
	turn();
	for (unsigned i = 0; in.p < in.end && i < OPS_MAX; i++)
		step(&in);
	end();
	return 0;
}
