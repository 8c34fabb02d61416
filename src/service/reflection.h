/*
 * The standard gRPC server reflection, over the descriptor set in wire.
 */
#ifndef SERVICE_REFLECTION_H
#define SERVICE_REFLECTION_H

#include "call.h"

/* Unpacks the descriptor set; freed by reflection_close. */
int reflection_open(struct reflection **out) BM_MUST_CHECK;
void reflection_close(struct reflection *reflection);

#endif
