/*
 * Strict reading of numbers, sizes and durations written by people: the whole
 * text must be the value, in decimal, inside its range. "8443x", "020", "1e3"
 * (for an integer), "" and " 1" are refused.
 *
 * Thread: any.  Errors: BM_EINVAL.
 */
#ifndef BIOMATCH_PARSE_H
#define BIOMATCH_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "biomatch/error.h"

/* Decimal digits without sign or leading zero. */
int parse_uint(const char *s, uint64_t min, uint64_t max, uint64_t *out) BM_MUST_CHECK;
/* A decimal fraction or scientific number: "0.001", "1e-3", "-2.5". */
int parse_double(const char *s, double min, double max, double *out) BM_MUST_CHECK;
/* "true" or "false". */
int parse_bool(const char *s, bool *out) BM_MUST_CHECK;
/* Bytes: digits with "KiB", "MiB", "GiB", "TiB" or nothing behind them. */
int parse_size(const char *s, uint64_t min, uint64_t max, uint64_t *out) BM_MUST_CHECK;
/* A duration in milliseconds: digits with "ms", "s", "m", "h" or "d". */
int parse_duration_ms(const char *s, uint64_t min, uint64_t max, uint64_t *out) BM_MUST_CHECK;

#define PARSE_HOST_MAX 127
/* "host:port" to listen at: an IPv6 host in brackets, or no host for every address. */
int parse_address(const char *s, char host[PARSE_HOST_MAX + 1], uint16_t *port) BM_MUST_CHECK;

#endif
