#include "offline.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "biomatch/audit.h"
#include "biomatch/changes.h"
#include "biomatch/clock.h"
#include "biomatch/db.h"
#include "biomatch/dump.h"
#include "biomatch/envelope.h"
#include "biomatch/gallery.h"
#include "biomatch/keys.h"
#include "biomatch/pack.h"
#include "biomatch/writer.h"

#define ENTRY_ARENA (64 * AUDIT_ENTRY_MAX)

/* A store that is looked at. */
struct look {
	struct keys *keys;
	struct pack *pack;
	struct db *db;
	struct gallery_store *store;
	uint64_t faults, entries;
	struct dump_counts counts;
	char *message;
	const struct audit_trust *trust; /* NULL where signatures are not judged */
};

static int fail(struct look *look, int error, const char *what)
{
	if (error)
		snprintf(look->message, DAEMON_MESSAGE_LEN, "%.300s: %s", what,
			 bm_error_text(error));
	return error;
}

/* Of a file: errno says more than the code. */
static int fail_file(struct look *look, int error, const char *path)
{
	if (error != BM_EIO)
		return fail(look, error, path);
	snprintf(look->message, DAEMON_MESSAGE_LEN, "%.300s: %s", path, strerror(errno));
	return error;
}

static void close_look(struct look *look)
{
	gallery_store_close(look->store);
	db_close(look->db);
	if (look->pack)
		pack_close(look->pack);
	keys_close(look->keys);
}

static int open_inputs(struct look *look, const struct conf *conf)
{
	int error = keys_open(conf->store.key, &look->keys);

	if (error)
		return fail(look, error, conf->store.key);
	return pack_open(conf->face.pack, false, &look->pack, look->message);
}

static int open_look(struct look *look, const struct conf *conf, const char *dir)
{
	char reason[256] = "";
	int error = open_inputs(look, conf);

	if (error)
		return error;
	error = db_open_reader(dir, conf->store.map_size, &look->db, reason);
	if (error) {
		snprintf(look->message, DAEMON_MESSAGE_LEN, "%s",
			 *reason ? reason : bm_error_text(error));
		return error;
	}
	return fail(look, gallery_store_open(look->db, look->keys, look->pack, &look->store), dir);
}

static void tell_fault(void *ctx, const char *text)
{
	(void)ctx;
	printf("%s\n", text);
}

static int check_galleries(struct look *look)
{
	struct gallery_snapshot *snapshot;
	int error = gallery_snapshot_open(look->store, &snapshot);

	if (error)
		return error;
	error = gallery_check(snapshot, tell_fault, NULL, &look->faults);
	gallery_snapshot_close(snapshot);
	return error;
}

static int take_entry(struct db_txn *txn, struct audit_chain *chain, struct arena *arena)
{
	const uint64_t sequence = chain->next;
	const bool front = !chain->head.sequence;
	const Biomatch__V1__AuditEntry *entry;
	struct bytes packed;
	int error;

	arena_reset(arena);
	if (!audit_get(txn, sequence, &packed))
		return txn->error ? txn->error : BM_EAUDIT;
	error = audit_chain_take(chain, packed, arena, &entry);
	/* Pruning leaves a checkpoint at the front, and nobody else removes entries. */
	if (!error && front && sequence > 1 && !chain->checkpoints) {
		chain->next = sequence;
		chain->fault = "is the first one left, and no checkpoint";
		error = BM_EAUDIT;
	}
	return error;
}

static int follow_chain(struct look *look, struct db_txn *txn, struct arena *arena)
{
	struct audit_chain chain = {.trust = look->trust};
	struct audit_receipt head;
	int error = audit_first(txn, &chain.next);

	if (!error)
		error = audit_head(txn, &head);
	for (; !error && head.sequence && chain.next <= head.sequence; look->entries++)
		error = take_entry(txn, &chain, arena);
	if (error != BM_EAUDIT)
		return error;
	printf("audit log: entry %" PRIu64 " %s\n", chain.next,
	       chain.fault ? chain.fault : "is missing");
	look->faults++;
	return 0;
}

