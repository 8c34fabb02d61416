#include "biomatch/db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "scrub.h"

struct db {
	MDB_env *env;
	MDB_dbi tables[DB_TABLES];
	int lock_fd, dir_fd;
	atomic_bool read_only;
	struct scrub *scrub; /* of the writer's */
	atomic_bool scrub_wanted, scrubbing;
	atomic_size_t erased; /* the last transaction that asked for a scrub */

	/* The map moves when it grows, and only while nobody looks at it. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned users;
	bool growing;
};

/* A table that came with a later version than the store that is only read. */
#define NO_TABLE UINT_MAX

/* How long new transactions wait for the old ones to end, so that the map can grow. */
#define GROW_WAIT_MS 1000

static const char *const table_names[DB_TABLES] = {
	[DB_META] = "meta",
	[DB_GALLERIES] = "galleries",
	[DB_SUBJECTS] = "subjects",
	[DB_TAIL] = "tail",
	[DB_SEGMENTS] = "segments",
	[DB_REQUESTS] = "requests",
	[DB_REQUEST_AGE] = "request_age",
	[DB_AUDIT] = "audit",
	[DB_CHANGES] = "changes",
	[DB_CHANGE_OWNERS] = "change_owners",
	[DB_EXPIRY] = "expiry",
	[DB_HOLDS] = "holds",
	[DB_REQUEST_OWNERS] = "request_owners",
	[DB_IMAGES] = "images",
};

/* Whoever looks at the map, in a transaction or for its figures, is a user of it. */
static void enter(struct db *db)
{
	pthread_mutex_lock(&db->lock);
	while (db->growing)
		pthread_cond_wait(&db->changed, &db->lock);
	db->users++;
	pthread_mutex_unlock(&db->lock);
}

static void leave(struct db *db)
{
	pthread_mutex_lock(&db->lock);
	if (!--db->users && db->growing)
		pthread_cond_broadcast(&db->changed);
	pthread_mutex_unlock(&db->lock);
}

static int error_of(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case ENOMEM:
		return BM_ENOMEM;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return BM_EMAPFULL;
	case ENOSPC:
	case EDQUOT:
		return BM_EFULL;
	case MDB_READERS_FULL:
		return BM_EBUSY;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_INVALID:
		return BM_ECORRUPT;
	case MDB_VERSION_MISMATCH:
		return BM_ESTOREVER;
	default:
		return BM_EIO;
	}
}

/* The first failure of a transaction is the one that is told. */
static void stick(struct db_txn *txn, int rc, const char *what)
{
	if (txn->error)
		return;
	txn->error = error_of(rc);
	log_error("store_failed", "operation=%s error=%s", what, mdb_strerror(rc));
}

/* Over a network, neither LMDB's shared map nor its locks hold. */
static bool is_remote(int fd)
{
	static const uint32_t remote[] = {
		0x6969,     /* NFS */
		0xff534d42, /* CIFS */
		0xfe534d42, /* SMB 2 */
		0x01021997, /* 9p */
		0x00c36400, /* Ceph */
		0x5346414f, /* AFS */
	};
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++) {
		if ((uint32_t)fs.f_type == remote[i])
			return true;
	}
	return false;
}

/* The store's directory must be ours alone: LMDB trusts what it finds there. */
static int open_dir(const char *dir, int *fd, char message[256])
{
	struct stat st;

	*fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0 || fstat(*fd, &st)) {
		snprintf(message, 256, "%.180s: %s%s", dir, strerror(errno),
			 errno == ENOENT ? "; create the directory first" : "");
		return BM_EIO;
	}
	if (st.st_uid != geteuid()) {
		snprintf(message, 256, "%.160s: belongs to user %u and must belong to user %u", dir,
			 st.st_uid, geteuid());
		return BM_EIO;
	}
	if (st.st_mode & 022) {
		snprintf(message, 256, "%.160s: must be writable by nobody but its owner", dir);
		return BM_EIO;
	}
	if (is_remote(*fd)) {
		snprintf(message, 256,
			 "%.160s: is on a network file system; the store needs a local disk", dir);
		return BM_EIO;
	}
	return 0;
}

