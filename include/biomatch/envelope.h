/*
 * A stream sealed to a public key: whoever has only that key can make one, and
 * nobody but the owner of the private key can read it or change it unnoticed.
 *
 *   "biomatch-backup-1\n", an ephemeral X25519 public key (32 bytes), then chunks
 *   of 65536 bytes under AES-256-GCM, each followed by its tag of 16 bytes; the
 *   last is shorter, and may be empty.
 *
 * The AES key is HKDF-SHA256 over the Diffie-Hellman secret, with both public
 * keys as salt and "biomatch backup v1" as info. It serves one stream, so a nonce
 * is three zero bytes, the number of the chunk (8 bytes, big-endian) and 1 for the
 * last chunk, 0 for the others: a stream that is cut, mixed or continued fails.
 *
 * Thread: any.
 * Errors: BM_EKEY for a file that holds no X25519 key, BM_EBACKUP for a stream
 * that is not whole or was sealed to another key, BM_EIO with errno, BM_ENOMEM.
 * Owns: nothing but what it says; keys and chunks are wiped.
 */
#ifndef BIOMATCH_ENVELOPE_H
#define BIOMATCH_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

/* Seals all that can be read from in to the public key in a PEM file. */
int envelope_seal(int in, int out, const char *public_key) BM_MUST_CHECK;
/*
 * Seals bytes to a public key in PEM, into malloc'ed memory. BM_EKEY for what is no
 * X25519 key.
 */
int envelope_seal_bytes(struct bytes in, struct bytes public_key, uint8_t **out,
			size_t *len) BM_MUST_CHECK;
/*
 * The reverse, with the private key in a PEM file. What was written to out before
 * an error is authentic, but not whole.
 */
int envelope_open(int in, int out, const char *private_key) BM_MUST_CHECK;

#endif
