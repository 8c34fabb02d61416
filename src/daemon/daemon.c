#include "daemon.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/db.h"
#include "biomatch/gallery.h"
#include "biomatch/keys.h"
#include "biomatch/log.h"
#include "biomatch/pack.h"
#include "biomatch/policy.h"
#include "biomatch/score.h"
#include "biomatch/standby.h"
#include "biomatch/writer.h"
#include "ops.h"

_Static_assert(POLICY_MAX_CANDIDATES == GALLERY_MAX_CANDIDATES,
	       "a policy may allow what a search can");
_Static_assert(POLICY_MESSAGE_LEN <= DAEMON_MESSAGE_LEN && PACK_MESSAGE_LEN <= DAEMON_MESSAGE_LEN,
	       "messages are handed through");

/* Ticks from a refused file of revocation lists to the next try. */
#define CRL_RETRY 30

/* Readers of the database beside the pools': fsck, backup, what is still ending. */
#define SPARE_READERS 32

/* What tells one content of a file from the next; zero for a file that is not there. */
struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

/* From one look at whether a call that waits for a reload is still wanted to the next. */
#define LOOK_NS 100000000

struct daemon {
	const struct conf *conf;
	struct keys *keys;
	struct pack *pack;
	struct policy *policy;       /* until it is the service's */
	struct passive_trust *trust; /* until it is the service's; NULL for none */
	struct db *db;
	struct gallery_store *store;
	struct writer *writer;
	struct standby *standby;
	struct service *service;
	struct transport transport;
	struct net_server *net;
	struct net_options net_options;
	struct metrics *metrics;
	struct ops ops; /* what the console's pages look at */
	struct console *console;
	unsigned hanging;          /* parts that hung at the last tick, a bit each */
	struct stamp crl;          /* of the revocation lists that were read last */
	unsigned crl_retry;        /* ticks until a refused file is tried again; 0 for none */
	struct stamp documents[2]; /* of the CSCA certificates and the lists that were read last */
	struct reloads {
		pthread_mutex_t lock;
		pthread_cond_t done;
		uint64_t asked,
			made; /* numbers: a wish is met by the first one that begins after it */
		struct service_reloaded parts[SERVICE_RELOADED_MAX];
		size_t n;
	} reloads;
};

/* Main's, until the end of daemon_reload. */
static void tell_reloaded(struct daemon *daemon, const char *part, int error, const char *message)
{
	struct service_reloaded *out = &daemon->reloads.parts[daemon->reloads.n++];

	assert(daemon->reloads.n <= SERVICE_RELOADED_MAX);
	*out = (struct service_reloaded){.part = part, .taken = !error};
	if (error)
		snprintf(out->message, sizeof(out->message), "%s",
			 *message ? message : bm_error_text(error));
}

/* Puts what failed in front of the error's own text. */
static int fail(char message[DAEMON_MESSAGE_LEN], int error, const char *what)
{
	snprintf(message, DAEMON_MESSAGE_LEN, "%s: %s", what, bm_error_text(error));
	return error;
}

static int fail_key(char message[DAEMON_MESSAGE_LEN], int error, const char *path, const char *key)
{
	if (error == BM_EKEY)
		snprintf(message, DAEMON_MESSAGE_LEN,
			 "%s: the %s key must be a file of %d bytes%s that only its owner can read",
			 path, key, KEYS_MASTER_LEN,
			 strcmp(key, "store") ? "" : " for each generation");
	return error && error != BM_EKEY ? fail(message, error, path) : error;
}

static int open_keys(const struct conf *conf, struct keys **out, char message[DAEMON_MESSAGE_LEN])
{
	int error = keys_open(conf->store.key, out);

	if (error)
		return fail_key(message, error, conf->store.key, "store");
	return fail_key(message, keys_open_signing(*out, conf->audit.key), conf->audit.key,
			"audit");
}

_Static_assert(KEYS_MASTER_LEN == KEYS_SIGNING_LEN, "one message serves both keys");

static struct stamp stamp_of(const char *path)
{
	struct stamp stamp;
	struct stat st;

	memset(&stamp, 0, sizeof(stamp));
	if (path && !stat(path, &st)) {
		stamp.dev = st.st_dev;
		stamp.ino = st.st_ino;
		stamp.size = st.st_size;
		stamp.changed = st.st_ctim;
	}
	return stamp;
}