/* The lock keeps out a second daemon, which LMDB itself would let in. */
static int lock_dir(const char *dir, int *fd, char message[256])
{
	char path[512];

	snprintf(path, sizeof(path), "%.480s/daemon.lock", dir);
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0) {
		snprintf(message, 256, "%.180s: %s", path, strerror(errno));
		return BM_EIO;
	}
	if (flock(*fd, LOCK_EX | LOCK_NB)) {
		snprintf(message, 256, "%.160s: another daemon has this store open", dir);
		close(*fd);
		*fd = -1;
		return BM_ELOCKED;
	}
	return 0;
}

static int open_tables(struct db *db, bool writes)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(db->env, NULL, writes ? 0 : MDB_RDONLY, &txn);

	if (rc)
		return rc;
	for (int i = 0; !rc && i < DB_TABLES; i++) {
		rc = mdb_dbi_open(txn, table_names[i], writes ? MDB_CREATE : 0, &db->tables[i]);
		if (rc != MDB_NOTFOUND)
			continue;
		db->tables[i] = NO_TABLE;
		rc = 0;
	}
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

/* LMDB leaves its data file open for programs that this one starts. */
static int keep_to_ourselves(MDB_env *env)
{
	int fd, rc = mdb_env_get_fd(env, &fd);

	if (!rc && fcntl(fd, F_SETFD, FD_CLOEXEC))
		rc = errno;
	return rc;
}

/*
 * Who serves a store reads single pages here and there, and says what it wants of long runs
 * (db_prefetch); who reads it for a copy or a check reads it all.
 */
static int open_env(struct db *db, const char *dir, uint64_t map_size, unsigned max_readers,
		    bool writes)
{
	int stale, rc = mdb_env_create(&db->env);

	if (!rc)
		rc = mdb_env_set_mapsize(db->env, map_size);
	if (!rc)
		rc = mdb_env_set_maxdbs(db->env, DB_TABLES);
	if (!rc)
		rc = mdb_env_set_maxreaders(db->env, max_readers);
	if (!rc)
		rc = mdb_env_open(db->env, dir, MDB_NOTLS | (writes ? MDB_NORDAHEAD : MDB_RDONLY),
				  0600);
	if (!rc)
		rc = keep_to_ourselves(db->env);
	if (!rc)
		rc = mdb_reader_check(db->env, &stale);
	if (!rc)
		rc = open_tables(db, writes);
	/* A new data file outlives a power cut only once its name is on disk. */
	if (!rc && writes && fsync(db->dir_fd))
		rc = errno;
	if (!rc && writes)
		rc = scrub_open(db->env, &db->scrub);
	return rc;
}

static struct db *new_db(bool writes)
{
	struct db *db = calloc(1, sizeof(*db));

	if (!db)
		return NULL;
	db->lock_fd = -1;
	db->dir_fd = -1;
	atomic_init(&db->read_only, !writes);
	atomic_init(&db->scrub_wanted, false);
	atomic_init(&db->scrubbing, false);
	atomic_init(&db->erased, 0);
	pthread_mutex_init(&db->lock, NULL);
	pthread_cond_init(&db->changed, NULL);
	return db;
}

/* A reader leaves the daemon's lock alone: LMDB's own is between the two. */
static int open_db(const char *dir, uint64_t map_size, unsigned max_readers, bool writes,
		   struct db **out, char message[256])
{
	struct db *db = new_db(writes);
	int rc, error;

	if (!db)
		return BM_ENOMEM;
	error = open_dir(dir, &db->dir_fd, message);
	if (!error && writes)
		error = lock_dir(dir, &db->lock_fd, message);
	if (!error) {
		rc = open_env(db, dir, map_size, max_readers, writes);
		error = error_of(rc);
		if (rc)
			snprintf(message, 256, "%.160s: %s", dir, mdb_strerror(rc));
	}
	if (error) {
		db_close(db);
		return error;
	}
	*out = db;
	return 0;
}

int db_open(const char *dir, uint64_t map_size, unsigned max_readers, struct db **out,
	    char message[256])
{
	return open_db(dir, map_size, max_readers, true, out, message);
}

int db_open_reader(const char *dir, uint64_t map_size, struct db **out, char message[256])
{
	return open_db(dir, map_size, 8, false, out, message);
}

int db_copy(struct db *db, int fd)
{
	int rc;

	enter(db);
	rc = mdb_env_copyfd(db->env, fd);
	leave(db);
	return error_of(rc);
}

