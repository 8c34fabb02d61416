/* The client against a stock gRPC server and against peers that misbehave. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "biomatch/client.h"
#include "biomatch/clock.h"
#include "biomatch/v1/matching_service.pb-c.h"
#include "biomatch/wire.h"

#define SERVER_SCRIPT "tests/unit/client/server.py"
#define TYPE          (&biomatch__v1__verify_request__descriptor)

static char directory[] = "/tmp/biomatch-client-XXXXXX";

struct server {
	pid_t pid;
	int input;
	unsigned port;
};

static void server_start(struct server *s, const char *behaviour)
{
	int in[2], out[2];
	FILE *f;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (!s->pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl("/usr/bin/python3", "python3", SERVER_SCRIPT, directory, behaviour, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	s->input = in[1];
	f = fdopen(out[0], "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &s->port), 1);
	fclose(f);
}

static void server_stop(struct server *s)
{
	close(s->input);
	waitpid(s->pid, NULL, 0);
}

/* The stock server, shared by the tests that only need a good one. */
static struct server grpc;

struct fixture {
	struct biomatch_client *client;
	struct arena arena;
	ProtobufCMessage *reply;
	struct biomatch_status status;
};

static int open_with(struct fixture *f, unsigned port, const char *who, const char *ca,
		     const char *name, char message[BIOMATCH_MESSAGE_MAX])
{
	char target[64], certificate[128], key[128], ca_file[128];
	const struct biomatch_options options = {.target = target,
						 .certificate = certificate,
						 .private_key = key,
						 .ca = ca_file,
						 .server_name = name,
						 .connect_ms = 5000};

	snprintf(target, sizeof(target), "localhost:%u", port);
	snprintf(certificate, sizeof(certificate), "%s/%s.pem", directory, who);
	snprintf(key, sizeof(key), "%s/%s.key", directory, who);
	snprintf(ca_file, sizeof(ca_file), "%s/%s.pem", directory, ca);
	arena_init(&f->arena, (size_t)32 << 20);
	f->client = NULL;
	return biomatch_client_open(&options, &f->client, message);
}

static void open_client(struct fixture *f, unsigned port)
{
	char message[BIOMATCH_MESSAGE_MAX];

	assert_int_equal(open_with(f, port, "client", "ca", NULL, message), 0);
}

static void close_client(struct fixture *f)
{
	biomatch_client_close(f->client);
	arena_deinit(&f->arena);
}

/* Sends a request whose picture is these bytes. */
static int call_with(struct fixture *f, const char *path, const void *picture, size_t len,
		     uint32_t timeout_ms)
{
	Biomatch__V1__Image image = BIOMATCH__V1__IMAGE__INIT;
	Biomatch__V1__Probe probe = BIOMATCH__V1__PROBE__INIT;
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;

	image.data = (ProtobufCBinaryData){len, (uint8_t *)picture};
	probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	probe.image = &image;
	request.purpose = (char *)"lane";
	request.probe = &probe;
	return biomatch_client_call(f->client, path, &request.base, TYPE, timeout_ms, &f->arena,
				    &f->reply, &f->status);
}

static int call(struct fixture *f, const char *path, uint32_t timeout_ms)
{
	return call_with(f, path, "picture", 7, timeout_ms);
}

static void assert_answered(struct fixture *f, int result)
{
	if (result)
		fail_msg("%s: %s", bm_error_reason(result), biomatch_client_error(f->client));
	assert_int_equal(f->status.code, GRPC_OK);
	assert_non_null(f->reply);
	assert_string_equal(f->status.message, "");
}

static void calls_and_calls_again(void **state)
{
	const Biomatch__V1__VerifyRequest *reply;
	struct fixture f;

	(void)state;
	open_client(&f, grpc.port);
	for (int i = 0; i < 50; i++) {
		assert_answered(&f, call(&f, "/test/Echo", 5000));
		reply = (const Biomatch__V1__VerifyRequest *)f.reply;
		assert_string_equal(reply->purpose, "lane");
		assert_memory_equal(reply->probe->image->data.data, "picture", 7);
		arena_reset(&f.arena);
	}
	close_client(&f);
}