/* *out is NULL where none is configured. */
static int open_trust(struct daemon *d, struct passive_trust **out,
		      char message[DAEMON_MESSAGE_LEN])
{
	const struct conf *conf = d->conf;

	*out = NULL;
	/* Before they are read: a change meanwhile is then seen by the next tick. */
	d->documents[0] = stamp_of(conf->documents.csca);
	d->documents[1] = stamp_of(conf->documents.crl);
	if (!conf->documents.csca)
		return 0;
	return passive_open(conf->documents.csca, conf->documents.crl, out, message);
}

/* What is read and never written, as --check-config reads it too. */
static int open_inputs(struct daemon *d, bool verify_pack, char message[DAEMON_MESSAGE_LEN])
{
	const struct conf *conf = d->conf;
	int error = score_init(conf->match.kernel);

	if (error) {
		snprintf(message, DAEMON_MESSAGE_LEN,
			 "match.kernel: this machine cannot run \"%s\"", conf->match.kernel);
		return error;
	}
	error = open_keys(conf, &d->keys, message);
	if (!error)
		error = pack_open(conf->face.pack, verify_pack, &d->pack, message);
	if (!error)
		error = policy_open(conf->policy.file, d->pack, &d->policy, message);
	if (!error)
		error = open_trust(d, &d->trust, message);
	return error;
}

static int open_store(struct daemon *d, char message[DAEMON_MESSAGE_LEN])
{
	const struct conf *conf = d->conf;
	const struct writer_options options = {
		.capacity = conf->store.queue,
		.max_group = conf->store.max_group,
		.changes = {.age_ms = conf->changes.age, .entries = conf->changes.entries},
	};
	char reason[256] = "";
	int error = db_open(conf->store.path, conf->store.map_size,
			    conf->match.readers + 2 * conf->match.scanners + SPARE_READERS, &d->db,
			    reason);

	if (error) {
		snprintf(message, DAEMON_MESSAGE_LEN, "%s",
			 *reason ? reason : bm_error_text(error));
		return error;
	}
	/* A daemon that was killed may have erased without getting to it. */
	db_want_scrub(d->db);
	error = gallery_store_open(d->db, d->keys, d->pack, &d->store);
	if (!error)
		gallery_store_set_following(d->store, conf->follow.leader != NULL);
	if (!error)
		error = writer_open(d->db, d->store, d->keys, &options, &d->writer);
	return error ? fail(message, error, conf->store.path) : 0;
}

/* Long enough for a handshake; a leader that is not there is tried again and again. */
#define FOLLOW_CONNECT_MS 3000

static int open_standby(struct daemon *d, char message[DAEMON_MESSAGE_LEN])
{
	const struct conf *conf = d->conf;
	const struct standby_options options = {
		.db = d->db,
		.writer = d->writer,
		.keys = d->keys,
		.leader =
			{
				.target = conf->follow.leader,
				.certificate = conf->follow.certificate,
				.private_key = conf->follow.private_key,
				.ca = conf->follow.ca,
				.server_name = conf->follow.server_name,
				.connect_ms = FOLLOW_CONNECT_MS,
			},
		.purpose = conf->follow.purpose,
		.max_age_ms = conf->follow.max_age,
	};
	char reason[BIOMATCH_MESSAGE_MAX] = "";
	int error = standby_open(&options, &d->standby, reason);

	if (error)
		snprintf(message, DAEMON_MESSAGE_LEN, "follow: %s",
			 *reason ? reason : bm_error_text(error));
	return error;
}

/* A call's wish for a reload, which is main's to make, as if somebody had sent the signal. */
static int ask_reload(void *ctx, bool (*stop)(void *), void *stop_ctx,
		      struct service_reloaded out[SERVICE_RELOADED_MAX], size_t *n)
{
	struct reloads *reloads = &((struct daemon *)ctx)->reloads;
	uint64_t wish;

	pthread_mutex_lock(&reloads->lock);
	wish = ++reloads->asked;
	pthread_mutex_unlock(&reloads->lock);
	if (kill(getpid(), SIGHUP))
		return BM_EINTERNAL;
	pthread_mutex_lock(&reloads->lock);
	while (reloads->made < wish && !stop(stop_ctx)) {
		struct timespec soon;

		clock_gettime(CLOCK_MONOTONIC, &soon);
		soon.tv_nsec += LOOK_NS;
		soon.tv_sec += soon.tv_nsec / 1000000000;
		soon.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&reloads->done, &reloads->lock, &soon);
	}
	*n = reloads->made < wish ? 0 : reloads->n;
	memcpy(out, reloads->parts, *n * sizeof(*out));
	pthread_mutex_unlock(&reloads->lock);
	return *n ? 0 : BM_ECANCELLED;
}

