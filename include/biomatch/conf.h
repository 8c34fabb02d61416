/*
 * The configuration: one YAML file, checked whole, then immutable.
 *
 * Thread: any, once open.
 * Errors: BM_ECONF with file, line and reason in the message; BM_ENOMEM.
 * Owns: all strings, until conf_close.
 */
#ifndef BIOMATCH_CONF_H
#define BIOMATCH_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "biomatch/error.h"
#include "biomatch/log.h"

#define CONF_MESSAGE_LEN 512

/*
 * Fields carry the names of config/biomatchd.yaml, where each is explained. Paths
 * are absolute or as reachable from the working directory of conf_open.
 */
struct conf {
	struct {
		char *listen;
		char *certificate, *private_key, *client_ca;
		char *crl; /* NULL for none */
		unsigned threads;
		unsigned max_connections, max_streams;
		unsigned connection_share;                                   /* per cent */
		uint64_t max_message, max_connection_bytes, max_total_bytes; /* bytes */
		uint32_t handshake, idle, request, stall, drain, wait;       /* ms */
		unsigned queue;
		bool reflection;
	} server;
	struct {
		char *listen;
	} ops;
	struct {
		char *path;
		uint64_t map_size; /* bytes */
		char *key;
		unsigned queue, max_group;
	} store;
	struct {
		char *pack, *program;
		unsigned workers;
		uint32_t start, run;               /* ms */
		uint64_t max_memory, max_resident; /* bytes */
	} face;
	struct {
		unsigned readers, scanners;
		char *kernel;
	} match;
	struct {
		char *file;
	} policy;
	struct {
		char *csca, *crl; /* NULL for none */
	} documents;
	struct {
		char *key;
		uint32_t checkpoint; /* ms */
	} audit;
	struct {
		char *leader; /* "host:port"; NULL for a daemon that leads */
		char *certificate, *private_key, *ca, *server_name,
			*purpose; /* NULL without leader */
		uint32_t max_age; /* ms */
	} follow;
	struct {
		uint32_t age; /* ms */
		unsigned entries;
	} changes;
	struct {
		enum log_level level;
	} log;
};

/*
 * Reads and checks a file, and that what it names exists and can be used by this
 * process. Relative paths start at the file's own directory.
 */
int conf_open(const char *path, struct conf **out, char message[CONF_MESSAGE_LEN]) BM_MUST_CHECK;
void conf_close(struct conf *conf);

#endif