void db_close(struct db *db)
{
	if (!db)
		return;
	scrub_close(db->scrub);
	if (db->env)
		mdb_env_close(db->env);
	if (db->lock_fd >= 0)
		close(db->lock_fd);
	if (db->dir_fd >= 0)
		close(db->dir_fd);
	pthread_cond_destroy(&db->changed);
	pthread_mutex_destroy(&db->lock);
	free(db);
}

/* With new users kept out: true once the old ones have left. */
static bool wait_alone(struct db *db)
{
	int64_t end = clock_monotonic_ns() + GROW_WAIT_MS * CLOCK_NS_PER_MS;
	struct timespec until = {end / CLOCK_NS_PER_SEC, end % CLOCK_NS_PER_SEC};

	while (db->users) {
		if (pthread_cond_clockwait(&db->changed, &db->lock, CLOCK_MONOTONIC, &until))
			return !db->users;
	}
	return true;
}

int db_grow(struct db *db, uint64_t map_size)
{
	MDB_envinfo info;
	int rc = 0;

	pthread_mutex_lock(&db->lock);
	db->growing = true;
	if (!wait_alone(db))
		rc = MDB_READERS_FULL;
	else if (!(rc = mdb_env_info(db->env, &info)) && map_size > info.me_mapsize)
		rc = mdb_env_set_mapsize(db->env, map_size);
	db->growing = false;
	pthread_cond_broadcast(&db->changed);
	pthread_mutex_unlock(&db->lock);
	return error_of(rc);
}

bool db_is_read_only(const struct db *db)
{
	return atomic_load(&db->read_only);
}

/* What LMDB tells of its readers, which it gives only as text. */
struct readers {
	unsigned n;
	uint64_t oldest; /* the number of a transaction */
};

/* A line for each slot: process, thread, and the transaction or "-"; one of titles before. */
static int count_reader(const char *line, void *ctx)
{
	struct readers *readers = ctx;
	size_t txn;

	if (sscanf(line, "%*d %*x %zu", &txn) == 1) {
		readers->oldest = readers->n++ && readers->oldest < txn ? readers->oldest : txn;
	}
	return 0;
}

int db_stat(struct db *db, struct db_stat *out)
{
	struct readers readers = {0};
	MDB_envinfo info;
	MDB_stat stat;
	bool known;

	enter(db);
	known = mdb_reader_list(db->env, count_reader, &readers) >= 0 &&
		!mdb_env_info(db->env, &info) && !mdb_env_stat(db->env, &stat);
	leave(db);
	if (!known)
		return BM_EIO;
	out->map_bytes = info.me_mapsize;
	out->used_bytes = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
	out->readers = readers.n;
	out->oldest_reader = readers.n ? info.me_last_txnid - readers.oldest : 0;
	return 0;
}

/* A transaction of a user, or inside that of one. */
static int begin(struct db *db, MDB_txn *parent, unsigned flags, struct db_txn *txn)
{
	MDB_txn *handle;
	int rc = mdb_txn_begin(db->env, parent, flags, &handle);

	*txn = (struct db_txn){.db = db, .writes = !(flags & MDB_RDONLY)};
	if (rc) {
		if (!parent)
			leave(db);
		stick(txn, rc, "begin");
		return txn->error;
	}
	txn->handle = handle;
	return 0;
}

int db_begin_read(struct db *db, struct db_txn *txn)
{
	enter(db);
	return begin(db, NULL, MDB_RDONLY, txn);
}

int db_begin_beside(const struct db_txn *view, struct db_txn *txn)
{
	struct db *db = view->db;
	int error;

	/* While the other is open the map stays where it is, so this need not wait as others do. */
	pthread_mutex_lock(&db->lock);
	db->users++;
	pthread_mutex_unlock(&db->lock);
	error = begin(db, NULL, MDB_RDONLY, txn);
	if (!error && mdb_txn_id(txn->handle) != mdb_txn_id(view->handle)) {
		db_abort(txn);
		error = BM_EBUSY;
	}
	return error;
}

int db_begin_write(struct db *db, struct db_txn *txn)
{
	if (db_is_read_only(db)) {
		*txn = (struct db_txn){.db = db, .error = BM_EREADONLY};
		return BM_EREADONLY;
	}
	enter(db);
	return begin(db, NULL, 0, txn);
}

void db_want_scrub(struct db *db)
{
	MDB_envinfo info;

	/* The transaction under way will be the next. */
	if (!mdb_env_info(db->env, &info))
		atomic_store(&db->erased, info.me_last_txnid + 1);
	atomic_store(&db->scrub_wanted, true);
}

