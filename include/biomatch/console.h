/*
 * The operators' HTTP port: a few pages, rendered anew for each request or
 * fixed, for whoever watches the daemon. Plain HTTP without authentication, so it
 * belongs on the loopback interface or a management network. Browsers are told to
 * load nothing from elsewhere and to run no script that is not a page of its own.
 *
 * Thread: one of its own, on which pages are rendered, one at a time.
 * Errors: BM_ENET with the address and the reason in the message, BM_ENOMEM.
 */
#ifndef BIOMATCH_CONSOLE_H
#define BIOMATCH_CONSOLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

struct console;

struct console_page {
	const char *path;
	const char *type; /* Content-Type */
	/* Writes the body; gives the HTTP status. NULL for a page that never changes. */
	int (*render)(void *ctx, FILE *out);
	struct bytes content; /* of such a page */
};

struct console_options {
	const char *listen; /* "host:port", port 0 for any */
	const struct console_page *pages;
	size_t n_pages;
	void *ctx; /* of the pages */
};

int console_open(const struct console_options *options, struct console **out,
		 char message[256]) BM_MUST_CHECK;
uint16_t console_port(const struct console *console);
void console_close(struct console *console);

#endif