static int check_rest(struct look *look)
{
	uint64_t requests = 0, changes = 0, damaged = 0;
	struct arena arena;
	struct db_txn txn;
	int error = db_begin_read(look->db, &txn);

	if (error)
		return error;
	arena_init(&arena, ENTRY_ARENA);
	error = follow_chain(look, &txn, &arena);
	if (!error)
		error = requests_check(&txn, &requests);
	if (!error)
		error = changes_check(&txn, look->keys, &changes, &damaged);
	if (damaged)
		printf("%" PRIu64 " changes of the change log are damaged\n", damaged);
	look->faults += damaged;
	if (requests)
		printf("%" PRIu64 " remembered requests are damaged\n", requests);
	look->faults += requests;
	arena_deinit(&arena);
	db_abort(&txn);
	return error;
}

static int check(struct look *look, const char *dir)
{
	int error = check_galleries(look);

	if (!error)
		error = check_rest(look);
	if (!error && look->faults)
		error = BM_ECORRUPT;
	return fail(look, error, dir);
}

static int check_dir(const struct conf *conf, const char *dir, const struct audit_trust *trust,
		     char *message, uint64_t *entries)
{
	struct look look = {.message = message, .trust = trust};
	int error = open_look(&look, conf, dir);

	if (!error)
		error = check(&look, dir);
	*entries = look.entries;
	close_look(&look);
	return error;
}

static int read_trust(const struct offline_trust *files, uint8_t keys[][AUDIT_KEY_LEN],
		      char message[DAEMON_MESSAGE_LEN])
{
	for (size_t i = 0; i < files->n; i++) {
		int error = audit_read_key(files->files[i], keys[i]);

		if (!error)
			continue;
		snprintf(message, DAEMON_MESSAGE_LEN, "%.300s: no Ed25519 public key in PEM",
			 files->files[i]);
		return error;
	}
	return 0;
}

int offline_fsck(const struct conf *conf, const struct offline_trust *files,
		 char message[DAEMON_MESSAGE_LEN])
{
	uint8_t keys[OFFLINE_MAX_KEYS][AUDIT_KEY_LEN];
	const struct audit_trust trust = {(const uint8_t(*)[AUDIT_KEY_LEN])keys, files->n};
	uint64_t entries;
	int error = read_trust(files, keys, message);

	if (!error)
		error = check_dir(conf, conf->store.path, files->n ? &trust : NULL, message,
				  &entries);
	if (!error)
		printf("%s: good, %" PRIu64 " audit entries%s\n", conf->store.path, entries,
		       files->n ? ", signatures judged" : "");
	return error;
}

/* What is to be sealed goes through a pipe, from a thread that writes to the one that seals. */
struct feed {
	struct look *look;
	int (*write)(struct look *look, int fd);
	int to, error;
};

static void *feed_seal(void *arg)
{
	struct feed *feed = arg;

	feed->error = feed->write(feed->look, feed->to);
	close(feed->to);
	return NULL;
}

static int seal(struct feed *feed, int out, const char *public_key)
{
	pthread_t thread;
	int ends[2], error;

	if (pipe2(ends, O_CLOEXEC))
		return BM_EIO;
	feed->to = ends[1];
	if (pthread_create(&thread, NULL, feed_seal, feed)) {
		close(ends[0]);
		close(ends[1]);
		return BM_ENOMEM;
	}
	error = envelope_seal(ends[0], out, public_key);
	/* Who writes what nobody reads any more ends with EPIPE. */
	close(ends[0]);
	pthread_join(thread, NULL);
	return error ? error : feed->error;
}

static int write_sealed(struct look *look, int (*write)(struct look *look, int fd),
			const char *file, const char *public_key)
{
	struct feed feed = {.look = look, .write = write};
	int error, fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return fail_file(look, BM_EIO, file);
	error = seal(&feed, fd, public_key);
	if (error == BM_EKEY)
		snprintf(look->message, DAEMON_MESSAGE_LEN, "%s: is no X25519 public key in PEM",
			 public_key);
	else if (error)
		fail_file(look, error, file);
	else if (fsync(fd))
		error = fail_file(look, BM_EIO, file);
	close(fd);
	if (error)
		unlink(file);
	return error;
}

