/*
 * The service without sockets: a real store, real face workers, a policy, and
 * calls made as the transport makes them.
 */
#ifndef TESTS_LOOPBACK_H
#define TESTS_LOOPBACK_H

#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "biomatch/clock.h"
#include "biomatch/file.h"
#include "biomatch/log.h"
#include "biomatch/score.h"
#include "biomatch/service.h"
#include "biomatch/wire.h"

#define LOOPBACK_LANE  "biomatch://test/gate-hall/lane/1"
#define LOOPBACK_ADMIN "biomatch://test/office/admin/1"

struct loopback {
	char dir[64];
	struct pack *pack;
	struct keys *keys;
	struct db *db;
	struct gallery_store *store;
	struct writer *writer;
	struct standby *standby;
	struct metrics *metrics;
	struct service *service;
};

/* One call and what came back. */
struct exchange {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct service_call *call;
	unsigned messages;
	uint8_t *data; /* the last message */
	size_t len;
	bool finished, gone; /* gone: the client left */
	enum grpc_status status;
	char text[512];
	struct arena arena;
	const char *reason, *field;
};

static const char loopback_policy[] =
	"version: test-1\n"
	"deployment: test\n"
	"purposes:\n"
	"  - name: gate\n"
	"    legal_basis: test\n"
	"    classes: [lane]\n"
	"    operations: [verify, compare, identify, enrol, read, delete, analyse, extract]\n"
	"    galleries: [people, others]\n"
	"    target_fmr: 0.001\n"
	"    target_fpir: 0.1\n"
	"    gallery_size: 100\n"
	"    max_candidates: 5\n"
	"    raw_scores: true\n"
	"    priority: lane\n"
	"  - name: coarse\n"
	"    legal_basis: test\n"
	"    classes: [lane]\n"
	"    operations: [verify]\n"
	"    galleries: [people]\n"
	"    target_fmr: 0.001\n"
	"    priority: lane\n"
	"  - name: limited\n"
	"    legal_basis: test\n"
	"    classes: [lane]\n"
	"    operations: [verify]\n"
	"    galleries: [people]\n"
	"    target_fmr: 0.001\n"
	"    attempts: {limit: 5, window: 1h}\n"
	"    priority: lane\n"
	"  - name: attended\n"
	"    legal_basis: test\n"
	"    classes: [lane]\n"
	"    operations: [verify, compare]\n"
	"    galleries: [people]\n"
	"    target_fmr: 0.0001\n"
	"    refer_fmr: 0.01\n"
	"    attempts: {limit: 5, window: 1h}\n"
	"    raw_scores: true\n"
	"    priority: lane\n"
	"  - name: visit\n"
	"    legal_basis: test\n"
	"    classes: [lane]\n"
	"    operations: [enrol]\n"
	"    galleries: [people]\n"
	"    retention: 1h\n"
	"    priority: lane\n"
	"  - name: office\n"
	"    legal_basis: test\n"
	"    classes: [admin]\n"
	"    operations: [admin, audit, read]\n"
	"    galleries: [\"*\"]\n"
	"    priority: bulk\n";

static void loopback_path(const struct loopback *l, const char *name, char out[128])
{
	snprintf(out, 128, "%s/%s", l->dir, name);
}

static void loopback_policy_write(const struct loopback *l)
{
	char path[128];

	loopback_path(l, "policy.yaml", path);
	assert_int_equal(file_write_new(path, loopback_policy, strlen(loopback_policy), 0600), 0);
}

static struct policy *loopback_policy_open(const struct loopback *l)
{
	char path[128], message[POLICY_MESSAGE_LEN] = "";
	struct policy *policy;

	loopback_path(l, "policy.yaml", path);
	if (policy_open(path, l->pack, &policy, message))
		fail_msg("%s", message);
	return policy;
}

static void loopback_store_open(struct loopback *l)
{
	static const struct writer_options writer = {
		.capacity = 64,
		.max_group = 16,
		.changes = {.age_ms = INT64_MAX, .entries = 1000000}};
	char path[128], message[256] = "";

	loopback_path(l, "store", path);
	if (db_open(path, UINT64_C(1) << 30, 64, &l->db, message))
		fail_msg("%s", message);
	assert_int_equal(gallery_store_open(l->db, l->keys, l->pack, &l->store), 0);
	assert_int_equal(writer_open(l->db, l->store, l->keys, &writer, &l->writer), 0);
	assert_int_equal(standby_open(&(struct standby_options){.db = l->db}, &l->standby, message),
			 0);
}

static void loopback_service_open(struct loopback *l, size_t queue)
{
	struct service_options options = {
		.db = l->db,
		.store = l->store,
		.writer = l->writer,
		.standby = l->standby,
		.keys = l->keys,
		.pack = l->pack,
		.policy = loopback_policy_open(l),
		.metrics = l->metrics,
		.worker = {.program = BUILD_DIR "/biomatch-face",
			   .pack_dir = "build/packs/faceplugin-0.0.1",
			   .start_ms = 60000,
			   .run_ms = 20000,
			   .max_memory = UINT64_C(4) << 30,
			   .max_resident = UINT64_C(1) << 30},
		.face_threads = 1,
		.read_threads = 1,
		.scan_threads = 1,
		.queue = queue,
		.wait_ms = 600000,
		.checkpoint_ms = 600000,
		.reflection = true,
		.version = BIOMATCH_VERSION,
	};

	assert_int_equal(service_open(&options, &l->service), 0);
}