bool db_wants_scrub(const struct db *db)
{
	return atomic_load(&db->scrub_wanted) || atomic_load(&db->scrubbing);
}

static int scrub_failed(struct db *db, int rc)
{
	int error = error_of(rc);

	log_error("scrub_failed", "error=%s", mdb_strerror(rc));
	/* Whether the disk holds what was to go is not known, nor what it takes next. */
	if (error == BM_EIO || error == BM_EFULL)
		atomic_store(&db->read_only, true);
	return error;
}

/*
 * A round clears what was erased before it, once no reader sees that any more; what is
 * erased meanwhile asks for another.
 */
static bool starts_round(struct db *db, size_t oldest)
{
	if (atomic_load(&db->scrubbing))
		return true;
	if (oldest < atomic_load(&db->erased))
		return false;
	atomic_store(&db->scrub_wanted, false);
	return true;
}

int db_scrub(struct db *db, bool *more)
{
	struct readers readers = {0};
	struct db_txn txn;
	size_t oldest;
	int rc, error = db_begin_write(db, &txn);

	*more = false;
	if (error)
		return error;
	rc = mdb_reader_list(db->env, count_reader, &readers) < 0 ? EIO : 0;
	oldest = readers.n ? readers.oldest : SIZE_MAX;
	if (!rc && starts_round(db, oldest))
		rc = scrub_step(db->scrub, oldest, more);
	atomic_store(&db->scrubbing, *more);
	if (rc)
		atomic_store(&db->scrub_wanted, true);
	db_abort(&txn);
	return rc ? scrub_failed(db, rc) : 0;
}

int db_begin_nested(struct db_txn *parent, struct db_txn *txn)
{
	int error = begin(parent->db, parent->handle, 0, txn);

	txn->parent = parent;
	return error;
}

static bool disk_is_full(const struct db *db)
{
	struct statvfs fs;

	return !fstatvfs(db->dir_fd, &fs) && fs.f_bavail == 0;
}

/* The commit stands, whatever becomes of this. */
static void clear_slack(struct db *db, size_t txn)
{
	int rc = scrub_commit(db->scrub, txn);

	if (rc)
		scrub_failed(db, rc);
}

int db_commit(struct db_txn *txn)
{
	MDB_txn *handle = txn->handle;
	size_t id;
	int rc;

	if (txn->error || !handle) {
		db_abort(txn);
		return txn->error;
	}
	txn->handle = NULL;
	id = mdb_txn_id(handle);
	rc = mdb_txn_commit(handle);
	if (!rc && txn->writes && !txn->parent)
		clear_slack(txn->db, id);
	if (!txn->parent)
		leave(txn->db);
	if (!rc)
		return 0;
	/* LMDB calls a write that was cut short EIO, and on a full disk they are. */
	if (rc == EIO && disk_is_full(txn->db))
		rc = ENOSPC;
	stick(txn, rc, "commit");
	/*
	 * What is on disk after a failed write or sync is not known. A full map is
	 * noticed while pages are taken, before any is written.
	 */
	if (!txn->parent && rc != MDB_MAP_FULL)
		atomic_store(&txn->db->read_only, true);
	/* A nested one may have handed over half of its pages: keep none of the parent. */
	if (txn->parent && !txn->parent->error)
		txn->parent->error = txn->error;
	return txn->error;
}

void db_abort(struct db_txn *txn)
{
	if (!txn->handle)
		return;
	mdb_txn_abort(txn->handle);
	txn->handle = NULL;
	if (!txn->parent)
		leave(txn->db);
}

/* The pages that bytes in the map are on. */
static struct bytes pages_of(struct bytes part)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t before = (uintptr_t)part.data % page;

	return (struct bytes){part.data - before, (before + part.len + page - 1) / page * page};
}

bool db_is_resident(struct bytes part)
{
	struct bytes pages = pages_of(part);
	size_t page = (size_t)sysconf(_SC_PAGESIZE), step = 1024;
	unsigned char there[1024];

	for (size_t at = 0; at < pages.len; at += step * page) {
		size_t len = pages.len - at < step * page ? pages.len - at : step * page;

		if (mincore((void *)(uintptr_t)(pages.data + at), len, there))
			return true;
		for (size_t i = 0; i < len / page; i++) {
			if (!(there[i] & 1))
				return false;
		}
	}
	return true;
}

