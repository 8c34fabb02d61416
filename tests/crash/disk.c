#include "disk.h"

#include <stdlib.h>
#include <string.h>

#include "biomatch/file.h"

#define LOG_MAX ((size_t)1 << 30)

static uint64_t draw(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

/* Every record whole: then the walk needs no checks. Gives the number of writes, or -1. */
static long count_writes(const struct disk *disk)
{
	struct shim_record record;
	long n = 0;

	for (size_t at = 0; at < disk->log_len; at += sizeof(record) + record.len) {
		if (disk->log_len - at < sizeof(record))
			return -1;
		memcpy(&record, disk->log + at, sizeof(record));
		if (disk->log_len - at - sizeof(record) < record.len)
			return -1;
		n += record.kind == SHIM_WRITE || record.kind == SHIM_SYNCED;
	}
	return n;
}

bool disk_open(struct disk *disk, const char *log, enum disk_lie lie)
{
	long writes;

	*disk = (struct disk){.lie = lie};
	if (file_read(log, LOG_MAX, &disk->log, &disk->log_len))
		return false;
	writes = count_writes(disk);
	if (writes > 0)
		disk->pending = calloc((size_t)writes, sizeof(*disk->pending));
	if (disk->pending)
		return true;
	disk_close(disk);
	return false;
}

void disk_close(struct disk *disk)
{
	free(disk->log);
	free(disk->durable);
	free(disk->pending);
}

bool disk_begin(struct disk *disk, struct shim_record *record, const uint8_t **data)
{
	if (disk->at == disk->log_len)
		return false;
	memcpy(record, disk->log + disk->at, sizeof(*record));
	*data = disk->log + disk->at + sizeof(*record);
	disk->at += sizeof(*record) + record->len;
	/* The store only ever grows; a disk that shrinks it would need another model. */
	if (record->kind == SHIM_TRUNCATE)
		abort();
	if (record->kind == SHIM_WRITE || record->kind == SHIM_SYNCED)
		disk->pending[disk->n_pending++] =
			(struct disk_write){record->offset, *data, record->len, false};
	return true;
}

/* Grows a disk's contents to len bytes; what was never written reads as zero. */
static void grow(uint8_t **contents, size_t *len, size_t to)
{
	if (to <= *len)
		return;
	*contents = realloc(*contents, to);
	if (!*contents)
		abort();
	memset(*contents + *len, 0, to - *len);
	*len = to;
}

static void flush(struct disk *disk)
{
	for (size_t i = 0; i < disk->n_pending; i++) {
		const struct disk_write *w = &disk->pending[i];

		grow(&disk->durable, &disk->durable_len, w->offset + w->len);
		memcpy(disk->durable + w->offset, w->data, w->len);
	}
	disk->n_pending = 0;
}

void disk_finish(struct disk *disk, const struct shim_record *record)
{
	if (record->kind == SHIM_SYNCED && disk->lie != DISK_DROPS_DSYNC)
		disk->pending[disk->n_pending - 1].must = true;
	if (record->kind == SHIM_SYNC && disk->lie != DISK_DROPS_SYNC)
		flush(disk);
}

/* How a power cut chooses among the writes that were under way. */
enum choice { NOTHING, ALL, PREFIX, ALL_BUT_ONE, ONLY_ONE, WRITES, SECTORS, CHOICES };

static bool write_is_chosen(enum choice choice, size_t i, size_t mark, uint64_t *random)
{
	switch (choice) {
	case NOTHING:
		return false;
	case PREFIX:
		return i <= mark;
	case ALL_BUT_ONE:
		return i != mark;
	case ONLY_ONE:
		return i == mark;
	case WRITES:
		return draw(random) & 1;
	default:
		return true;
	}
}

/* Sectors stand on the disk, not in the write: its first and last may be parts. */
static void put_sectors(uint8_t **image, size_t *len, const struct disk_write *w, unsigned odds,
			uint64_t *random)
{
	uint64_t end = w->offset + w->len, to;

	for (uint64_t from = w->offset; from < end; from = to) {
		to = (from / DISK_SECTOR + 1) * DISK_SECTOR;
		if (to > end)
			to = end;
		if (draw(random) % 8 >= odds)
			continue;
		grow(image, len, to);
		memcpy(*image + from, w->data + (from - w->offset), to - from);
	}
}

uint8_t *disk_image(const struct disk *disk, uint64_t *random, size_t *len)
{
	enum choice choice = (enum choice)(draw(random) % CHOICES);
	size_t mark = disk->n_pending ? draw(random) % disk->n_pending : 0;
	unsigned odds = choice == SECTORS ? 1 + (unsigned)(draw(random) % 7) : 8;
	uint8_t *image = NULL;

	*len = 0;
	grow(&image, len, disk->durable_len);
	if (disk->durable_len)
		memcpy(image, disk->durable, disk->durable_len);
	for (size_t i = 0; i < disk->n_pending; i++) {
		const struct disk_write *w = &disk->pending[i];

		if (w->must)
			put_sectors(&image, len, w, 8, random);
		else if (write_is_chosen(choice, i, mark, random))
			put_sectors(&image, len, w, odds, random);
	}
	return image;
}
