/*
 * What the daemon makes of its process before anything else: nothing inherited,
 * nothing dumped, nobody else's files readable.
 *
 * Thread: main, before there are others.
 */
#ifndef DAEMON_PROCESS_H
#define DAEMON_PROCESS_H

#include <signal.h>

#include "biomatch/error.h"

/*
 * Confines the process and takes the signals that process_signals names out of
 * delivery, for every thread to come.
 */
void process_harden(void);
/* SIGTERM, SIGINT and SIGHUP: what the main thread waits for. */
void process_signals(sigset_t *set);
/* "fd:N" for the one socket that systemd passed, "" for none. BM_ECONF for several. */
int process_listen_socket(char out[16]) BM_MUST_CHECK;
/* The status to exit with for an error of the start, from sysexits.h. */
int process_exit_status(int error);

#endif