void db_prefetch(struct bytes part)
{
	struct bytes pages = pages_of(part);

	/* Where the hint is refused the bytes are read when they are looked at. */
	if (madvise((void *)(uintptr_t)pages.data, pages.len, MADV_WILLNEED))
		log_debug("prefetch_failed", "error=%s", strerror(errno));
}

static MDB_val val_of(struct bytes b)
{
	return (MDB_val){b.len, (void *)(uintptr_t)b.data};
}

static struct bytes bytes_of(MDB_val v)
{
	return (struct bytes){v.mv_data, v.mv_size};
}

bool db_get(struct db_txn *txn, enum db_table table, struct bytes key, struct bytes *value)
{
	MDB_val k = val_of(key), v;
	int rc;

	if (txn->error || txn->db->tables[table] == NO_TABLE)
		return false;
	rc = mdb_get(txn->handle, txn->db->tables[table], &k, &v);
	if (rc) {
		if (rc != MDB_NOTFOUND)
			stick(txn, rc, "get");
		return false;
	}
	*value = bytes_of(v);
	return true;
}

void db_put(struct db_txn *txn, enum db_table table, struct bytes key, struct bytes value)
{
	MDB_val k = val_of(key), v = val_of(value);
	int rc;

	if (txn->error)
		return;
	rc = mdb_put(txn->handle, txn->db->tables[table], &k, &v, 0);
	if (rc)
		stick(txn, rc, "put");
}

void *db_reserve(struct db_txn *txn, enum db_table table, struct bytes key, size_t len)
{
	MDB_val k = val_of(key), v = {len, NULL};
	int rc;

	if (txn->error)
		return NULL;
	rc = mdb_put(txn->handle, txn->db->tables[table], &k, &v, MDB_RESERVE);
	if (rc) {
		stick(txn, rc, "reserve");
		return NULL;
	}
	return v.mv_data;
}

bool db_delete(struct db_txn *txn, enum db_table table, struct bytes key)
{
	MDB_val k = val_of(key);
	int rc;

	if (txn->error)
		return false;
	rc = mdb_del(txn->handle, txn->db->tables[table], &k, NULL);
	if (rc && rc != MDB_NOTFOUND)
		stick(txn, rc, "delete");
	return !rc;
}

void db_cursor_open(struct db_txn *txn, enum db_table table, struct db_cursor *cursor)
{
	MDB_cursor *handle;
	int rc;

	*cursor = (struct db_cursor){.txn = txn};
	if (txn->error || txn->db->tables[table] == NO_TABLE)
		return;
	rc = mdb_cursor_open(txn->handle, txn->db->tables[table], &handle);
	if (rc)
		stick(txn, rc, "cursor");
	else
		cursor->handle = handle;
}

void db_cursor_close(struct db_cursor *cursor)
{
	if (cursor->handle)
		mdb_cursor_close(cursor->handle);
	cursor->handle = NULL;
}

static bool move(struct db_cursor *cursor, MDB_val k, MDB_cursor_op op, struct bytes *found,
		 struct bytes *value)
{
	MDB_val v;
	int rc;

	if (!cursor->handle || cursor->txn->error)
		return false;
	rc = mdb_cursor_get(cursor->handle, &k, &v, op);
	if (rc) {
		if (rc != MDB_NOTFOUND)
			stick(cursor->txn, rc, "cursor_get");
		return false;
	}
	*found = bytes_of(k);
	*value = bytes_of(v);
	return true;
}

bool db_cursor_seek(struct db_cursor *cursor, struct bytes key, struct bytes *found,
		    struct bytes *value)
{
	return move(cursor, val_of(key), MDB_SET_RANGE, found, value);
}

bool db_cursor_next(struct db_cursor *cursor, struct bytes *found, struct bytes *value)
{
	return move(cursor, (MDB_val){0, NULL}, MDB_NEXT, found, value);
}

bool db_cursor_last(struct db_cursor *cursor, struct bytes *found, struct bytes *value)
{
	return move(cursor, (MDB_val){0, NULL}, MDB_LAST, found, value);
}

void db_cursor_delete(struct db_cursor *cursor)
{
	int rc;

	if (!cursor->handle || cursor->txn->error)
		return;
	rc = mdb_cursor_del(cursor->handle, 0);
	if (rc)
		stick(cursor->txn, rc, "cursor_delete");
}
