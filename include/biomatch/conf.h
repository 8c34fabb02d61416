/*
 * The configuration: one YAML file, checked whole, then immutable.
 *
 * Thread: any, once open.
 * Errors: BM_ECONF with file, line and reason in the message.
 * Owns: all strings, until conf_close.
 */
#ifndef BIOMATCH_CONF_H
#define BIOMATCH_CONF_H

#include <stdint.h>

#include "biomatch/error.h"
#include "biomatch/log.h"

#define CONF_MESSAGE_LEN 512

/* Fields carry the names of config/biomatchd.yaml, where each is explained. */
struct conf {
	struct {
		char *listen;
		char *certificate, *private_key, *client_ca;
		unsigned threads;
		unsigned max_connections, max_streams;
		uint64_t max_message, max_connection_bytes, max_total_bytes;
		uint32_t handshake_ms, idle_ms, request_ms, drain_ms;
		int reflection; /* bool */
	} server;
	struct {
		char *path;
		uint64_t map_size;
		char *key; /* file of the store key */
		unsigned queue, max_group;
	} store;
	struct {
		char *pack;    /* model pack directory */
		char *program; /* biomatch-face */
		unsigned workers, queue;
		uint32_t start_ms, run_ms;
		uint64_t max_memory, max_resident;
	} face;
	struct {
		unsigned readers, scanners, queue;
		char *kernel; /* "auto" or a kernel's name */
	} match;
	struct {
		char *file;
	} policy;
	struct {
		enum log_level level;
	} log;
};

/* Reads and checks a file, the files it names included (existing, readable). */
int conf_open(const char *path, struct conf **out, char message[CONF_MESSAGE_LEN]) BM_MUST_CHECK;
void conf_close(struct conf *conf);

#endif
