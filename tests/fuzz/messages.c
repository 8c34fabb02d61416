/*
 * Requests of every RPC, and the details of a server's error: scanned, unpacked,
 * and packed again. The first byte says which.
 */
#include "../../src/service/call.h"
#include "fuzz.h"

#define MEMORY ((size_t)24 << 20)

static const ProtobufCMessageDescriptor *pick(uint8_t which)
{
	unsigned n = 0;

	while (service_rpcs[n])
		n++;
	which %= n + 1;
	return which < n ? service_rpcs[which]->request : NULL;
}

static void read_details(struct bytes in)
{
	struct wire_told told;
	struct arena arena;

	arena_init(&arena, 1 << 20);
	if (!wire_unpack_error(in, &arena, &told))
		REQUIRE(told.message && told.reason && told.field);
	arena_deinit(&arena);
}

/* What was taken can be told again, and is then taken again. */
static void read_request(const ProtobufCMessageDescriptor *type, struct bytes in)
{
	ProtobufCMessage *message, *again;
	struct arena arena;
	uint8_t *data;
	size_t len;
	int error;

	arena_init(&arena, MEMORY);
	error = wire_unpack(type, &arena, in, &message);
	REQUIRE(!error || error == BM_EPROTO || error == BM_ETOOBIG);
	REQUIRE(arena.used <= MEMORY);
	if (!error) {
		REQUIRE(!wire_pack(message, &data, &len));
		arena_reset(&arena);
		error = wire_unpack(type, &arena, (struct bytes){data, len}, &again);
		REQUIRE(!error || error == BM_ETOOBIG);
		free(data);
	}
	arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *type;

	if (!size)
		return 0;
	type = pick(*data);
	if (type)
		read_request(type, (struct bytes){data + 1, size - 1});
	else
		read_details((struct bytes){data + 1, size - 1});
	return 0;
}