/* Checks the store, then writes it into a new file. */
static int write_checked(struct look *look, const struct conf *conf,
			 int (*write)(struct look *look, int fd), const char *file,
			 const char *public_key)
{
	int error = open_look(look, conf, conf->store.path);

	if (!error)
		error = check(look, conf->store.path);
	return error ? error : write_sealed(look, write, file, public_key);
}

static int copy_store(struct look *look, int fd)
{
	return db_copy(look->db, fd);
}

static int dump_store(struct look *look, int fd)
{
	return dump_write(look->store, clock_wall_ms(), fd, &look->counts);
}

int offline_backup(const struct conf *conf, const char *file, const char *public_key,
		   char message[DAEMON_MESSAGE_LEN])
{
	struct look look = {.message = message};
	int error = write_checked(&look, conf, copy_store, file, public_key);

	if (!error)
		printf("%s: backup of a store that was checked, %" PRIu64 " audit entries\n", file,
		       look.entries);
	close_look(&look);
	return error;
}

static void tell_counts(const char *path, const char *what, const struct dump_counts *counts)
{
	printf("%s: %s %" PRIu64 " galleries, %" PRIu64 " subjects, %" PRIu64
	       " encounters, %" PRIu64 " pictures\n",
	       path, what, counts->galleries, counts->subjects, counts->encounters, counts->images);
}

int offline_dump(const struct conf *conf, const char *file, const char *public_key,
		 char message[DAEMON_MESSAGE_LEN])
{
	struct look look = {.message = message};
	int error = write_checked(&look, conf, dump_store, file, public_key);

	if (!error)
		tell_counts(file, "dump of", &look.counts);
	close_look(&look);
	return error;
}

/* Where a backup is opened and checked, beside the place that it is for. */
struct site {
	char dir[4096], data[4200], lock[4200], owner[4200], target[4200];
};

