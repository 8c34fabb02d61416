/*
 * What the benches ask of a running daemon, and with what. Any failure ends the
 * process with its reason.
 */
#ifndef BENCH_REMOTE_H
#define BENCH_REMOTE_H

#include "biomatch/client.h"
#include "biomatch/keys.h"
#include "biomatch/pack.h"
#include "biomatch/v1/matching_service.pb-c.h"

/* A daemon, and the store key and pack that templates for it are sealed with. */
struct remote {
	const char *target, *pki;
	struct pack *pack;
	struct keys *keys;
};

/* Ends the process on an error. */
void must(int error, const char *what);

/* target: host:port; pki: directory with ca.pem, bench.pem and bench.key. */
void remote_init(struct remote *remote, const char *target, const char *pki, const char *key,
		 const char *pack);
void remote_deinit(struct remote *remote);

/* A client has one thread at a time. */
struct biomatch_client *remote_dial(const struct remote *remote);

/* Sends one request; its answer, whose status was OK, is in the arena. */
ProtobufCMessage *remote_ask(struct biomatch_client *client, const char *path,
			     const ProtobufCMessage *request,
			     const ProtobufCMessageDescriptor *type, struct arena *arena);

/* Searches gallery "bench" for a template. */
const Biomatch__V1__IdentifyResponse *remote_identify(struct biomatch_client *client,
						      const char *purpose, uint32_t max_candidates,
						      Biomatch__V1__Template *probe,
						      struct arena *arena);

/* A template of the pack's dim floats, sealed as the daemon gives them out; in the arena. */
void remote_template(const struct remote *remote, const float *v, struct arena *arena,
		     Biomatch__V1__Template *out);

/* The value at share q of n, which are put in order. */
double quantile(double *v, size_t n, double q);

#endif
