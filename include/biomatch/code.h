/*
 * Compact codes of templates, and the bounds that let a search leave out rows
 * by their codes without ever leaving out a candidate (docs/identify.md).
 *
 * A sealed segment keeps two planes beside its float32 rows: one sign bit for
 * each element, and four bits for each element. Scanning them tells which rows
 * could reach a bar; only those rows are then scored from float32 by the caller,
 * so results are those of an exhaustive scan.
 *
 * Templates are of unit length within 1e-5 and stand under a rotation drawn at
 * random for their gallery; the probe under the same.
 *
 * Thread: any, after score_init; a query belongs to one thread at a time, while
 * a probe and a segment may be shared. Nothing is allocated.
 * Shapes: dim is a multiple of 16 and at most CODE_MAX_DIM.
 * Owns: nothing. A probe is as secret as its template: wipe it.
 */
#ifndef BIOMATCH_CODE_H
#define BIOMATCH_CODE_H

#include <stddef.h>
#include <stdint.h>

#define CODE_MAX_DIM    1024
#define CODE_MAX_ROWS   65536 /* of a segment */
#define CODE_MAX_PROBES 16    /* of a pass */
#define CODE_ALIGN      64    /* of planes and probes */

/* Bytes of the planes of a segment; multiples of CODE_ALIGN. */
size_t code_sign_bytes(size_t rows, size_t dim);
size_t code_nibble_bytes(size_t rows, size_t dim);
/*
 * Writes the codes of templates, dim floats apart, into rows first..first + n - 1
 * of both planes, which were all zero before.
 */
void code_encode(const float *templates, size_t first, size_t n, size_t dim, void *signs,
		 void *nibbles);

/* Forgets a row: its codes are zero again, as if it had never been encoded. */
void code_erase(size_t row, size_t dim, void *signs, void *nibbles);

enum code_mode {
	CODE_CERTIFIED, /* four bits alone: a candidate is never left out */
	CODE_FAST,      /* sign bits first: one is left out with a chance below 1e-8 */
};

/* A probe made ready for any number of scans. The fields are the module's. */
struct code_probe {
	size_t dim;
	double sign_rho, nibble_rho;   /* cosines of the probe with its two integer forms */
	double sign_norm, nibble_norm; /* lengths of those */
	int32_t sign_sum;              /* of magnitudes */
	int32_t nibble_sum;            /* of values */
	/* Sums of agreeing magnitudes by code bits: of six elements, and of four. */
	_Alignas(CODE_ALIGN) uint8_t by_six[CODE_MAX_DIM / 24 * 4][64];
	_Alignas(CODE_ALIGN) uint8_t by_four[CODE_MAX_DIM / 4][16];
	_Alignas(CODE_ALIGN) int8_t halves[2][CODE_MAX_DIM / 2];
};

void code_probe_init(struct code_probe *probe, const float *vector, size_t dim);

/* The planes of one segment, borrowed for a scan. */
struct code_segment {
	const void *signs, *nibbles;
	const uint64_t *live; /* a bit for each row, those to leave out 0; NULL for all rows */
	size_t rows;
};

/* One probe on its way through the segments of a gallery. */
struct code_query {
	const struct code_probe *probe;
	enum code_mode mode;
	float bar;      /* rows that score below it are of no use; may rise on the way */
	uint16_t *rows; /* room for the rows of the largest segment */
	size_t n;       /* rows found by the last scan */
	unsigned rest;  /* scans to go without sign bits; 0 at the start */
	/* Rows that were left by each stage so far, for the metrics; 0 at the start. */
	uint64_t seen, by_signs, by_nibbles;
};

/*
 * Finds for each of m queries the live rows that could score its bar or more, in
 * ascending order: all that do, and few that do not.
 */
void code_scan(const struct code_segment *segment, struct code_query *queries, size_t m);

#endif
