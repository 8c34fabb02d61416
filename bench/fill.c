#include "fill.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/clock.h"
#include "biomatch/gallery.h"
#include "remote.h"
#include "set.h"

static void put(struct gallery_store *store, struct db_txn *txn, const struct set *set,
		const char *gallery, size_t i)
{
	struct gallery_outcome outcome;
	char subject[32];
	float v[CODE_MAX_DIM];
	struct gallery_change change = {.kind = GALLERY_PUT,
					.now_ms = clock_wall_ms(),
					.gallery = gallery,
					.subject = subject,
					.embedding = v,
					.dim = set->dim,
					.encounter = {.id = "e", .expires_ms = GALLERY_NEVER}};

	snprintf(subject, sizeof(subject), "s%zu", i);
	set_draw(set, i, v);
	must(gallery_apply(store, txn, &change, &outcome), "put");
}

static void fill_gallery(struct gallery_store *store, struct db *db, const struct set *set,
			 const char *gallery, size_t n)
{
	struct gallery_change create = {
		.kind = GALLERY_CREATE, .now_ms = clock_wall_ms(), .gallery = gallery};
	struct gallery_outcome outcome;
	struct db_txn txn;

	must(db_begin_write(db, &txn), "begin");
	must(gallery_apply(store, &txn, &create, &outcome), "create");
	must(db_commit(&txn), "commit");
	for (size_t i = 0; i < n;) {
		size_t end = i + SET_SEGMENT_ROWS < n ? i + SET_SEGMENT_ROWS : n;
		bool more = true;

		must(db_begin_write(db, &txn), "begin");
		for (; i < end; i++)
			put(store, &txn, set, gallery, i);
		while (more)
			must(gallery_maintain(store, &txn, &more), "upkeep");
		must(db_commit(&txn), "commit");
	}
}

void fill_store(const char *dir, const char *key, const char *pack_dir, char *galleries)
{
	char message[PACK_MESSAGE_LEN] = "";
	struct gallery_store *store;
	struct pack *pack;
	struct keys *keys;
	struct db *db;
	struct set set = {.spread = SET_SPREAD};

	must(pack_open(pack_dir, true, &pack, message), message);
	must(keys_open(key, &keys), key);
	must(db_open(dir, UINT64_C(64) << 30, 64, &db, message), message);
	must(gallery_store_open(db, keys, pack, &store), "store");
	set.dim = pack->dim;
	for (char *name = strtok(galleries, ","); name; name = strtok(NULL, ",")) {
		char *colon = strchr(name, ':');

		must(colon ? 0 : BM_EINVAL, name);
		*colon = '\0';
		fill_gallery(store, db, &set, name, strtoul(colon + 1, NULL, 10));
	}
	gallery_store_close(store);
	db_close(db);
	keys_close(keys);
	pack_close(pack);
}