static int open_service(struct daemon *d, char message[DAEMON_MESSAGE_LEN])
{
	const struct conf *conf = d->conf;
	const struct service_options options = {
		.db = d->db,
		.store = d->store,
		.writer = d->writer,
		.standby = d->standby,
		.keys = d->keys,
		.pack = d->pack,
		.policy = d->policy,
		.trust = d->trust,
		.metrics = d->metrics,
		.worker =
			{
				.program = conf->face.program,
				.pack_dir = conf->face.pack,
				.start_ms = conf->face.start,
				.run_ms = conf->face.run,
				.max_memory = conf->face.max_memory,
				.max_resident = conf->face.max_resident,
			},
		.face_threads = conf->face.workers,
		.read_threads = conf->match.readers,
		.scan_threads = conf->match.scanners,
		.queue = conf->server.queue,
		.wait_ms = conf->server.wait,
		.checkpoint_ms = conf->audit.checkpoint,
		.reflection = conf->server.reflection,
		.version = BIOMATCH_VERSION,
		.reload = ask_reload,
		.reload_ctx = d,
	};
	int error = service_open(&options, &d->service);

	if (error)
		return fail(message, error, "the face workers did not start");
	d->policy = NULL;
	d->trust = NULL;
	return 0;
}

static struct net_options net_options_of(const struct conf *conf, const char *listen)
{
	return (struct net_options){
		.listen = listen ? listen : conf->server.listen,
		.certificate = conf->server.certificate,
		.private_key = conf->server.private_key,
		.client_ca = conf->server.client_ca,
		.crl = conf->server.crl,
		.threads = conf->server.threads,
		.max_connections = conf->server.max_connections,
		.max_streams = conf->server.max_streams,
		.max_message = conf->server.max_message,
		.max_connection_bytes = conf->server.max_connection_bytes,
		.max_total_bytes = conf->server.max_total_bytes,
		.connection_share = conf->server.connection_share,
		.handshake_ms = conf->server.handshake,
		.idle_ms = conf->server.idle,
		.request_ms = conf->server.request,
		.stall_ms = conf->server.stall,
	};
}

static int open_net(struct daemon *d, const char *listen, char message[DAEMON_MESSAGE_LEN])
{
	const struct net_handler handler = transport_handler(&d->transport);
	char reason[256] = "";
	int error;

	d->transport = (struct transport){.service = d->service, .metrics = d->metrics};
	d->net_options = net_options_of(d->conf, listen);
	d->crl = stamp_of(d->conf->server.crl);
	error = net_server_open(&d->net_options, &handler, &d->net, reason);
	if (error)
		snprintf(message, DAEMON_MESSAGE_LEN, "%s",
			 *reason ? reason : bm_error_text(error));
	return error;
}

static int open_console(struct daemon *d, char message[DAEMON_MESSAGE_LEN])
{
	char reason[256] = "";
	int error;

	d->ops = (struct ops){
		.db = d->db,
		.store = d->store,
		.writer = d->writer,
		.standby = d->standby,
		.service = d->service,
		.net = d->net,
		.metrics = d->metrics,
		.pack = d->pack,
		.started_ms = clock_wall_ms(),
	};
	error = ops_open(&d->ops, d->conf->ops.listen, &d->console, reason);
	if (error)
		snprintf(message, DAEMON_MESSAGE_LEN, "ops.listen: %s",
			 *reason ? reason : bm_error_text(error));
	return error;
}

/* Closes what is open, calls being over. */
static void close_parts(struct daemon *d)
{
	if (d->console)
		console_close(d->console);
	if (d->service)
		service_close(d->service);
	if (d->net)
		net_server_close(d->net);
	if (d->standby)
		standby_close(d->standby);
	if (d->writer)
		writer_close(d->writer);
	if (d->store)
		gallery_store_close(d->store);
	if (d->db)
		db_close(d->db);
	passive_close(d->trust);
	if (d->policy)
		policy_close(d->policy);
	if (d->pack)
		pack_close(d->pack);
	if (d->keys)
		keys_close(d->keys);
	if (d->metrics)
		metrics_close(d->metrics);
	pthread_cond_destroy(&d->reloads.done);
	pthread_mutex_destroy(&d->reloads.lock);
	free(d);
}

