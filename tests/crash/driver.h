/*
 * Drives the real writer and galleries and notes what they acknowledge; to be
 * run under the shim.
 */
#ifndef CRASH_DRIVER_H
#define CRASH_DRIVER_H

#include "history.h"
#include "store.h"

/* The template of the encounter that an operation makes. */
void driver_vector(uint32_t op, float out[STORE_DIM]);
/* The request key under which an operation is remembered. */
void driver_request(uint32_t op, uint8_t out[KEYS_PSEUDONYM_LEN]);
void driver_names(uint32_t subject, uint32_t op, char subject_id[16], char encounter[16]);

/* Runs so many waves of operations on a fresh store and writes the notes. */
void driver_run(uint32_t waves, const char *notes);

#endif
