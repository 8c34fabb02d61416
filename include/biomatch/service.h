/*
 * The RPCs: a table of paths, and a call that moves from thread to thread by
 * pointer. The transport is whoever opens calls; in the daemon that is net, in
 * the loopback tests the test.
 *
 * Thread: call_open, _message, _half_close and _cancel from one thread per call;
 * the sink's functions are called from any thread.
 * Owns: a call has two owners. The service lets go of it by calling
 * sink->finish, exactly once for every call opened; the transport by
 * service_call_release, after which it makes no further call on it.
 */
#ifndef BIOMATCH_SERVICE_H
#define BIOMATCH_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/batch.h"
#include "biomatch/bytes.h"
#include "biomatch/db.h"
#include "biomatch/error.h"
#include "biomatch/faceworker.h"
#include "biomatch/gallery.h"
#include "biomatch/keys.h"
#include "biomatch/metrics.h"
#include "biomatch/pack.h"
#include "biomatch/passive.h"
#include "biomatch/policy.h"
#include "biomatch/standby.h"
#include "biomatch/writer.h"

struct service;
struct service_call;

/* What was read again, and whether it was taken; else why not. */
struct service_reloaded {
	const char *part;
	bool taken;
	char message[512];
};
#define SERVICE_RELOADED_MAX 8

struct service_options {
	struct db *db;
	struct gallery_store *store;
	struct writer *writer;
	struct standby *standby; /* the daemon's part: whether it leads */
	const struct keys *keys;
	const struct pack *pack;
	struct policy *policy;       /* becomes the service's */
	struct passive_trust *trust; /* becomes the service's; NULL for none */
	struct metrics *metrics;
	struct faceworker_options worker;
	unsigned face_threads, read_threads, scan_threads;
	size_t queue;     /* calls waiting in each pool */
	uint32_t wait_ms; /* the longest that one with a person may be expected to wait there */
	uint32_t checkpoint_ms; /* from one signed entry of the audit log to the next */
	bool reflection;
	const char *version;
	/*
	 * Has everything read again by whoever may, and waits until that is done or nobody
	 * waits any more (BM_ECANCELLED); from any thread.
	 */
	int (*reload)(void *ctx, bool (*stop)(void *), void *stop_ctx,
		      struct service_reloaded out[SERVICE_RELOADED_MAX], size_t *n);
	void *reload_ctx;
};

/* How answers go back. */
struct service_sink {
	void *ctx;
	/* One reply message; data is malloc'ed and becomes the sink's. */
	void (*send)(void *ctx, uint8_t *data, size_t len);
	/* The end; details is a packed google.rpc.Status or empty, borrowed. */
	void (*finish)(void *ctx, enum grpc_status status, const char *message,
		       struct bytes details);
	/* True once nobody waits. */
	bool (*cancelled)(void *ctx);
};

/* Facts of a call, copied by open. */
struct service_peer {
	const char *uri;
	const char *traceparent;
	int64_t deadline_ns; /* monotonic, CLOCK_FOREVER for none */
};

int service_open(const struct service_options *options, struct service **out) BM_MUST_CHECK;
/* Health answers NOT_SERVING from here on, and its watchers are told and ended. */
void service_drain(struct service *service);
/*
 * Looks at what health depends on and tells the watchers of a change, and has
 * the audit log signed when that is due; every second, from one thread.
 */
void service_tick(struct service *service);
/* Waits for the calls that are open and ends the pools. */
void service_close(struct service *service);

/* Takes a new policy for calls opened from here on. */
void service_set_policy(struct service *service, struct policy *policy);

/* Takes other CSCA certificates and lists for documents checked from here on. */
void service_set_trust(struct service *service, struct passive_trust *trust);

struct service_stat {
	struct batch_stat face, read, scan;
	unsigned calls_open;
	bool draining, faces_work, writes_work; /* what health depends on */
	unsigned followers;                     /* streams of changes under way */
	uint32_t changes_late_ms;               /* the thread that feeds them; see pulse.h */
};
void service_stat(struct service *service, struct service_stat *out);

/* BM_EUNIMPL when the path is no RPC, BM_ENOMEM. */
int service_call_open(struct service *service, const char *path, const struct service_peer *peer,
		      const struct service_sink *sink, struct service_call **out) BM_MUST_CHECK;
/* One request message; data is malloc'ed and becomes the service's. */
void service_call_message(struct service_call *call, uint8_t *data, size_t len);
void service_call_half_close(struct service_call *call);
/* The caller has taken all that was sent; a stream goes on then. */
void service_call_sent(struct service_call *call);
/* Nobody waits any more; the sink's finish is still called. */
void service_call_cancel(struct service_call *call);
/* The transport's last touch; may come before or after the sink's finish. */
void service_call_release(struct service_call *call);

#endif
