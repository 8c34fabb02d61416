/* The reader that cuts bytes into gRPC messages, against a second one that has all bytes at once.
 */
#include "../../src/net/grpc.h"
#include "fuzz.h"

#define MAX_MESSAGE 100000

/* What the whole input says, message by message: 0 at its end. */
static int next(struct bytes *in, struct bytes *message)
{
	uint32_t len;

	if (in->len < GRPC_PREFIX)
		return 0;
	len = bytes_get_be32(in->data + 1);
	if (in->data[0] > 1)
		return BM_EPROTO;
	if (in->data[0])
		return BM_EUNIMPL;
	if (len > MAX_MESSAGE)
		return BM_ETOOBIG;
	if (in->len - GRPC_PREFIX < len)
		return 0;
	*message = (struct bytes){in->data + GRPC_PREFIX, len};
	in->data += GRPC_PREFIX + len;
	in->len -= GRPC_PREFIX + len;
	return 1;
}

/* In pieces whose lengths come from the input, too. */
static void read_in_pieces(const uint8_t *lengths, size_t n, struct bytes all)
{
	struct grpc_reader reader = {.max_message = MAX_MESSAGE};
	struct bytes rest = all, message = {0};
	int expected = next(&rest, &message), got = 0;

	for (size_t i = 0; all.len && got >= 0; i++) {
		size_t len = lengths[i % n] + 1u;
		struct bytes piece = {all.data, len < all.len ? len : all.len};
		uint8_t *data;

		all.data += piece.len;
		all.len -= piece.len;
		while ((got = grpc_reader_take(&reader, &piece, &data, &len)) == 1) {
			REQUIRE(expected == 1);
			REQUIRE(len == message.len && !memcmp(data, message.data, len));
			free(data);
			expected = next(&rest, &message);
		}
		REQUIRE(reader.room <= MAX_MESSAGE + 1);
	}
	REQUIRE(got == expected || (got == 0 && expected <= 0));
	if (got == 0)
		REQUIRE(expected == 0 && grpc_reader_inside(&reader) == (rest.len > 0));
	grpc_reader_deinit(&reader);
}

static void read_headers(const char *s, size_t len)
{
	char *text = strndup(s, len), *encoded = grpc_message_encode(text, 100);
	int64_t ns;

	REQUIRE(encoded && strlen(encoded) <= 300);
	for (const char *p = encoded; *p; p++)
		REQUIRE(*p >= 0x20 && *p <= 0x7e);
	free(encoded);
	free(text);
	if (!grpc_timeout_parse(s, len, &ns))
		REQUIRE(ns >= 0 && len <= 9);
	if (grpc_content_type(s, len))
		REQUIRE(len >= 16);
	if (grpc_traceparent_valid(s, len))
		REQUIRE(len == 55);
	encoded = grpc_binary_encode((const uint8_t *)s, len);
	REQUIRE(encoded && strlen(encoded) == (len * 4 + 2) / 3);
	free(encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 4)
		return 0;
	read_in_pieces(data, 4, (struct bytes){data + 4, size - 4});
	read_headers((const char *)data, size);
	return 0;
}
