/*
 * Memory of one request: allocated piece by piece, wiped and given back whole.
 * Embeddings, subject ids and images live here, so every byte is overwritten
 * before it returns to the allocator.
 *
 * Thread: one at a time; an arena moves with its request.
 * Errors: an allocation that fails returns NULL.
 * Owns: all memory handed out, until arena_reset or arena_deinit.
 */
#ifndef BIOMATCH_ARENA_H
#define BIOMATCH_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *head;
	size_t used;  /* bytes handed out */
	size_t limit; /* bytes it may hand out in all */
};

/* An empty arena that hands out at most limit bytes. */
void arena_init(struct arena *a, size_t limit);
/* size bytes, zeroed, aligned to 64; NULL when the limit or memory is reached. */
void *arena_alloc(struct arena *a, size_t size);
/* A copy of len bytes with a NUL behind them. */
char *arena_strndup(struct arena *a, const char *s, size_t len);
/* Wipes and frees everything; the arena can be used again. */
void arena_reset(struct arena *a);
/* As arena_reset; named for the end of an arena's life. */
void arena_deinit(struct arena *a);

#endif
