#include "remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void must(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "%s: %s\n", what, bm_error_text(error));
	exit(1);
}

void remote_init(struct remote *remote, const char *target, const char *pki, const char *key,
		 const char *pack)
{
	char message[PACK_MESSAGE_LEN] = "";

	*remote = (struct remote){.target = target, .pki = pki};
	must(keys_open(key, &remote->keys), key);
	must(pack_open(pack, true, &remote->pack, message), message);
}

void remote_deinit(struct remote *remote)
{
	pack_close(remote->pack);
	keys_close(remote->keys);
}

struct biomatch_client *remote_dial(const struct remote *remote)
{
	char certificate[512], key[512], ca[512], message[BIOMATCH_MESSAGE_MAX] = "";
	struct biomatch_options options = {.target = remote->target,
					   .certificate = certificate,
					   .private_key = key,
					   .ca = ca,
					   .server_name = "localhost",
					   .connect_ms = 5000};
	struct biomatch_client *client;

	snprintf(certificate, sizeof(certificate), "%s/bench.pem", remote->pki);
	snprintf(key, sizeof(key), "%s/bench.key", remote->pki);
	snprintf(ca, sizeof(ca), "%s/ca.pem", remote->pki);
	must(biomatch_client_open(&options, &client, message), message);
	return client;
}

ProtobufCMessage *remote_ask(struct biomatch_client *client, const char *path,
			     const ProtobufCMessage *request,
			     const ProtobufCMessageDescriptor *type, struct arena *arena)
{
	struct biomatch_status status;
	ProtobufCMessage *reply;

	must(biomatch_client_call(client, path, request, type, 60000, arena, &reply, &status),
	     path);
	if (status.code != GRPC_OK) {
		fprintf(stderr, "%s: %s\n", path, status.message);
		exit(1);
	}
	return reply;
}

const Biomatch__V1__IdentifyResponse *remote_identify(struct biomatch_client *client,
						      const char *purpose, uint32_t max_candidates,
						      Biomatch__V1__Template *probe,
						      struct arena *arena)
{
	Biomatch__V1__Probe of = BIOMATCH__V1__PROBE__INIT;
	Biomatch__V1__IdentifyRequest request = BIOMATCH__V1__IDENTIFY_REQUEST__INIT;
	char *gallery = (char *)(uintptr_t) "bench";

	of.kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	of.template_ = probe;
	request.purpose = (char *)(uintptr_t)purpose;
	request.galleries = &gallery;
	request.n_galleries = 1;
	request.max_candidates = max_candidates;
	request.probe = &of;
	return (const void *)remote_ask(client, "/biomatch.v1.MatchingService/Identify",
					&request.base, &biomatch__v1__identify_response__descriptor,
					arena);
}

void remote_template(const struct remote *remote, const float *v, struct arena *arena,
		     Biomatch__V1__Template *out)
{
	struct bytes plain = {(const uint8_t *)v, remote->pack->dim * sizeof(float)};
	struct bytes pack = {remote->pack->digest, PACK_SHA256_LEN};

	biomatch__v1__template__init(out);
	out->model = (char *)(uintptr_t)remote->pack->model;
	out->data.len = plain.len + KEYS_SEAL_OVERHEAD;
	out->data.data = arena_alloc(arena, out->data.len);
	must(out->data.data ? keys_seal(remote->keys, KEYS_TEMPLATE, pack, plain, out->data.data)
			    : BM_ENOMEM,
	     "template");
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double quantile(double *v, size_t n, double q)
{
	qsort(v, n, sizeof(*v), by_size);
	return n ? v[(size_t)(q * (double)(n - 1))] : NAN;
}
