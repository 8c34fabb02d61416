#include "record.h"

static struct record_key gallery_key(uint32_t gallery)
{
	struct record_key key = {.len = 4};

	bytes_put_be32(key.data, gallery);
	return key;
}

struct record_key subject_key(uint32_t gallery, const uint8_t pseudonym[KEYS_PSEUDONYM_LEN])
{
	struct record_key key = gallery_key(gallery);

	memcpy(key.data + key.len, pseudonym, KEYS_PSEUDONYM_LEN);
	key.len += KEYS_PSEUDONYM_LEN;
	return key;
}

struct record_key row_key(uint32_t gallery, uint64_t row)
{
	struct record_key key = gallery_key(gallery);

	bytes_put_be64(key.data + key.len, row);
	key.len += 8;
	return key;
}

struct record_key plane_key(uint32_t gallery, uint64_t last_row, enum plane plane, uint32_t part)
{
	struct record_key key = row_key(gallery, last_row);

	key.data[key.len++] = (uint8_t)plane;
	bytes_put_be32(key.data + key.len, part);
	key.len += 4;
	return key;
}

bool key_in_gallery(struct bytes key, uint32_t gallery)
{
	return key.len >= 12 && bytes_get_be32(key.data) == gallery;
}

uint64_t key_row(struct bytes key)
{
	return bytes_get_be64(key.data + 4);
}

uint64_t record_sum(const void *record, size_t len)
{
	return bytes_checksum((const uint8_t *)record + sizeof(uint64_t), len - sizeof(uint64_t));
}

int record_check(struct bytes value, size_t min)
{
	uint64_t sum;

	if (value.len < min)
		return BM_ECORRUPT;
	memcpy(&sum, value.data, sizeof(sum));
	return sum == record_sum(value.data, value.len) ? 0 : BM_ECORRUPT;
}

void text_load(char *to, const char *from, size_t max)
{
	memcpy(to, from, max);
	to[max] = '\0';
}

void text_store(char *to, const char *from, size_t max)
{
	size_t len = strlen(from);

	memset(to, 0, max);
	memcpy(to, from, len < max ? len : max);
}
