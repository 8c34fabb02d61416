/*
 * What a daemon's operators' port tells at one moment: the page of metrics, taken
 * over HTTP and cut into samples.
 */
#ifndef CLI_READING_H
#define CLI_READING_H

#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"

#define READING_LABEL_MAX 160 /* bytes of a label's value, escaped */

/* One line: "name{labels} value"; labels as they are written, "" for none. */
struct sample {
	const char *name, *labels;
	double value;
};

struct reading {
	char *text; /* what the samples point into */
	struct sample *samples;
	size_t n;
	int64_t at_ms; /* wall clock */
};

/*
 * Asks host and port, allowing each wait this time. BM_ENOMEM, BM_ENET where nobody
 * answers, BM_EINVAL where the answer is no page of metrics.
 */
int reading_take(const char *host, uint16_t port, uint32_t timeout_ms,
		 struct reading *out) BM_MUST_CHECK;
/* Cuts text, which is malloc'ed and becomes the reading's, also on failure. */
int reading_parse(char *text, struct reading *out) BM_MUST_CHECK;
void reading_deinit(struct reading *reading);

/* The sum of a family's samples with these labels: name, value pairs that end with NULL, or NULL.
 */
double reading_sum(const struct reading *reading, const char *name, const char *const *wanted);
/* The value of a label, "" where the sample has it not. */
void reading_label(const struct sample *sample, const char *name, char out[READING_LABEL_MAX]);

#endif
