#include "grpc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/clock.h"

#define TIMEOUT_DIGITS 8
/* The first allocation for a message; from there on it doubles. */
#define FIRST_ROOM (64 * 1024)

int grpc_timeout_parse(const char *s, size_t len, int64_t *ns)
{
	static const struct {
		char unit;
		int64_t ns;
	} units[] = {
		{'n', 1},
		{'u', CLOCK_NS_PER_US},
		{'m', CLOCK_NS_PER_MS},
		{'S', CLOCK_NS_PER_SEC},
		{'M', 60 * CLOCK_NS_PER_SEC},
		{'H', 3600 * CLOCK_NS_PER_SEC},
	};
	int64_t value = 0;

	if (len < 2 || len > TIMEOUT_DIGITS + 1)
		return BM_EINVAL;
	for (size_t i = 0; i < len - 1; i++) {
		if (s[i] < '0' || s[i] > '9')
			return BM_EINVAL;
		value = value * 10 + (s[i] - '0');
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].unit != s[len - 1])
			continue;
		if (__builtin_mul_overflow(value, units[i].ns, ns))
			*ns = INT64_MAX;
		return 0;
	}
	return BM_EINVAL;
}

bool grpc_content_type(const char *s, size_t len)
{
	static const char base[] = "application/grpc";
	size_t n = sizeof(base) - 1;

	return len >= n && !memcmp(s, base, n) && (len == n || s[n] == '+' || s[n] == ';');
}

char *grpc_message_encode(const char *s, size_t max)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *end = s + strnlen(s, max);
	char *out = malloc(3 * (size_t)(end - s) + 1), *p = out;

	if (!out)
		return NULL;
	for (; s < end; s++) {
		unsigned char c = (unsigned char)*s;

		if (c >= 0x20 && c <= 0x7e && c != '%') {
			*p++ = (char)c;
		} else {
			*p++ = '%';
			*p++ = digits[c >> 4];
			*p++ = digits[c & 15];
		}
	}
	*p = '\0';
	return out;
}

char *grpc_binary_encode(const uint8_t *data, size_t len)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *out = malloc((len + 2) / 3 * 4 + 1), *p = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i += 3) {
		size_t left = len - i;
		uint32_t v = (uint32_t)data[i] << 16;

		if (left > 1)
			v |= (uint32_t)data[i + 1] << 8;
		if (left > 2)
			v |= data[i + 2];
		*p++ = alphabet[v >> 18];
		*p++ = alphabet[v >> 12 & 63];
		if (left > 1)
			*p++ = alphabet[v >> 6 & 63];
		if (left > 2)
			*p++ = alphabet[v & 63];
	}
	*p = '\0';
	return out;
}

static bool lower_hex(const char *s, size_t len)
{
	return strspn(s, "0123456789abcdef") >= len;
}

bool grpc_traceparent_valid(const char *s, size_t len)
{
	char text[56];

	if (len != 55)
		return false;
	memcpy(text, s, len);
	text[len] = '\0';
	return !memcmp(text, "00-", 3) && lower_hex(text + 3, 32) && text[35] == '-' &&
	       lower_hex(text + 36, 16) && text[52] == '-' && lower_hex(text + 53, 2) &&
	       strspn(text + 3, "0") < 32 && strspn(text + 36, "0") < 16;
}

/* Up to the whole message; a plain realloc would leave the old bytes behind. */
static int reader_grow(struct grpc_reader *reader)
{
	size_t room = reader->room ? 2 * reader->room : FIRST_ROOM;
	uint8_t *data;

	if (room > reader->len)
		room = reader->len ? reader->len : 1;
	assert(room > reader->filled);
	data = malloc(room);
	if (!data)
		return BM_ENOMEM;
	if (reader->data) {
		memcpy(data, reader->data, reader->filled);
		bytes_wipe(reader->data, reader->filled);
		free(reader->data);
	}
	reader->data = data;
	reader->room = room;
	return 0;
}

static size_t take(struct bytes *in, uint8_t *to, size_t want)
{
	size_t n = in->len < want ? in->len : want;

	if (!n)
		return 0;
	assert(to);
	memcpy(to, in->data, n);
	in->data += n;
	in->len -= n;
	return n;
}

static int begin_message(struct grpc_reader *reader)
{
	reader->len = bytes_get_be32(reader->prefix + 1);
	reader->filled = 0;
	if (reader->prefix[0] > 1)
		return BM_EPROTO;
	if (reader->prefix[0])
		return BM_EUNIMPL;
	if (reader->len > reader->max_message)
		return BM_ETOOBIG;
	return 0;
}

int grpc_reader_take(struct grpc_reader *reader, struct bytes *in, uint8_t **data, size_t *len)
{
	int error;

	if (reader->prefix_len < GRPC_PREFIX) {
		reader->prefix_len += take(in, reader->prefix + reader->prefix_len,
					   GRPC_PREFIX - reader->prefix_len);
		if (reader->prefix_len < GRPC_PREFIX)
			return 0;
		error = begin_message(reader);
		if (error)
			return error;
	}
	while (!reader->data || reader->filled < reader->len) {
		if (reader->len && !in->len)
			return 0;
		if (reader->filled == reader->room) {
			error = reader_grow(reader);
			if (error)
				return error;
		}
		reader->filled += take(in, reader->data + reader->filled,
				       (reader->room < reader->len ? reader->room : reader->len) -
					       reader->filled);
	}
	*data = reader->data;
	*len = reader->len;
	reader->data = NULL;
	reader->prefix_len = reader->room = 0;
	return 1;
}

bool grpc_reader_inside(const struct grpc_reader *reader)
{
	return reader->prefix_len > 0;
}

void grpc_reader_deinit(struct grpc_reader *reader)
{
	if (reader->data)
		bytes_wipe(reader->data, reader->filled);
	free(reader->data);
	reader->data = NULL;
	reader->prefix_len = reader->filled = reader->room = 0;
}
