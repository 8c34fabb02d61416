#include "store.h"

#include <assert.h>
#include <stdlib.h>

#include "biomatch/log.h"

static const char store_key_name[] = "store";

static struct bytes store_key(void)
{
	return text_bytes(store_key_name);
}

static int check_store(struct gallery_store *store, struct bytes value)
{
	struct store_record record;
	uint8_t fingerprint[16];

	if (record_check(value, sizeof(record)))
		return BM_ECORRUPT;
	memcpy(&record, value.data, sizeof(record));
	if (record.version > STORE_VERSION || record.version < STORE_VERSION_OLD)
		return record.version > STORE_VERSION ? BM_ESTORENEW : BM_ESTOREVER;
	store->version = record.version;
	keys_fingerprint(store->keys, 0, fingerprint);
	return memcmp(fingerprint, record.key_fingerprint, sizeof(fingerprint)) ? BM_EKEY : 0;
}

static int commit(struct db_txn *txn, int error)
{
	if (!error)
		return db_commit(txn);
	db_abort(txn);
	return error;
}

static int make_store(struct gallery_store *store)
{
	struct store_record record = {.version = STORE_VERSION, .next_gallery = 1};
	struct db_txn txn;
	int error = db_begin_write(store->db, &txn);

	if (error)
		return error;
	keys_fingerprint(store->keys, 0, record.key_fingerprint);
	record.sum = record_sum(&record, sizeof(record));
	db_put(&txn, DB_META, store_key(),
	       (struct bytes){(const uint8_t *)&record, sizeof(record)});
	store->version = STORE_VERSION;
	return commit(&txn, changes_begin(&txn));
}

/* What an older version wrote from here on would be missing in log and order, so it must refuse. */
static int upgrade_store(struct gallery_store *store)
{
	struct store_record record;
	struct bytes value;
	struct db_txn txn;
	int error = db_begin_write(store->db, &txn);

	if (error)
		return error;
	if (!db_get(&txn, DB_META, store_key(), &value)) {
		db_abort(&txn);
		return BM_ECORRUPT;
	}
	memcpy(&record, value.data, sizeof(record));
	record.version = STORE_VERSION;
	record.sum = record_sum(&record, sizeof(record));
	db_put(&txn, DB_META, store_key(),
	       (struct bytes){(const uint8_t *)&record, sizeof(record)});
	error = changes_exist(&txn) ? 0 : changes_begin(&txn);
	if (!error)
		error = expiry_build(&txn);
	error = commit(&txn, error);
	if (!error)
		log_notice("store_upgraded", "from=%u to=%u", store->version, STORE_VERSION);
	store->version = STORE_VERSION;
	return error;
}

static int open_store(struct gallery_store *store)
{
	struct db_txn txn;
	struct bytes value;
	int error = db_begin_read(store->db, &txn);

	if (error)
		return error;
	if (db_get(&txn, DB_META, store_key(), &value)) {
		error = check_store(store, value);
		db_abort(&txn);
		if (!error && store->version < STORE_VERSION && !db_is_read_only(store->db))
			error = upgrade_store(store);
		return error;
	}
	error = txn.error;
	db_abort(&txn);
	return error ? error : make_store(store);
}

static int prepare_rotation(struct gallery_store *store, struct gallery_snapshot *snapshot,
			    const char *name)
{
	struct gallery_record gallery;
	unsigned oldest, newest;
	int error = record_find(&snapshot->txn, name, &gallery);

	if (!error)
		error = reencode_check_keys(store, &snapshot->txn, &gallery);
	if (error || !gallery.encounters)
		return error;
	oldest = row_generation(rows_first(&snapshot->txn, &gallery));
	newest = row_generation(gallery.next_row);
	error = rotation_prepare(store, gallery.id, newest, gallery.dim);
	if (!error && oldest != newest)
		error = rotation_prepare(store, gallery.id, oldest, gallery.dim);
	return error;
}

/*
 * Before the first call, since making a rotation takes as long as a hundred searches.
 * A gallery that holds nothing yet gets its own with its first encounter. BM_EKEY
 * where a gallery is under a key that is not there; whoever asks for one that cannot
 * be read is told then.
 */
static int prepare_rotations(struct gallery_store *store)
{
	struct gallery_info gallery = {0};
	struct gallery_snapshot *snapshot;
	size_t n = 1;
	int error = gallery_snapshot_open(store, &snapshot);

	if (error)
		return error;
	while (!error && n) {
		error = gallery_list(snapshot, gallery.name, &gallery, 1, &n);
		if (!error && n)
			error = prepare_rotation(store, snapshot, gallery.name);
	}
	gallery_snapshot_close(snapshot);
	return error == BM_EKEY || error == BM_ENOMEM ? error : 0;
}

int gallery_store_open(struct db *db, const struct keys *keys, const struct pack *pack,
		       struct gallery_store **out)
{
	struct gallery_store *store = calloc(1, sizeof(*store));
	int error;

	if (!store)
		return BM_ENOMEM;
	store->db = db;
	store->keys = keys;
	store->pack = pack;
	store->segment_rows = SEGMENT_ROWS;
	pthread_mutex_init(&store->lock, NULL);
	error = open_store(store);
	if (!error)
		error = prepare_rotations(store);
	if (error) {
		gallery_store_close(store);
		return error;
	}
	*out = store;
	return 0;
}

void gallery_store_set_segment_rows(struct gallery_store *store, uint32_t rows)
{
	assert(rows >= PART_ROWS && rows <= SEGMENT_ROWS && rows % PART_ROWS == 0);
	store->segment_rows = rows;
}

void gallery_store_set_following(struct gallery_store *store, bool following)
{
	store->following = following;
}

void gallery_store_close(struct gallery_store *store)
{
	if (!store)
		return;
	rotations_free(store);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

int gallery_snapshot_open(struct gallery_store *store, struct gallery_snapshot **out)
{
	struct gallery_snapshot *snapshot = malloc(sizeof(*snapshot));
	int error;

	if (!snapshot)
		return BM_ENOMEM;
	snapshot->store = store;
	error = db_begin_read(store->db, &snapshot->txn);
	if (error) {
		free(snapshot);
		return error;
	}
	*out = snapshot;
	return 0;
}

void gallery_snapshot_close(struct gallery_snapshot *snapshot)
{
	if (!snapshot)
		return;
	db_abort(&snapshot->txn);
	free(snapshot);
}

int store_take_gallery_id(struct db_txn *txn, uint32_t *id)
{
	struct store_record record;
	struct bytes value;

	if (!db_get(txn, DB_META, store_key(), &value))
		return txn->error ? txn->error : BM_ECORRUPT;
	if (record_check(value, sizeof(record)))
		return BM_ECORRUPT;
	memcpy(&record, value.data, sizeof(record));
	*id = record.next_gallery++;
	record.sum = record_sum(&record, sizeof(record));
	db_put(txn, DB_META, store_key(), (struct bytes){(const uint8_t *)&record, sizeof(record)});
	return txn->error;
}