static void tells_who_it_is_and_until_when(void **state)
{
	const Biomatch__V1__VerifyRequest *reply;
	struct fixture f;
	int left;

	(void)state;
	open_client(&f, grpc.port);
	assert_answered(&f, call(&f, "/test/Facts", 8000));
	reply = (const Biomatch__V1__VerifyRequest *)f.reply;
	left = atoi(reply->purpose);
	assert_in_range(left, 4000, 8000);
	assert_string_equal(reply->gallery, "biomatch://test/site/kiosk/1");
	/* A timeout of more than eight digits of milliseconds goes out in seconds. */
	assert_answered(&f, call(&f, "/test/Facts", 200000000));
	reply = (const Biomatch__V1__VerifyRequest *)f.reply;
	left = atoi(reply->purpose);
	assert_in_range(left, 199990000, 200000000);
	close_client(&f);
}

static void uploads_ten_megabytes(void **state)
{
	const Biomatch__V1__VerifyRequest *reply;
	size_t len = (size_t)10 << 20;
	uint8_t *picture = malloc(len);
	struct fixture f;

	(void)state;
	assert_non_null(picture);
	for (size_t i = 0; i < len; i++)
		picture[i] = (uint8_t)(i * 2654435761u >> 24);
	open_client(&f, grpc.port);
	assert_int_equal(call_with(&f, "/test/Echo", picture, len, 20000), BM_ETOOBIG);
	assert_answered(&f, call_with(&f, "/test/Echo", picture, len / 4, 20000));
	reply = (const Biomatch__V1__VerifyRequest *)f.reply;
	assert_int_equal(reply->probe->image->data.len, len / 4);
	assert_memory_equal(reply->probe->image->data.data, picture, len / 4);
	assert_answered(&f, call_with(&f, "/test/Facts", picture, len, 20000));
	close_client(&f);
	free(picture);
}

static void limits_the_reply(void **state)
{
	struct fixture f;

	(void)state;
	open_client(&f, grpc.port);
	assert_answered(&f, call(&f, "/test/Large", 10000));
	assert_int_equal(call(&f, "/test/TooLarge", 10000), BM_ETOOBIG);
	assert_null(f.reply);
	assert_answered(&f, call(&f, "/test/Echo", 10000));
	arena_reset(&f.arena);
	f.arena.limit = (size_t)1 << 20;
	assert_int_equal(call(&f, "/test/Large", 10000), BM_ETOOBIG);
	close_client(&f);
}

static void refuses_a_malformed_reply(void **state)
{
	struct fixture f;

	(void)state;
	open_client(&f, grpc.port);
	assert_int_equal(call(&f, "/test/Junk", 5000), BM_EPROTO);
	assert_non_null(strstr(biomatch_client_error(f.client), "reply cannot be read"));
	assert_answered(&f, call(&f, "/test/Echo", 5000));
	close_client(&f);
}

static void reads_a_status_with_details(void **state)
{
	const struct wire_error error = {
		.code = BM_EIMGTRUNC, .field = "probe.image.data", .retry_ms = 1500};
	uint8_t *status, body[512] = "STATUS:";
	struct fixture f;
	size_t len;

	(void)state;
	assert_int_equal(wire_pack_error(&error, &status, &len), 0);
	memcpy(body + 7, status, len);
	free(status);
	open_client(&f, grpc.port);
	assert_int_equal(call_with(&f, "/test/Fail", body, len + 7, 5000), 0);
	assert_null(f.reply);
	assert_int_equal(f.status.code, GRPC_INVALID_ARGUMENT);
	assert_string_equal(f.status.message, "50% of \xe5\xbc\xb5 is wrong");
	assert_string_equal(f.status.reason, "IMAGE_TRUNCATED");
	assert_string_equal(f.status.field, "probe.image.data");
	assert_int_equal(f.status.retry_ms, 1500);
	close_client(&f);
}

static void reads_an_answer_of_trailers_only(void **state)
{
	struct fixture f;

	(void)state;
	open_client(&f, grpc.port);
	assert_int_equal(call(&f, "/test/Nothing", 5000), 0);
	assert_int_equal(f.status.code, GRPC_UNIMPLEMENTED);
	assert_string_equal(f.status.reason, "");
	assert_answered(&f, call(&f, "/test/Echo", 5000));
	close_client(&f);
}

