/*
 * The composition root: what the daemon is made of, opened in the order in which
 * the parts need each other and closed in the reverse.
 *
 * Thread: all of it on the main thread.
 * Errors: BM_E* with one line for people in the message.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "biomatch/conf.h"
#include "biomatch/error.h"
#include "biomatch/net.h"
#include "biomatch/service.h"

#define DAEMON_MESSAGE_LEN 512

struct daemon;

/* Opens every part; on return calls are served. listen NULL for the configuration's. */
int daemon_open(const struct conf *conf, const char *listen, struct daemon **out,
		char message[DAEMON_MESSAGE_LEN]) BM_MUST_CHECK;
/* Lets calls finish for as long as the configuration says, then closes every part. */
void daemon_close(struct daemon *daemon);

uint16_t daemon_port(const struct daemon *daemon);
/*
 * Reads policy, certificates and the configuration's store.map_size and log.level again; each
 * that is not good is logged and not taken.
 */
void daemon_reload(struct daemon *daemon, const char *config);
/* Every second. False while a part hangs: the watchdog is not to be told then. */
bool daemon_tick(struct daemon *daemon);

/* Checks what daemon_open would read, without opening the store or the address. */
int daemon_check(const struct conf *conf, char message[DAEMON_MESSAGE_LEN]) BM_MUST_CHECK;

/* What the transport's callbacks need; the service until its last call, the metrics until the end.
 */
struct transport {
	struct service *service;
	struct metrics *metrics;
};

/* The transport's callbacks, which hand calls to the service and count connections. */
struct net_handler transport_handler(struct transport *transport);

#endif