static int loopback_setup(void **state)
{
	struct loopback *l = calloc(1, sizeof(*l));
	char path[128], message[PACK_MESSAGE_LEN] = "";
	uint8_t key[KEYS_MASTER_LEN];

	log_set_level(LOG_LEVEL_ERROR);
	assert_non_null(l);
	strcpy(l->dir, "/tmp/biomatch-loopback-XXXXXX");
	assert_non_null(mkdtemp(l->dir));
	memset(key, 7, sizeof(key));
	loopback_path(l, "store.key", path);
	assert_int_equal(file_write_new(path, key, sizeof(key), 0600), 0);
	assert_int_equal(keys_open(path, &l->keys), 0);
	assert_int_equal(keys_open_signing(l->keys, path), 0);
	loopback_path(l, "store", path);
	assert_int_equal(mkdir(path, 0700), 0);
	if (pack_open("build/packs/faceplugin-0.0.1", false, &l->pack, message))
		fail_msg("%s", message);
	loopback_policy_write(l);
	loopback_store_open(l);
	assert_int_equal(metrics_open(&l->metrics), 0);
	loopback_service_open(l, 64);
	*state = l;
	return 0;
}

static int loopback_teardown(void **state)
{
	struct loopback *l = *state;
	char command[128];

	service_close(l->service);
	metrics_close(l->metrics);
	standby_close(l->standby);
	writer_close(l->writer);
	gallery_store_close(l->store);
	db_close(l->db);
	pack_close(l->pack);
	keys_close(l->keys);
	snprintf(command, sizeof(command), "rm -r %s", l->dir);
	assert_int_equal(system(command), 0);
	free(l);
	return 0;
}

static void exchange_send(void *ctx, uint8_t *data, size_t len)
{
	struct exchange *x = ctx;

	pthread_mutex_lock(&x->lock);
	free(x->data);
	x->data = data;
	x->len = len;
	x->messages++;
	pthread_cond_broadcast(&x->changed);
	pthread_mutex_unlock(&x->lock);
}

static void exchange_finish(void *ctx, enum grpc_status status, const char *text,
			    struct bytes details)
{
	struct exchange *x = ctx;
	struct wire_told told = {0};

	pthread_mutex_lock(&x->lock);
	assert_false(x->finished);
	x->finished = true;
	x->status = status;
	snprintf(x->text, sizeof(x->text), "%s", text ? text : "");
	if (details.len) {
		assert_int_equal(wire_unpack_error(details, &x->arena, &told), 0);
		assert_string_equal(told.message, x->text);
		x->reason = told.reason;
		x->field = told.field;
	}
	pthread_cond_broadcast(&x->changed);
	pthread_mutex_unlock(&x->lock);
}

static bool exchange_cancelled(void *ctx)
{
	struct exchange *x = ctx;
	bool gone;

	pthread_mutex_lock(&x->lock);
	gone = x->gone;
	pthread_mutex_unlock(&x->lock);
	return gone;
}

static void exchange_open(struct loopback *l, struct exchange *x, const char *path,
			  const char *peer, int64_t deadline_ns)
{
	struct service_peer from = {.uri = peer, .traceparent = "", .deadline_ns = deadline_ns};
	struct service_sink sink = {x, exchange_send, exchange_finish, exchange_cancelled};

	memset(x, 0, sizeof(*x));
	pthread_mutex_init(&x->lock, NULL);
	pthread_cond_init(&x->changed, NULL);
	arena_init(&x->arena, 1 << 20);
	x->reason = x->field = "";
	if (service_call_open(l->service, path, &from, &sink, &x->call))
		x->call = NULL;
}

static void exchange_message(struct exchange *x, const ProtobufCMessage *message)
{
	uint8_t *data;
	size_t len;

	assert_int_equal(wire_pack(message, &data, &len), 0);
	service_call_message(x->call, data, len);
}

static void exchange_wait_finished(struct exchange *x)
{
	pthread_mutex_lock(&x->lock);
	while (!x->finished)
		pthread_cond_wait(&x->changed, &x->lock);
	pthread_mutex_unlock(&x->lock);
}

static void exchange_close(struct exchange *x)
{
	service_call_release(x->call);
	free(x->data);
	arena_deinit(&x->arena);
	pthread_cond_destroy(&x->changed);
	pthread_mutex_destroy(&x->lock);
}

/* A unary call from a lane; the reply is unpacked into the exchange's arena. */
static void *exchange_call(struct loopback *l, struct exchange *x, const char *path,
			   const char *peer, const ProtobufCMessage *request,
			   const ProtobufCMessageDescriptor *reply_type)
{
	ProtobufCMessage *reply = NULL;

	exchange_open(l, x, path, peer, CLOCK_FOREVER);
	assert_non_null(x->call);
	exchange_message(x, request);
	service_call_half_close(x->call);
	exchange_wait_finished(x);
	if (x->status == GRPC_OK)
		assert_int_equal(
			wire_unpack(reply_type, &x->arena, (struct bytes){x->data, x->len}, &reply),
			0);
	return reply;
}

#endif
