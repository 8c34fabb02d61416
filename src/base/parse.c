#include "biomatch/parse.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Digits up to the end or a suffix; *rest is what follows them. */
static int parse_digits(const char *s, uint64_t *out, const char **rest)
{
	uint64_t v = 0;
	const char *p = s;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return BM_EINVAL;
	}
	if (p == s || (s[0] == '0' && p - s > 1))
		return BM_EINVAL;
	*out = v;
	*rest = p;
	return 0;
}

static int in_range(uint64_t v, uint64_t min, uint64_t max, uint64_t *out)
{
	if (v < min || v > max)
		return BM_EINVAL;
	*out = v;
	return 0;
}

int parse_uint(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	const char *rest;
	uint64_t v;

	if (parse_digits(s, &v, &rest) || *rest)
		return BM_EINVAL;
	return in_range(v, min, max, out);
}

int parse_double(const char *s, double min, double max, double *out)
{
	char *end;
	double v;

	/* strtod also takes spaces, hexadecimal, "inf" and "nan". */
	if (!*s || s[strspn(s, "0123456789+-.eE")])
		return BM_EINVAL;
	errno = 0;
	v = strtod(s, &end);
	if (errno || *end || !isfinite(v) || v < min || v > max)
		return BM_EINVAL;
	*out = v;
	return 0;
}

int parse_bool(const char *s, bool *out)
{
	if (strcmp(s, "true") && strcmp(s, "false"))
		return BM_EINVAL;
	*out = s[0] == 't';
	return 0;
}

struct unit {
	const char *suffix;
	uint64_t factor;
};

static int parse_with_unit(const char *s, const struct unit *units, size_t n, uint64_t min,
			   uint64_t max, uint64_t *out)
{
	const char *rest;
	uint64_t v;

	if (parse_digits(s, &v, &rest))
		return BM_EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(rest, units[i].suffix)) {
			if (__builtin_mul_overflow(v, units[i].factor, &v))
				return BM_EINVAL;
			return in_range(v, min, max, out);
		}
	}
	return BM_EINVAL;
}

int parse_size(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	static const struct unit units[] = {
		{"", 1},
		{"KiB", UINT64_C(1) << 10},
		{"MiB", UINT64_C(1) << 20},
		{"GiB", UINT64_C(1) << 30},
		{"TiB", UINT64_C(1) << 40},
	};

	return parse_with_unit(s, units, sizeof(units) / sizeof(units[0]), min, max, out);
}

int parse_duration_ms(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	static const struct unit units[] = {
		{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 86400 * 1000},
	};

	return parse_with_unit(s, units, sizeof(units) / sizeof(units[0]), min, max, out);
}

int parse_address(const char *s, char host[PARSE_HOST_MAX + 1], uint16_t *port)
{
	const char *colon = strrchr(s, ':');
	size_t len = colon ? (size_t)(colon - s) : 0;
	uint64_t number;

	if (!colon || parse_uint(colon + 1, 0, UINT16_MAX, &number) || len > PARSE_HOST_MAX)
		return BM_EINVAL;
	if (len > 2 && s[0] == '[' && s[len - 1] == ']') {
		s++;
		len -= 2;
	}
	memcpy(host, s, len);
	host[len] = '\0';
	*port = (uint16_t)number;
	return 0;
}
