/* Joins a call of the transport to a call of the service. */
#include <stdlib.h>

#include "daemon.h"

/*
 * Made in open, freed in close: the transport's last callback, which comes after
 * the service has finished.
 */
struct joint {
	struct net_call *net;
	struct service_call *call;
};

static void send_message(void *ctx, uint8_t *data, size_t len)
{
	net_call_send(((struct joint *)ctx)->net, data, len);
}

static void finish(void *ctx, enum grpc_status status, const char *message, struct bytes details)
{
	const struct net_status end = {.code = status, .message = message, .details = details};

	net_call_finish(((struct joint *)ctx)->net, &end);
}

static bool cancelled(void *ctx)
{
	return net_call_cancelled(((struct joint *)ctx)->net);
}

static void note_connection(void *ctx, const struct net_peer *peer, bool began)
{
	struct policy_endpoint endpoint;

	if (!policy_endpoint_parse(peer->uri, &endpoint))
		metrics_move(((const struct transport *)ctx)->metrics, METRICS_ESTATE_CONNECTIONS,
			     (const char *[]){endpoint.site, endpoint.class}, began ? 1 : -1);
}

static int open_call(void *ctx, struct net_call *net, const char *path, size_t *max_message,
		     void **state)
{
	struct joint *joint = malloc(sizeof(*joint));
	const struct service_sink sink = {joint, send_message, finish, cancelled};
	const struct service_peer peer = {
		.uri = net_call_peer(net)->uri,
		.traceparent = net_call_traceparent(net),
		.deadline_ns = net_call_deadline(net),
	};
	const struct transport *transport = ctx;
	int error;

	(void)max_message;
	if (!joint)
		return BM_ENOMEM;
	joint->net = net;
	error = service_call_open(transport->service, path, &peer, &sink, &joint->call);
	if (error)
		free(joint);
	else
		*state = joint;
	return error;
}

static void take_message(void *ctx, void *state, uint8_t *data, size_t len)
{
	(void)ctx;
	service_call_message(((struct joint *)state)->call, data, len);
}

static void half_close(void *ctx, void *state)
{
	(void)ctx;
	service_call_half_close(((struct joint *)state)->call);
}

static void sent(void *ctx, void *state)
{
	(void)ctx;
	service_call_sent(((struct joint *)state)->call);
}

static void cancel(void *ctx, void *state)
{
	(void)ctx;
	service_call_cancel(((struct joint *)state)->call);
}

static void close_call(void *ctx, void *state)
{
	struct joint *joint = state;

	(void)ctx;
	service_call_release(joint->call);
	free(joint);
}

struct net_handler transport_handler(struct transport *transport)
{
	return (struct net_handler){
		.ctx = transport,
		.connection = note_connection,
		.open = open_call,
		.message = take_message,
		.half_close = half_close,
		.sent = sent,
		.cancel = cancel,
		.close = close_call,
	};
}
