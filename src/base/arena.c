#include "biomatch/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"

#define ARENA_ALIGN 64
/* Large enough that a call without pictures needs one block. */
#define ARENA_BLOCK (16 * 1024)

struct arena_block {
	struct arena_block *next;
	size_t size, used; /* of data */
	_Alignas(ARENA_ALIGN) uint8_t data[];
};

void arena_init(struct arena *a, size_t limit)
{
	*a = (struct arena){.limit = limit};
}

static struct arena_block *block_new(size_t size)
{
	size_t total = sizeof(struct arena_block) + (size < ARENA_BLOCK ? ARENA_BLOCK : size);
	struct arena_block *block;

	total = (total + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	block = aligned_alloc(ARENA_ALIGN, total);
	if (!block)
		return NULL;
	block->next = NULL;
	block->size = total - sizeof(*block);
	block->used = 0;
	return block;
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t rounded = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	struct arena_block *block = a->head;
	void *p;

	if (rounded < size || rounded > a->limit - a->used)
		return NULL;
	if (!block || block->size - block->used < rounded) {
		block = block_new(rounded);
		if (!block)
			return NULL;
		block->next = a->head;
		a->head = block;
	}
	p = block->data + block->used;
	block->used += rounded;
	a->used += rounded;
	return memset(p, 0, rounded);
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *copy = len < SIZE_MAX ? arena_alloc(a, len + 1) : NULL;

	if (copy && len)
		memcpy(copy, s, len);
	return copy;
}

void arena_reset(struct arena *a)
{
	while (a->head) {
		struct arena_block *block = a->head;

		a->head = block->next;
		bytes_wipe(block->data, block->used);
		free(block);
	}
	a->used = 0;
}

void arena_deinit(struct arena *a)
{
	arena_reset(a);
}
