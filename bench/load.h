/*
 * Calls in closed loops: some connections, on each some streams, on each stream one caller who asks
 * again as soon as he is answered. TLS 1.3 with a client certificate, one cipher for all servers.
 *
 * Every answer is held against the one expected. What goes wrong ends the process.
 *
 * Thread: one.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>
#include <sys/types.h>

struct load;

struct load_server {
	uint16_t port; /* of 127.0.0.1 */
	pid_t pid;
};

struct load_shape {
	unsigned connections, streams; /* streams on each */
};

struct load_result {
	double rate;              /* calls a second */
	double server_us;         /* the server's processor time of a call, all its threads */
	double p50_us, p99_us;    /* from the request handed to HTTP/2 to the status */
	double server_busy, busy; /* of one processor: the server, and this process */
};

/* PKI/ca.pem, and PKI/bench.pem with its key. */
struct load *load_open(const char *pki, const char *path, const ProtobufCMessage *request,
		       const ProtobufCMessage *expected);
void load_close(struct load *load);
/* That nobody is let in without a certificate. */
void load_check_refusal(const char *pki, const struct load_server *server);
/* Calls for so long, after a while that is not counted. */
struct load_result load_run(struct load *load, const struct load_server *server,
			    struct load_shape shape, unsigned ms);

#endif