static void keeps_its_deadline(void **state)
{
	int64_t start = clock_monotonic_ns(), took;
	struct fixture f;
	int result;

	(void)state;
	open_client(&f, grpc.port);
	/* Either end may be the first to notice. */
	result = call(&f, "/test/Slow", 300);
	took = (clock_monotonic_ns() - start) / CLOCK_NS_PER_MS;
	if (result)
		assert_int_equal(result, BM_EDEADLINE);
	else
		assert_int_equal(f.status.code, GRPC_DEADLINE_EXCEEDED);
	assert_in_range(took, 250, 3000);
	assert_answered(&f, call(&f, "/test/Echo", 5000));
	close_client(&f);
}

static void checks_the_service(void **state)
{
	char message[BIOMATCH_MESSAGE_MAX];
	struct fixture f;

	(void)state;
	assert_int_equal(open_with(&f, grpc.port, "client", "other-ca", NULL, message), 0);
	assert_int_equal(call(&f, "/test/Echo", 5000), BM_ETLS);
	assert_non_null(strstr(biomatch_client_error(f.client), "certificate is refused"));
	close_client(&f);
	assert_int_equal(open_with(&f, grpc.port, "client", "ca", "example.org", message), 0);
	assert_int_equal(call(&f, "/test/Echo", 5000), BM_ETLS);
	assert_non_null(strstr(biomatch_client_error(f.client), "hostname mismatch"));
	close_client(&f);
	assert_int_equal(open_with(&f, grpc.port, "client", "ca", "10.0.0.1", message), 0);
	assert_int_equal(call(&f, "/test/Echo", 5000), BM_ETLS);
	assert_non_null(strstr(biomatch_client_error(f.client), "IP address mismatch"));
	close_client(&f);
	assert_int_equal(open_with(&f, grpc.port, "client", "ca", "127.0.0.1", message), 0);
	assert_answered(&f, call(&f, "/test/Echo", 5000));
	close_client(&f);
}

static void is_refused_as_a_stranger(void **state)
{
	char message[BIOMATCH_MESSAGE_MAX];
	struct fixture f;

	(void)state;
	assert_int_equal(open_with(&f, grpc.port, "stranger", "ca", NULL, message), 0);
	/* With an alert or without, which may be lost with the connection. */
	assert_int_equal(call(&f, "/test/Echo", 5000), BM_ETLS);
	assert_true(strlen(biomatch_client_error(f.client)) > 0);
	close_client(&f);
}

static void says_what_is_wrong_with_its_options(void **state)
{
	static const struct {
		const char *target, *who, *ca, *want;
	} rows[] = {
		{"localhost", "client", "ca", "not host:port"},
		{"localhost:", "client", "ca", "not host:port"},
		{":80", "client", "ca", "not host:port"},
		{"localhost:0", "client", "ca", "not host:port"},
		{"localhost:65536", "client", "ca", "not host:port"},
		{"::1:80", "client", "ca", "not host:port"},
		{"[::1:80", "client", "ca", "not host:port"},
		{"localhost:1", "missing", "ca", "cannot read the certificate"},
		{"localhost:1", "client", "missing", "cannot read the CA certificate"},
	};
	char message[BIOMATCH_MESSAGE_MAX], certificate[128], key[128], ca[128];
	struct biomatch_client *client;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct biomatch_options options = {rows[i].target, certificate, key, ca,
							 NULL,           1000};

		snprintf(certificate, sizeof(certificate), "%s/%s.pem", directory, rows[i].who);
		snprintf(key, sizeof(key), "%s/%s.key", directory, rows[i].who);
		snprintf(ca, sizeof(ca), "%s/%s.pem", directory, rows[i].ca);
		assert_true(biomatch_client_open(&options, &client, message) < 0);
		assert_non_null(strstr(message, rows[i].want));
	}
	/* A key that is not the certificate's. */
	snprintf(certificate, sizeof(certificate), "%s/client.pem", directory);
	snprintf(key, sizeof(key), "%s/server.key", directory);
	snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
	assert_int_equal(biomatch_client_open(&(struct biomatch_options){"[::1]:1", certificate,
									 key, ca, NULL, 1000},
					      &client, message),
			 BM_ETLS);
	assert_non_null(strstr(message, "cannot use the private key"));
}

