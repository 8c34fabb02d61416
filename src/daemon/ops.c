#include "ops.h"

/* What keeps the daemon from doing all of its work, by the names that health's alerts use. */
static size_t not_ready(const struct ops *ops, const char *reasons[6])
{
	int behind = standby_may_read(ops->standby);
	struct service_stat service;
	struct net_stat net;
	size_t n = 0;

	service_stat(ops->service, &service);
	net_server_stat(ops->net, &net);
	if (service.draining)
		reasons[n++] = "SHUTTING_DOWN";
	if (!service.faces_work)
		reasons[n++] = "NO_FACE_WORKER";
	if (!service.writes_work)
		reasons[n++] = "STORE_READ_ONLY";
	/* STANDBY_STALE or SUPERSEDED; a standby in step is ready, for reads. */
	if (behind)
		reasons[n++] = bm_error_reason(behind);
	if (net.stalled_ms >= OPS_STALLED_MS)
		reasons[n++] = "NETWORK_STALLED";
	return n;
}

static int render_ready(void *ctx, FILE *out)
{
	const char *reasons[6];
	size_t n = not_ready(ctx, reasons);

	fprintf(out, "{\"ready\":%s,\"reasons\":[", n ? "false" : "true");
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s\"%s\"", i ? "," : "", reasons[i]);
	fputs("]}\n", out);
	return n ? 503 : 200;
}

/* That it is answered at all is the message. */
static int render_health(void *ctx, FILE *out)
{
	(void)ctx;
	fputs("{\"alive\":true,\"version\":\"" BIOMATCH_VERSION "\"}\n", out);
	return 200;
}

int ops_open(struct ops *ops, const char *listen, struct console **out, char message[256])
{
	static const struct console_page pages[] = {
		{"/metrics", "text/plain; version=0.0.4; charset=utf-8", ops_render_metrics},
		{"/healthz", "application/json", render_health},
		{"/readyz", "application/json", render_ready},
	};
	const struct console_options options = {
		.listen = listen,
		.pages = pages,
		.n_pages = sizeof(pages) / sizeof(pages[0]),
		.ctx = ops,
	};

	return console_open(&options, out, message);
}
