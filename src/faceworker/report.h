/*
 * What may be believed of a face worker: hostile pictures ran in it, so its answer
 * and its report are looked at before anything is done with them.
 */
#ifndef FACEWORKER_REPORT_H
#define FACEWORKER_REPORT_H

#include <stdbool.h>

#include "biomatch/face.h"

/* True for a code that face_engine_run may return. */
bool report_result_valid(int result);
/*
 * True when every number in a report can be worked with, and none is missing that
 * was wanted of a face; dim is the pack's.
 */
bool report_valid(const struct face_report *report, uint32_t dim, unsigned wanted);

#endif
