/*
 * health PKI: grpc.health.v1.Health/Check on our transport and nothing behind it, with one loop
 * thread and what the daemon allows by default. Prints its port and serves until it is told to end.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/arena.h"
#include "biomatch/net.h"
#include "biomatch/wire.h"
#include "grpc/health/v1/health.pb-c.h"
#include "health.h"

static int open_call(void *ctx, struct net_call *call, const char *path, size_t *max_message,
		     void **state)
{
	(void)ctx;
	(void)max_message;
	*state = call;
	return strcmp(path, HEALTH_PATH) ? BM_EUNIMPL : 0;
}

static int check(struct arena *arena, struct bytes request, uint8_t **reply, size_t *len)
{
	Grpc__Health__V1__HealthCheckResponse response =
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	ProtobufCMessage *asked;
	int error = wire_unpack(&grpc__health__v1__health_check_request__descriptor, arena, request,
				&asked);

	if (error)
		return error;
	if (strcmp(((const Grpc__Health__V1__HealthCheckRequest *)(const void *)asked)->service,
		   HEALTH_SERVICE))
		return BM_ENOSERVICE;
	response.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	return wire_pack(&response.base, reply, len);
}

static void take_message(void *ctx, void *state, uint8_t *data, size_t len)
{
	struct net_status status = {.code = GRPC_OK};
	uint8_t *reply = NULL;
	struct arena arena;
	int error;

	(void)ctx;
	arena_init(&arena, 65536);
	error = check(&arena, (struct bytes){data, len}, &reply, &len);
	arena_deinit(&arena);
	free(data);
	if (error)
		status = (struct net_status){.code = bm_error_grpc(error),
					     .message = bm_error_text(error)};
	else
		net_call_send(state, reply, len);
	net_call_finish(state, &status);
}

static void ignore(void *ctx, void *state)
{
	(void)ctx;
	(void)state;
}

static int serve(const char *pki)
{
	const struct net_handler handler = {.open = open_call,
					    .message = take_message,
					    .half_close = ignore,
					    .cancel = ignore,
					    .close = ignore};
	char certificate[512], key[512], ca[512], message[256] = "";
	const struct net_options options = {
		.listen = "127.0.0.1:0",
		.certificate = certificate,
		.private_key = key,
		.client_ca = ca,
		.threads = 1,
		.max_connections = 4096,
		.max_streams = 64,
		.max_message = 21 << 20,
		.max_connection_bytes = 64 << 20,
		.max_total_bytes = 1 << 30,
		.handshake_ms = 5000,
		.idle_ms = 600000,
		.request_ms = 30000,
		.connection_share = 100,
		.stall_ms = 30000,
	};
	struct net_server *server;
	sigset_t end;
	int signal;

	snprintf(certificate, sizeof(certificate), "%s/server.pem", pki);
	snprintf(key, sizeof(key), "%s/server.key", pki);
	snprintf(ca, sizeof(ca), "%s/ca.pem", pki);
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigprocmask(SIG_BLOCK, &end, NULL);
	if (net_server_open(&options, &handler, &server, message)) {
		fprintf(stderr, "health: %s\n", message);
		return 1;
	}
	printf("%u\n", net_server_port(server));
	fflush(stdout);
	sigwait(&end, &signal);
	net_server_drain(server, 1000);
	net_server_close(server);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fputs("usage: health PKI\n", stderr);
		return 2;
	}
	return serve(argv[1]);
}