static struct daemon *new_daemon(const struct conf *conf)
{
	struct daemon *d = calloc(1, sizeof(*d));
	pthread_condattr_t monotonic;

	if (!d)
		return NULL;
	d->conf = conf;
	pthread_mutex_init(&d->reloads.lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&d->reloads.done, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return d;
}

int daemon_open(const struct conf *conf, const char *listen, struct daemon **out,
		char message[DAEMON_MESSAGE_LEN])
{
	struct daemon *d = new_daemon(conf);
	int error;

	if (!d)
		return fail(message, BM_ENOMEM, "biomatchd");
	error = metrics_open(&d->metrics);
	if (error)
		(void)fail(message, error, "biomatchd");
	if (!error)
		error = open_inputs(d, false, message);
	if (!error)
		error = open_store(d, message);
	if (!error)
		error = open_standby(d, message);
	if (!error)
		error = open_service(d, message);
	if (!error)
		error = open_net(d, listen, message);
	if (!error)
		error = open_console(d, message);
	if (error) {
		close_parts(d);
		return error;
	}
	log_notice("daemon_ready", "version=%s port=%u ops_port=%u model=%s kernel=%s workers=%u",
		   BIOMATCH_VERSION, net_server_port(d->net), console_port(d->console),
		   d->pack->model, score_kernel()->name, conf->face.workers);
	*out = d;
	return 0;
}

void daemon_close(struct daemon *daemon)
{
	log_notice("daemon_draining", "limit_ms=%u", daemon->conf->server.drain);
	service_drain(daemon->service);
	net_server_drain(daemon->net, daemon->conf->server.drain);
	close_parts(daemon);
	log_notice("daemon_ended", NULL);
}

uint16_t daemon_port(const struct daemon *daemon)
{
	return net_server_port(daemon->net);
}

static void reload_policy(struct daemon *daemon)
{
	char message[DAEMON_MESSAGE_LEN] = "";
	struct policy *policy;
	int error = policy_open(daemon->conf->policy.file, daemon->pack, &policy, message);

	if (error) {
		log_error("policy_refused", "message=%s", message);
	} else {
		log_notice("policy_taken", "version=%s", policy_version(policy));
		service_set_policy(daemon->service, policy);
	}
	atomic_store(&daemon->ops.policy_refused, error != 0);
	tell_reloaded(daemon, "policy", error, message);
}

static int reload_certificates(struct daemon *daemon, char message[DAEMON_MESSAGE_LEN])
{
	int error;

	/* Before it is read: a change meanwhile is then seen by the next tick. */
	daemon->crl = stamp_of(daemon->conf->server.crl);
	error = net_server_reload(daemon->net, &daemon->net_options, message);
	if (error)
		log_error("certificates_refused", "message=%s", message);
	else
		log_notice("certificates_taken", NULL);
	daemon->crl_retry = error && daemon->conf->server.crl ? CRL_RETRY : 0;
	atomic_store(&daemon->ops.certificates_refused, error != 0);
	return error;
}

static int reload_documents(struct daemon *daemon, char message[DAEMON_MESSAGE_LEN])
{
	struct passive_trust *trust;
	int error = open_trust(daemon, &trust, message);

	if (error) {
		log_error("documents_refused", "message=%s", message);
	} else if (trust) {
		log_notice("documents_taken", NULL);
		service_set_trust(daemon->service, trust);
	}
	atomic_store(&daemon->ops.documents_refused, error != 0);
	return error;
}

/* Lists of revoked document signers come from elsewhere, at their own times. */
static void watch_documents(struct daemon *daemon)
{
	const struct stamp now[2] = {stamp_of(daemon->conf->documents.csca),
				     stamp_of(daemon->conf->documents.crl)};
	char message[DAEMON_MESSAGE_LEN] = "";

	/* What is refused has been logged. */
	if (memcmp(now, daemon->documents, sizeof(now)) != 0)
		(void)reload_documents(daemon, message);
}

/* A revocation must not wait for somebody to send a signal. */
static void watch_crl(struct daemon *daemon)
{
	struct stamp now = stamp_of(daemon->conf->server.crl);
	char message[DAEMON_MESSAGE_LEN] = "";

	if (memcmp(&now, &daemon->crl, sizeof(now)) || (daemon->crl_retry && !--daemon->crl_retry))
		(void)reload_certificates(daemon, message);
}

static int reload_map_size(struct daemon *daemon, uint64_t bytes)
{
	int error = db_grow(daemon->db, bytes);

	if (error)
		log_error("map_size_refused", "reason=%s", bm_error_reason(error));
	else
		log_notice("map_size_taken", "bytes=%llu", (unsigned long long)bytes);
	return error;
}

/* Of the configuration itself the size of the map and what is logged can change while it is used.
 */
static void reload_configuration(struct daemon *daemon, const char *config)
{
	char message[CONF_MESSAGE_LEN] = "";
	struct conf *conf;
	int error = conf_open(config, &conf, message);

	if (error) {
		log_error("configuration_refused", "message=%s", message);
	} else {
		log_set_level(conf->log.level);
		error = reload_map_size(daemon, conf->store.map_size);
		conf_close(conf);
	}
	tell_reloaded(daemon, "configuration", error, message);
}

/* Generations that were added to the key file; what is there stays. */
static void reload_keys(struct daemon *daemon)
{
	int error = keys_reload(daemon->keys, daemon->conf->store.key);

	if (error)
		log_error("keys_refused", "reason=%s generations=%u", bm_error_reason(error),
			  keys_generations(daemon->keys));
	else
		log_notice("keys_taken", "generations=%u", keys_generations(daemon->keys));
	tell_reloaded(daemon, "keys", error, "");
}

void daemon_reload(struct daemon *daemon, const char *config)
{
	struct reloads *reloads = &daemon->reloads;
	char message[DAEMON_MESSAGE_LEN] = "";
	uint64_t met;
	int error;

	pthread_mutex_lock(&reloads->lock);
	met = reloads->asked;
	reloads->n = 0;
	reload_keys(daemon);
	reload_configuration(daemon, config);
	reload_policy(daemon);
	error = reload_certificates(daemon, message);
	tell_reloaded(daemon, "certificates", error, message);
	message[0] = '\0';
	error = reload_documents(daemon, message);
	tell_reloaded(daemon, "documents", error, message);
	reloads->made = met;
	pthread_cond_broadcast(&reloads->done);
	pthread_mutex_unlock(&reloads->lock);
}

/* Whether every part moves; what begins to hang, or moves again, is logged. */
static bool watch_parts(struct daemon *daemon)
{
	struct ops_part parts[OPS_PARTS];

	ops_look(&daemon->ops, parts);
	for (unsigned i = 0; i < OPS_PARTS; i++) {
		const unsigned bit = 1u << i;
		bool hangs = ops_part_hangs(&parts[i]);

		if (hangs == !!(daemon->hanging & bit))
			continue;
		daemon->hanging ^= bit;
		if (hangs)
			log_error("part_hangs", "part=%s late_ms=%u", parts[i].name,
				  parts[i].late_ms);
		else
			log_notice("part_moves", "part=%s", parts[i].name);
	}
	return !daemon->hanging;
}

bool daemon_tick(struct daemon *daemon)
{
	service_tick(daemon->service);
	watch_crl(daemon);
	watch_documents(daemon);
	return watch_parts(daemon);
}

/*
 * Certificates are known to be good once a server has taken them: one on a port
 * of its own, which is closed before anybody could find it.
 */
static int check_certificates(const struct conf *conf, char message[DAEMON_MESSAGE_LEN])
{
	const struct net_options options = net_options_of(conf, "127.0.0.1:0");
	const struct net_handler handler = {0};
	struct net_server *server;
	char reason[256] = "";
	int error = net_server_open(&options, &handler, &server, reason);

	if (error)
		snprintf(message, DAEMON_MESSAGE_LEN, "%s",
			 *reason ? reason : bm_error_text(error));
	else
		net_server_close(server);
	return error;
}

int daemon_check(const struct conf *conf, char message[DAEMON_MESSAGE_LEN])
{
	struct daemon *d = new_daemon(conf);
	int error;

	if (!d)
		return fail(message, BM_ENOMEM, "biomatchd");
	error = open_inputs(d, true, message);
	if (!error)
		error = check_certificates(conf, message);
	close_parts(d);
	return error;
}
