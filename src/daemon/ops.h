/*
 * The pages of the operators' port: metrics, liveness, readiness, the live page.
 *
 * Thread: opened on the main thread, rendered on the console's.
 */
#ifndef DAEMON_OPS_H
#define DAEMON_OPS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "biomatch/console.h"
#include "biomatch/metrics.h"
#include "biomatch/net.h"
#include "biomatch/service.h"
#include "page.h"

/* Pages that are rendered: metrics, liveness and readiness. */
#define OPS_FACTS 3

/* The parts that the pages look at; borrowed until the console is closed. */
struct ops {
	struct db *db;
	struct gallery_store *store;
	struct writer *writer;
	struct standby *standby;
	struct service *service;
	struct net_server *net;
	struct metrics *metrics;
	const struct pack *pack;
	int64_t started_ms;
	/* Set by the main thread: the file there is now was not taken, the one before it is in use.
	 */
	atomic_bool policy_refused, certificates_refused, documents_refused;
	struct console_page pages[OPS_FACTS + PAGE_FILES];
};

/* The parts whose threads are watched. */
#define OPS_PARTS 6

struct ops_part {
	const char *name, *reason; /* reason: what readiness says where it hangs */
	uint32_t late_ms;          /* of its slowest thread; see pulse.h */
};

void ops_look(const struct ops *ops, struct ops_part parts[OPS_PARTS]);
/* Whether the part hangs, so that nothing but a new process will help. */
bool ops_part_hangs(const struct ops_part *part);

int ops_open(struct ops *ops, const char *listen, struct console **out,
	     char message[256]) BM_MUST_CHECK;

/* scrape.c: the page of metrics. Gives the HTTP status. */
int ops_render_metrics(void *ctx, FILE *out);

#endif
