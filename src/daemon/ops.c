#include "ops.h"

#include <string.h>

#include "biomatch/pulse.h"

void ops_look(const struct ops *ops, struct ops_part parts[OPS_PARTS])
{
	struct service_stat service;
	struct writer_stat writer;
	struct net_stat net;

	service_stat(ops->service, &service);
	writer_stat(ops->writer, &writer);
	net_server_stat(ops->net, &net);
	parts[0] = (struct ops_part){"network", "NETWORK_STALLED", net.late_ms};
	parts[1] = (struct ops_part){"face", "FACE_STALLED", service.face.late_ms};
	parts[2] = (struct ops_part){"read", "READ_STALLED", service.read.late_ms};
	parts[3] = (struct ops_part){"scan", "SCAN_STALLED", service.scan.late_ms};
	parts[4] = (struct ops_part){"writer", "WRITER_STALLED", writer.late_ms};
	parts[5] = (struct ops_part){"changes", "CHANGES_STALLED", service.changes_late_ms};
}

bool ops_part_hangs(const struct ops_part *part)
{
	return part->late_ms >= PULSE_HANGS_MS;
}

#define MAX_REASONS (OPS_PARTS + 4)

/* What keeps the daemon from doing all of its work, by the names that health's alerts use. */
static size_t not_ready(const struct ops *ops, const char *reasons[MAX_REASONS])
{
	struct ops_part parts[OPS_PARTS];
	int behind = standby_may_read(ops->standby);
	struct service_stat service;
	size_t n = 0;

	service_stat(ops->service, &service);
	ops_look(ops, parts);
	if (service.draining)
		reasons[n++] = "SHUTTING_DOWN";
	if (!service.faces_work)
		reasons[n++] = "NO_FACE_WORKER";
	if (!service.writes_work)
		reasons[n++] = "STORE_READ_ONLY";
	/* STANDBY_STALE or SUPERSEDED; a standby in step is ready, for reads. */
	if (behind)
		reasons[n++] = bm_error_reason(behind);
	for (size_t i = 0; i < OPS_PARTS; i++) {
		if (ops_part_hangs(&parts[i]))
			reasons[n++] = parts[i].reason;
	}
	return n;
}

static int render_ready(void *ctx, FILE *out)
{
	const char *reasons[MAX_REASONS];
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

static const struct console_page facts[OPS_FACTS] = {
	{.path = "/metrics",
	 .type = "text/plain; version=0.0.4; charset=utf-8",
	 .render = ops_render_metrics},
	{.path = "/healthz", .type = "application/json", .render = render_health},
	{.path = "/readyz", .type = "application/json", .render = render_ready},
};

int ops_open(struct ops *ops, const char *listen, struct console **out, char message[256])
{
	const struct console_options options = {
		.listen = listen,
		.pages = ops->pages,
		.n_pages = OPS_FACTS + PAGE_FILES,
		.ctx = ops,
	};

	memcpy(ops->pages, facts, sizeof(facts));
	page_list(ops->pages + OPS_FACTS);
	return console_open(&options, out, message);
}