static int open_backup(struct look *look, const struct site *site, const char *file,
		       const char *private_key)
{
	int in = open(file, O_RDONLY | O_CLOEXEC), out, error;

	if (in < 0)
		return fail_file(look, BM_EIO, file);
	out = open(site->data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	error = out < 0 ? BM_EIO : envelope_open(in, out, private_key);
	if (error == BM_EKEY)
		snprintf(look->message, DAEMON_MESSAGE_LEN, "%s: is no X25519 private key in PEM",
			 private_key);
	else
		fail_file(look, error, error == BM_EBACKUP ? file : site->data);
	if (!error && fsync(out))
		error = fail_file(look, BM_EIO, site->data);
	if (out >= 0)
		close(out);
	close(in);
	return error;
}

/* A link is made only where there is nothing: whatever came meanwhile stays. */
static int move_in(struct look *look, const struct conf *conf, const struct site *site)
{
	int fd, error = link(site->data, site->target) ? BM_EIO : 0;

	if (error)
		return fail_file(look, error, site->target);
	fd = open(conf->store.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		error = fail_file(look, BM_EIO, conf->store.path);
	if (fd >= 0)
		close(fd);
	return error;
}

/* The part that a store had among others is not its copy's: that one has what its configuration
 * says. */
static int forget_role(struct look *look, const struct conf *conf, const struct site *site)
{
	char reason[256] = "";
	struct db_txn txn;
	struct db *db;
	int error = db_open(site->dir, conf->store.map_size, 8, &db, reason);

	if (error)
		return fail(look, error, site->dir);
	error = db_begin_write(db, &txn);
	if (!error) {
		/* One of the version before has no part; it is upgraded when it is served. */
		if (changes_exist(&txn))
			changes_set_role(&txn, CHANGES_AS_CONFIGURED);
		error = db_commit(&txn);
	}
	db_close(db);
	return fail(look, error, site->dir);
}

static int make_site(struct look *look, const struct conf *conf, struct site *site)
{
	snprintf(site->dir, sizeof(site->dir), "%s/restore.new", conf->store.path);
	snprintf(site->data, sizeof(site->data), "%s/data.mdb", site->dir);
	snprintf(site->lock, sizeof(site->lock), "%s/lock.mdb", site->dir);
	snprintf(site->owner, sizeof(site->owner), "%s/daemon.lock", site->dir);
	snprintf(site->target, sizeof(site->target), "%s/data.mdb", conf->store.path);
	if (!access(site->target, F_OK)) {
		errno = EEXIST;
		return fail_file(look, BM_EIO, site->target);
	}
	return mkdir(site->dir, 0700) ? fail_file(look, BM_EIO, site->dir) : 0;
}

static void clear_site(const struct site *site)
{
	unlink(site->data);
	unlink(site->lock);
	unlink(site->owner);
	rmdir(site->dir);
}

int offline_restore(const struct conf *conf, const char *file, const char *private_key,
		    char message[DAEMON_MESSAGE_LEN])
{
	struct look look = {.message = message};
	struct site site;
	uint64_t entries = 0;
	int error = make_site(&look, conf, &site);

	if (error)
		return error;
	error = open_backup(&look, &site, file, private_key);
	if (!error)
		error = check_dir(conf, site.dir, NULL, message, &entries);
	if (!error)
		error = forget_role(&look, conf, &site);
	if (!error)
		error = move_in(&look, conf, &site);
	clear_site(&site);
	if (!error)
		printf("%s: restored and checked, %" PRIu64 " audit entries\n", conf->store.path,
		       entries);
	return error;
}

/* A dump is opened by a thread of its own: what is in it never touches the disk. */
struct opening {
	const char *private_key;
	int in, to, error;
};

static void *open_sealed(void *arg)
{
	struct opening *opening = arg;

	opening->error = envelope_open(opening->in, opening->to, opening->private_key);
	close(opening->to);
	return NULL;
}

static int load_opened(struct look *look, struct opening *opening)
{
	pthread_t thread;
	int ends[2], error;

	if (pipe2(ends, O_CLOEXEC))
		return BM_EIO;
	opening->to = ends[1];
	if (pthread_create(&thread, NULL, open_sealed, opening)) {
		close(ends[0]);
		close(ends[1]);
		return BM_ENOMEM;
	}
	error = dump_load(look->store, look->db, clock_wall_ms(), ends[0], &look->counts);
	close(ends[0]);
	pthread_join(thread, NULL);
	/* A seal that is wrong ends the dump early; a pipe that nobody reads any more, the seal. */
	if ((!error || error == BM_EDUMP) && opening->error && opening->error != BM_EIO)
		error = opening->error;
	return error;
}

static int load_file(struct look *look, const char *file, const char *private_key)
{
	struct opening opening = {.private_key = private_key,
				  .in = open(file, O_RDONLY | O_CLOEXEC)};
	int error;

	if (opening.in < 0)
		return fail_file(look, BM_EIO, file);
	error = load_opened(look, &opening);
	close(opening.in);
	if (error == BM_EKEY)
		snprintf(look->message, DAEMON_MESSAGE_LEN, "%s: is no X25519 private key in PEM",
			 private_key);
	else
		fail(look, error, file);
	return error;
}

/* A new store beside the place that it is for. */
static int load_site(struct look *look, const struct conf *conf, const struct site *site,
		     const char *file, const char *private_key)
{
	char reason[256] = "";
	int error = open_inputs(look, conf);

	if (error)
		return error;
	error = db_open(site->dir, conf->store.map_size, 8, &look->db, reason);
	if (!error)
		error = gallery_store_open(look->db, look->keys, look->pack, &look->store);
	if (error)
		return fail(look, error, *reason ? reason : site->dir);
	return load_file(look, file, private_key);
}

int offline_load(const struct conf *conf, const char *file, const char *private_key,
		 char message[DAEMON_MESSAGE_LEN])
{
	struct look look = {.message = message};
	struct site site;
	uint64_t entries;
	int error = make_site(&look, conf, &site);

	if (error)
		return error;
	error = load_site(&look, conf, &site, file, private_key);
	close_look(&look);
	if (!error)
		error = check_dir(conf, site.dir, NULL, message, &entries);
	if (!error)
		error = move_in(&look, conf, &site);
	clear_site(&site);
	if (!error)
		tell_counts(conf->store.path, "loaded and checked,", &look.counts);
	return error;
}