static void says_that_nobody_listens(void **state)
{
	struct fixture f;

	(void)state;
	open_client(&f, 1);
	assert_int_equal(call(&f, "/test/Echo", 5000), BM_ENET);
	assert_non_null(strstr(biomatch_client_error(f.client), "Connection refused"));
	close_client(&f);
}

static void survives_bad_peers(void **state)
{
	static const struct {
		const char *behaviour;
		int result;
		enum grpc_status status;
	} rows[] = {
		{"http-503", 0, GRPC_UNAVAILABLE},
		{"no-status", BM_EPROTO, 0},
		{"bad-status", BM_EPROTO, 0},
		{"high-status", 0, GRPC_UNKNOWN},
		{"bad-details", 0, GRPC_NOT_FOUND},
		{"no-message", BM_EPROTO, 0},
		{"two-messages", BM_EPROTO, 0},
		{"short-message", BM_EPROTO, 0},
		{"compressed", BM_EPROTO, 0},
		{"garbage", BM_EPROTO, 0},
		{"drop", BM_ENET, 0},
		{"no-h2", BM_ETLS, 0},
		{"refuse-always", BM_ENET, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct server server;
		struct fixture f;
		int result;

		server_start(&server, rows[i].behaviour);
		open_client(&f, server.port);
		result = call(&f, "/test/Echo", 5000);
		if (result != rows[i].result || (!result && f.status.code != rows[i].status))
			fail_msg("%s: %s, status %d", rows[i].behaviour, bm_error_reason(result),
				 result ? -1 : (int)f.status.code);
		if (result)
			assert_true(strlen(biomatch_client_error(f.client)) > 0);
		assert_null(f.reply);
		close_client(&f);
		server_stop(&server);
	}
}

static void repeats_what_was_never_begun(void **state)
{
	static const char *const behaviours[] = {"goaway", "refuse-once"};

	(void)state;
	for (size_t i = 0; i < sizeof(behaviours) / sizeof(behaviours[0]); i++) {
		struct server server;
		struct fixture f;

		server_start(&server, behaviours[i]);
		open_client(&f, server.port);
		assert_answered(&f, call(&f, "/test/Echo", 5000));
		close_client(&f);
		server_stop(&server);
	}
}

static void connects_again(void **state)
{
	struct server server;
	struct fixture f;

	(void)state;
	server_start(&server, "one-each");
	open_client(&f, server.port);
	for (int i = 0; i < 5; i++)
		assert_answered(&f, call(&f, "/test/Echo", 5000));
	close_client(&f);
	server_stop(&server);
}

static void stops_an_upload_that_is_refused(void **state)
{
	size_t len = (size_t)10 << 20;
	uint8_t *picture = calloc(1, len);
	struct server server;
	struct fixture f;

	(void)state;
	assert_non_null(picture);
	server_start(&server, "early");
	open_client(&f, server.port);
	assert_int_equal(call_with(&f, "/test/Echo", picture, len, 5000), 0);
	assert_int_equal(f.status.code, GRPC_RESOURCE_EXHAUSTED);
	/* The connection goes on. */
	assert_answered(&f, call(&f, "/test/Echo", 5000));
	close_client(&f);
	server_stop(&server);
	free(picture);
}

static int start_all(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(directory))
		return -1;
	server_start(&grpc, "grpc");
	return 0;
}

static int stop_all(void **state)
{
	char command[64];

	(void)state;
	server_stop(&grpc);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_and_calls_again),
		cmocka_unit_test(tells_who_it_is_and_until_when),
		cmocka_unit_test(uploads_ten_megabytes),
		cmocka_unit_test(limits_the_reply),
		cmocka_unit_test(refuses_a_malformed_reply),
		cmocka_unit_test(reads_a_status_with_details),
		cmocka_unit_test(reads_an_answer_of_trailers_only),
		cmocka_unit_test(keeps_its_deadline),
		cmocka_unit_test(checks_the_service),
		cmocka_unit_test(is_refused_as_a_stranger),
		cmocka_unit_test(says_what_is_wrong_with_its_options),
		cmocka_unit_test(says_that_nobody_listens),
		cmocka_unit_test(survives_bad_peers),
		cmocka_unit_test(repeats_what_was_never_begun),
		cmocka_unit_test(connects_again),
		cmocka_unit_test(stops_an_upload_that_is_refused),
	};

	return cmocka_run_group_tests(tests, start_all, stop_all);
}
