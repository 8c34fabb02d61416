#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/crypto.h"
#include "biomatch/file.h"
#include "biomatch/log.h"
#include "daemon.h"
#include "offline.h"
#include "process.h"

#define DEFAULT_CONFIG "/etc/biomatchd/biomatchd.yaml"

struct arguments {
	const char *config, *port_file, *backup, *restore, *dump, *load, *key;
	struct offline_trust trust;
	bool check, fsck;
};

enum {
	KEY_CHECK = 256,
	KEY_PORT_FILE,
	KEY_FSCK,
	KEY_BACKUP,
	KEY_RESTORE,
	KEY_DUMP,
	KEY_LOAD,
	KEY_KEY,
	KEY_PUBLIC_KEY
};

static const struct argp_option option_list[] = {
	{"config", 'c', "FILE", 0, "The configuration [" DEFAULT_CONFIG "]", 0},
	{"check-config", KEY_CHECK, NULL, 0, "Check the configuration and what it names, then end",
	 0},
	{"fsck", KEY_FSCK, NULL, 0, "Check every record of the store, then end", 0},
	{"backup", KEY_BACKUP, "FILE", 0, "Back the store up to a new file sealed to --key", 0},
	{"restore", KEY_RESTORE, "FILE", 0, "Make the store from a backup opened with --key", 0},
	{"dump", KEY_DUMP, "FILE", 0,
	 "Write what the store holds to a new file, readable without the store key, sealed to "
	 "--key",
	 0},
	{"load", KEY_LOAD, "FILE", 0, "Make the store from a dump opened with --key", 0},
	{"key", KEY_KEY, "FILE", 0,
	 "An X25519 key in PEM: public to back up and dump, private to restore and load", 0},
	{"public-key", KEY_PUBLIC_KEY, "FILE", 0,
	 "A key, PEM, that may have signed the audit log: --fsck judges signatures; repeatable", 0},
	{"port-file", KEY_PORT_FILE, "FILE", 0, "Write the port to a new file once ready", 0},
	{0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
	struct arguments *a = state->input;
	int sealed;

	switch (key) {
	case 'c':
		a->config = value;
		return 0;
	case KEY_CHECK:
		a->check = true;
		return 0;
	case KEY_FSCK:
		a->fsck = true;
		return 0;
	case KEY_BACKUP:
		a->backup = value;
		return 0;
	case KEY_RESTORE:
		a->restore = value;
		return 0;
	case KEY_DUMP:
		a->dump = value;
		return 0;
	case KEY_LOAD:
		a->load = value;
		return 0;
	case KEY_KEY:
		a->key = value;
		return 0;
	case KEY_PUBLIC_KEY:
		if (a->trust.n == OFFLINE_MAX_KEYS)
			argp_error(state, "at most %d public keys", OFFLINE_MAX_KEYS);
		else
			a->trust.files[a->trust.n++] = value;
		return 0;
	case KEY_PORT_FILE:
		a->port_file = value;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "there is nothing to do with \"%s\"", value);
		return EINVAL;
	case ARGP_KEY_END:
		sealed = !!a->backup + !!a->restore + !!a->dump + !!a->load;
		if (a->check + a->fsck + sealed > 1)
			argp_error(state, "one thing at a time");
		if (sealed != (a->key != NULL))
			argp_error(state,
				   "--backup, --restore, --dump and --load need a --key, and "
				   "nothing else");
		if (a->trust.n && !a->fsck)
			argp_error(state, "--public-key is for --fsck");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int fail(int error, const char *message)
{
	fprintf(stderr, "biomatchd: %s\n", *message ? message : bm_error_text(error));
	return process_exit_status(error);
}

/* Whoever waits for the file must find the number in it, so it comes by rename. */
static int write_port(const char *path, uint16_t port)
{
	char text[8], *fresh;
	int error, len = snprintf(text, sizeof(text), "%u\n", port);

	if (asprintf(&fresh, "%s.new", path) < 0)
		return BM_ENOMEM;
	error = file_write_new(fresh, text, (size_t)len, 0644);
	if (!error && rename(fresh, path)) {
		unlink(fresh);
		error = BM_EIO;
	}
	free(fresh);
	return error;
}

static void reload(struct daemon *daemon, const char *config)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
		   (long long)(clock_monotonic_ns() / CLOCK_NS_PER_US));
	daemon_reload(daemon, config);
	sd_notify(0, "READY=1");
}

/* Serves until a signal says to end. */
static void serve(struct daemon *daemon, const char *config)
{
	static const struct timespec second = {1, 0};
	sigset_t signals;

	process_signals(&signals);
	sd_notifyf(0, "READY=1\nSTATUS=serving on port %u", daemon_port(daemon));
	for (;;) {
		int signal = sigtimedwait(&signals, NULL, &second);

		if (signal == SIGTERM || signal == SIGINT)
			break;
		if (signal == SIGHUP)
			reload(daemon, config);
		if (daemon_tick(daemon))
			sd_notify(0, "WATCHDOG=1");
	}
	sd_notify(0, "STOPPING=1");
}

static int run(const struct arguments *a, const struct conf *conf)
{
	char message[DAEMON_MESSAGE_LEN] = "", socket[16];
	struct daemon *daemon;
	int error;

	if (process_listen_socket(socket))
		return fail(BM_ECONF, "systemd passed several sockets; one is served");
	error = daemon_open(conf, *socket ? socket : NULL, &daemon, message);
	if (error)
		return fail(error, message);
	if (a->port_file)
		error = write_port(a->port_file, daemon_port(daemon));
	if (!error)
		serve(daemon, a->config);
	daemon_close(daemon);
	if (error)
		return fail(error, "the port file cannot be written");
	if (a->port_file)
		unlink(a->port_file);
	return EX_OK;
}

static int check(const struct arguments *a, const struct conf *conf)
{
	char message[DAEMON_MESSAGE_LEN] = "";
	int error = daemon_check(conf, message);

	if (error)
		return fail(error, message);
	printf("%s: good\n", a->config);
	return EX_OK;
}

static int work_offline(const struct arguments *a, const struct conf *conf)
{
	char message[DAEMON_MESSAGE_LEN] = "";
	int error;

	if (a->fsck)
		error = offline_fsck(conf, &a->trust, message);
	else if (a->backup)
		error = offline_backup(conf, a->backup, a->key, message);
	else if (a->restore)
		error = offline_restore(conf, a->restore, a->key, message);
	else if (a->dump)
		error = offline_dump(conf, a->dump, a->key, message);
	else
		error = offline_load(conf, a->load, a->key, message);
	return error ? fail(error, message) : EX_OK;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		option_list, parse_option,
		NULL,        "Answers Verify, Compare, Identify and Enrol over gRPC.",
		NULL,        NULL,
		NULL,
	};
	struct arguments a = {.config = DEFAULT_CONFIG};
	char message[CONF_MESSAGE_LEN];
	struct conf *conf;
	int error, status;

	argp_program_version = "biomatchd " BIOMATCH_VERSION;
	argp_err_exit_status = EX_USAGE;
	crypto_init();
	process_harden();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	error = conf_open(a.config, &conf, message);
	if (error)
		return fail(error, message);
	log_set_level(conf->log.level);
	if (a.fsck || a.key)
		status = work_offline(&a, conf);
	else
		status = a.check ? check(&a, conf) : run(&a, conf);
	conf_close(conf);
	return status;
}
