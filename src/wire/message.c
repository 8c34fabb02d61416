#include <stdbool.h>
#include <stdlib.h>

#include "biomatch/wire.h"

/* Lends an arena to protobuf-c, which frees piece by piece; the arena does it whole. */
struct pool {
	struct arena *arena;
	bool limit_reached, failed;
};

static void *pool_alloc(void *data, size_t size)
{
	struct pool *pool = data;
	void *p = arena_alloc(pool->arena, size);

	if (!p) {
		pool->failed = true;
		pool->limit_reached |= size > pool->arena->limit - pool->arena->used;
	}
	return p;
}

static void pool_free(void *data, void *p)
{
	(void)data;
	(void)p;
}

int wire_unpack(const ProtobufCMessageDescriptor *type, struct arena *arena, struct bytes data,
		ProtobufCMessage **out)
{
	struct pool pool = {.arena = arena};
	ProtobufCAllocator allocator = {pool_alloc, pool_free, &pool};
	int error = wire_scan(type, data);

	if (error)
		return error;
	*out = protobuf_c_message_unpack(type, &allocator, data.len, data.data);
	if (*out)
		return 0;
	if (pool.failed)
		return pool.limit_reached ? BM_ETOOBIG : BM_ENOMEM;
	return BM_EPROTO;
}

int wire_pack(const ProtobufCMessage *message, uint8_t **data, size_t *len)
{
	size_t size = protobuf_c_message_get_packed_size(message);

	/* gRPC tells the length in four bytes. */
	if (size > UINT32_MAX)
		return BM_ETOOBIG;
	*data = malloc(size ? size : 1);
	if (!*data)
		return BM_ENOMEM;
	*len = protobuf_c_message_pack(message, *data);
	return 0;
}
