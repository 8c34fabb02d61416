/*
 * The walls around the worker, put up once its models are loaded.
 */
#ifndef FACEMAIN_SANDBOX_H
#define FACEMAIN_SANDBOX_H

#include <stdint.h>

#include "biomatch/error.h"

/*
 * From here on the process can compute, allocate up to max_memory bytes of
 * address space and talk over the descriptors it has: it cannot open, connect,
 * execute or map code, and holds no capability. Any other system call kills it.
 * Builds with a sanitizer, which needs more of the system, get the limits
 * without the filter.
 */
int sandbox_enter(uint64_t max_memory) BM_MUST_CHECK;

#endif
