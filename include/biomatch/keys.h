/*
 * The store key and what is derived from it (HKDF-SHA256): pseudonyms for
 * subject ids, sealing of small secrets at rest, seeds of the galleries'
 * rotations, and the tag of templates that leave the service. Beside it the key
 * that signs the audit log, which is nobody's child, so that its public half
 * can be told before there is a store and outlives a change of the store key.
 *
 * A key file holds generations, one 32-byte key behind another. The first is the
 * store's for ever: its pseudonyms and seals are under it. Each gallery is
 * rotated under one of them, and a later one can take its place.
 *
 * Thread: any once open and given its signing key; keys_reload, which only adds
 * generations, from one at a time.
 * Errors: BM_EKEY, BM_ENOMEM, BM_ETEMPLATE from keys_unseal.
 * Owns: the key material, in locked memory that core dumps leave out; wiped by
 * keys_close.
 */
#ifndef BIOMATCH_KEYS_H
#define BIOMATCH_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

#define KEYS_MASTER_LEN    32
#define KEYS_GENERATIONS   16
#define KEYS_SIGNING_LEN   32
#define KEYS_SIGNATURE_LEN 64
#define KEYS_PSEUDONYM_LEN 32
/* What sealing adds: a nonce of 12 bytes and a tag of 16. */
#define KEYS_SEAL_OVERHEAD 28

/* What a derived key is for; one never serves two ends. */
enum keys_use {
	KEYS_SUBJECT,  /* subject id -> pseudonym, and the sealed subject id */
	KEYS_REQUEST,  /* request id -> pseudonym, and the remembered reply */
	KEYS_TEMPLATE, /* templates handed out by Extract */
	KEYS_ROTATION, /* the seed of a gallery's rotation */
	KEYS_AUDIT,    /* subject id -> pseudonym in the audit log */
	KEYS_CHANGE,   /* bodies of the change log */
	KEYS_IMAGE,    /* kept pictures */
	KEYS_USES
};

struct keys;

/* Reads one to KEYS_GENERATIONS keys from a file that only its owner can read. */
int keys_open(const char *path, struct keys **out) BM_MUST_CHECK;
/* Takes the generations that were added to the file. BM_EKEY where others were changed. */
int keys_reload(struct keys *keys, const char *path) BM_MUST_CHECK;
/* How many there are; the newest is one less. */
unsigned keys_generations(const struct keys *keys);
void keys_close(struct keys *keys);
/* Adds the signing key, an Ed25519 seed of 32 bytes, from a file as keys_open reads it. */
int keys_open_signing(struct keys *keys, const char *path) BM_MUST_CHECK;

/* A value that changes with the key, to recognise what was made under another. */
void keys_fingerprint(const struct keys *keys, unsigned generation, uint8_t out[16]);

/* HMAC-SHA256 of the parts, each preceded by its length, under the use's key. */
int keys_pseudonym(const struct keys *keys, enum keys_use use, const struct bytes *parts, size_t n,
		   uint8_t out[KEYS_PSEUDONYM_LEN]) BM_MUST_CHECK;

/*
 * AES-256-GCM under the use's key with a random nonce. context is authenticated
 * and not stored. out has room for in.len + KEYS_SEAL_OVERHEAD bytes.
 */
int keys_seal(const struct keys *keys, enum keys_use use, struct bytes context, struct bytes in,
	      uint8_t *out) BM_MUST_CHECK;
/* The reverse; out has room for in.len - KEYS_SEAL_OVERHEAD. BM_ETEMPLATE if altered. */
int keys_unseal(const struct keys *keys, enum keys_use use, struct bytes context, struct bytes in,
		uint8_t *out) BM_MUST_CHECK;

/* Ed25519 (RFC 8032) over in. BM_EKEY without a signing key. */
int keys_sign(const struct keys *keys, struct bytes in,
	      uint8_t out[KEYS_SIGNATURE_LEN]) BM_MUST_CHECK;

/*
 * len bytes of ChaCha20 key stream for a rotation, the same for the same generation
 * and label. BM_EKEY for a generation that there is not.
 */
int keys_stream(const struct keys *keys, unsigned generation, uint64_t label, uint8_t *out,
		size_t len) BM_MUST_CHECK;

#endif
