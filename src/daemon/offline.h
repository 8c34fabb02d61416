/*
 * What the daemon's program does with a store instead of serving it. All but the
 * restoring and loading work beside a daemon that serves the same store.
 *
 * Errors: BM_E* with one line for people in the message.
 */
#ifndef DAEMON_OFFLINE_H
#define DAEMON_OFFLINE_H

#include "daemon.h"

#define OFFLINE_MAX_KEYS 8

/* Files of public keys that may have signed the audit log. */
struct offline_trust {
	const char *files[OFFLINE_MAX_KEYS];
	size_t n; /* 0 to judge no signature */
};

/* Checks all there is and prints every fault. BM_ECORRUPT when there was one. */
int offline_fsck(const struct conf *conf, const struct offline_trust *trust,
		 char message[DAEMON_MESSAGE_LEN]) BM_MUST_CHECK;
/* Checks the store, then copies it as of one moment into a new file, sealed to a public key. */
int offline_backup(const struct conf *conf, const char *file, const char *public_key,
		   char message[DAEMON_MESSAGE_LEN]) BM_MUST_CHECK;
/* Makes the store of a configuration that has none yet from a backup, once that is checked. */
int offline_restore(const struct conf *conf, const char *file, const char *private_key,
		    char message[DAEMON_MESSAGE_LEN]) BM_MUST_CHECK;
/*
 * The same with a dump, docs/dump.md, that another key, a later version or other software can
 * read: written from a store, and loaded where there is none yet, under the configuration's key.
 */
int offline_dump(const struct conf *conf, const char *file, const char *public_key,
		 char message[DAEMON_MESSAGE_LEN]) BM_MUST_CHECK;
int offline_load(const struct conf *conf, const char *file, const char *private_key,
		 char message[DAEMON_MESSAGE_LEN]) BM_MUST_CHECK;

#endif
