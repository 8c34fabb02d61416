#include <argp.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/parse.h"
#include "cli.h"

#define DEFAULT_TIMEOUT_MS 30000
#define DEFAULT_DAYS       365

enum option_key {
	KEY_TARGET = 256,
	KEY_CERT,
	KEY_KEY,
	KEY_CA,
	KEY_SERVER_NAME,
	KEY_TIMEOUT,
	KEY_PURPOSE,
	KEY_JSON,
	KEY_REQUEST_ID,
	KEY_ENCOUNTER,
	KEY_REPORT,
	KEY_TYPE,
	KEY_SITE,
	KEY_SUBJECT,
	KEY_IMAGE,
	KEY_CAPTURED,
	KEY_EXPIRES,
	KEY_FROM,
	KEY_BEFORE,
	KEY_REFUSE_DUPLICATES,
	KEY_MAX,
	KEY_JOBS,
	KEY_DAYS,
	KEY_ED25519,
	KEY_FIRST,
	KEY_PUBLIC_KEY,
};

static const struct argp_option common_options[] = {
	{"json", KEY_JSON, NULL, 0, "Print one JSON object, also for an error", 0},
	{0},
};

static const struct argp_option connect_options[] = {
	{NULL, 0, NULL, 0, "Connection (environment variable):", 0},
	{"target", KEY_TARGET, "HOST:PORT", 0, "The service (BIOMATCH_TARGET)", 0},
	{"cert", KEY_CERT, "FILE", 0, "Certificate of this endpoint, PEM (BIOMATCH_CERT)", 0},
	{"key", KEY_KEY, "FILE", 0, "Its private key, PEM (BIOMATCH_KEY)", 0},
	{"ca", KEY_CA, "FILE", 0, "The CA of the service's certificate, PEM (BIOMATCH_CA)", 0},
	{"server-name", KEY_SERVER_NAME, "NAME", 0,
	 "Name in the service's certificate, where it is not HOST (BIOMATCH_SERVER_NAME)", 0},
	{"timeout", KEY_TIMEOUT, "TIME", 0, "Time allowed for a call, as in 500ms or 30s [30s]", 0},
	{0},
};

static const struct argp_option purpose_options[] = {
	{"purpose", KEY_PURPOSE, "NAME", 0,
	 "The purpose of the call, as the policy names it (BIOMATCH_PURPOSE)", 0},
	{0},
};

#define IMAGE_OPTION                                                                               \
	{                                                                                          \
		"image", KEY_IMAGE, "FILE", 0, "A further frame of the same capture; repeatable",  \
			0                                                                          \
	}

static const struct argp_option verify_options[] = {
	IMAGE_OPTION,
	{0},
};

static const struct argp_option identify_options[] = {
	IMAGE_OPTION,
	{"max", KEY_MAX, "N", 0, "Candidates wanted at most [the purpose's limit]", 0},
	{"type", KEY_TYPE, "TYPE", 0, "Only encounters of this type; repeatable", 0},
	{"site", KEY_SITE, "SITE", 0, "Only encounters at this site; repeatable", 0},
	{"subject", KEY_SUBJECT, "SUBJECT", 0, "Only this subject; repeatable", 0},
	{"from", KEY_FROM, "TIME", 0, "Only encounters captured at or after this time", 0},
	{"before", KEY_BEFORE, "TIME", 0, "Only encounters captured before this time", 0},
	{0},
};

static const struct argp_option enrol_options[] = {
	{"type", KEY_TYPE, "TYPE", 0, "The type of the encounter", 0},
	{"site", KEY_SITE, "SITE", 0, "Where it took place", 0},
	{"captured", KEY_CAPTURED, "TIME", 0, "When the picture was taken [now]", 0},
	{"expires", KEY_EXPIRES, "TIME", 0, "When the reference stops being used [never]", 0},
	{"refuse-duplicates", KEY_REFUSE_DUPLICATES, NULL, 0,
	 "Store only where no other subject has this face", 0},
	{"encounter", KEY_ENCOUNTER, "ID", 0, "Name of the encounter (one file only)", 0},
	{"request-id", KEY_REQUEST_ID, "ID", 0, "Name of the write (one file only)", 0},
	{"report", KEY_REPORT, "FILE", 0,
	 "Where the outcome of each file is kept (folder only) [FOLDER.enrol.jsonl]", 0},
	{"jobs", KEY_JOBS, "N", 0, "Calls in flight (folder only) [4]", 0},
	{0},
};

static const struct argp_option write_options[] = {
	{"request-id", KEY_REQUEST_ID, "ID", 0, "Name of the write [random]", 0},
	{0},
};

static const struct argp_option cert_options[] = {
	{"days", KEY_DAYS, "N", 0, "Days of validity [365]", 0},
	{"ed25519", KEY_ED25519, NULL, 0, "Make an Ed25519 key instead of a P-256 one", 0},
	{0},
};

static const struct argp_option export_options[] = {
	{"first", KEY_FIRST, "N", 0, "The first entry wanted [the oldest]", 0},
	{"request-id", KEY_REQUEST_ID, "ID", 0, "Name of the write [random]", 0},
	{0},
};

static const struct argp_option audit_options[] = {
	{"public-key", KEY_PUBLIC_KEY, "FILE", 0,
	 "Public key of the log, PEM; repeatable where the key was changed", 0},
	{"first", KEY_FIRST, "N", 0, "The entry that the export must begin with [1]", 0},
	{0},
};

static const struct argp_option no_options[] = {{0}};

#define NEEDS_CONNECTION 1u
#define NEEDS_PURPOSE    2u
#define NEEDS_BOTH       (NEEDS_CONNECTION | NEEDS_PURPOSE)

struct command {
	const char *name; /* one word or two */
	const char *args, *summary;
	size_t min_args, max_args;
	unsigned needs;
	const struct argp_option *options;
	int (*run)(struct cli *cli);
};

static const struct command commands[] = {
	{"enrol", "GALLERY SUBJECT FILE\nGALLERY FOLDER",
	 "Keep a face, or a folder with a folder of pictures for each subject", 2, 3, NEEDS_BOTH,
	 enrol_options, run_enrol},
	{"verify", "GALLERY SUBJECT FILE", "Is this the subject?", 3, 3, NEEDS_BOTH, verify_options,
	 run_verify},
	{"compare", "FILE FILE", "Do two pictures show one person?", 2, 2, NEEDS_BOTH, no_options,
	 run_compare},
	{"verify-document", "DG2 SOD FILE",
	 "Is this the person of this passport chip, and did a state sign it?", 3, 3, NEEDS_BOTH,
	 no_options, run_verify_document},
	{"identify", "GALLERY... FILE", "Who is this?", 2, 17, NEEDS_BOTH, identify_options,
	 run_identify},
	{"analyse", "FILE", "What is in a picture?", 1, 1, NEEDS_BOTH, no_options, run_analyse},
	{"extract", "FILE TEMPLATE", "Turn a picture into a template file", 2, 2, NEEDS_BOTH,
	 no_options, run_extract},
	{"subject show", "GALLERY SUBJECT", "Tell what is held of a subject", 2, 2, NEEDS_BOTH,
	 no_options, run_subject_show},
	{"subject image", "GALLERY SUBJECT ENCOUNTER FILE",
	 "Write the picture that was kept of an encounter to a new file", 4, 4, NEEDS_BOTH,
	 no_options, run_subject_image},
	{"subject delete", "GALLERY SUBJECT", "Remove a subject", 2, 2, NEEDS_BOTH, write_options,
	 run_subject_delete},
	{"subject delete-encounter", "GALLERY SUBJECT ENCOUNTER", "Remove one encounter", 3, 3,
	 NEEDS_BOTH, write_options, run_subject_delete_encounter},
	{"subject hold", "GALLERY SUBJECT MATTER",
	 "Place a legal hold for a case or an order: nothing of the subject is erased", 3, 3,
	 NEEDS_BOTH, write_options, run_subject_hold},
	{"subject release", "GALLERY SUBJECT MATTER", "Release a legal hold", 3, 3, NEEDS_BOTH,
	 write_options, run_subject_release},
	{"subject holds", "GALLERY SUBJECT", "List the legal holds on a subject", 2, 2, NEEDS_BOTH,
	 no_options, run_subject_holds},
	{"subject approve-export", "GALLERY SUBJECT KEY",
	 "Approve that another endpoint exports what is held of a subject, sealed to KEY", 3, 3,
	 NEEDS_BOTH, write_options, run_subject_approve},
	{"subject export", "GALLERY SUBJECT KEY FILE",
	 "Write what is held of a subject to a new file, as another endpoint has approved", 4, 4,
	 NEEDS_BOTH, no_options, run_subject_export},
	{"subject read-export", "FILE KEY",
	 "Print such a file as JSON, opened with the private KEY", 2, 2, 0, no_options,
	 run_subject_read},
	{"gallery create", "NAME", "Make an empty gallery", 1, 1, NEEDS_BOTH, write_options,
	 run_gallery_create},
	{"gallery list", "", "List the galleries", 0, 0, NEEDS_BOTH, no_options, run_gallery_list},
	{"gallery show", "NAME", "Tell the facts of a gallery", 1, 1, NEEDS_BOTH, no_options,
	 run_gallery_show},
	{"gallery delete", "NAME", "Remove an empty gallery", 1, 1, NEEDS_BOTH, write_options,
	 run_gallery_delete},
	{"key add", "FILE", "Add a generation to a store key's file", 1, 1, 0, no_options,
	 run_key_add},
	{"key rotate", "GALLERY", "Move a gallery to the newest generation of the store key", 1, 1,
	 NEEDS_BOTH, write_options, run_key_rotate},
	{"audit export", "FILE", "Write the audit log, signed, to a new file", 1, 1, NEEDS_BOTH,
	 export_options, run_audit_export},
	{"audit verify", "FILE", "Does an export hold together, up to its signature?", 1, 1, 0,
	 audit_options, run_audit_verify},
	{"audit show", "FILE [SEQUENCE]", "List the entries of an export, or show one", 1, 2, 0,
	 no_options, run_audit_show},
	{"audit prove", "FILE RECEIPT", "Is a reply's receipt, SEQUENCE:HASH, of this log?", 2, 2,
	 0, audit_options, run_audit_prove},
	{"audit prune", "HEAD", "Remove what is older than a verified export's head, SEQUENCE:HASH",
	 1, 1, NEEDS_BOTH, no_options, run_audit_prune},
	{"standby promote", "",
	 "Make a standby take the lead; its old leader must not be written to", 0, 0, NEEDS_BOTH,
	 write_options, run_standby_promote},
	{"reload", "", "Have the service read policy, certificates and lists again", 0, 0,
	 NEEDS_BOTH, no_options, run_reload},
	{"health", "", "Ask whether the service serves", 0, 0, NEEDS_CONNECTION, no_options,
	 run_health},
	{"top", "[HOST:PORT]", "Watch a daemon by its operators' port [127.0.0.1:8444]", 0, 1, 0,
	 no_options, run_top},
	{"cert ca", "OUT", "Make a CA for tests: OUT.pem and OUT.key", 1, 1, 0, cert_options,
	 run_cert_ca},
	{"cert server", "CA OUT NAME...",
	 "Make a server's certificate for these DNS names and IP addresses", 3, CLI_MAX_ARGS, 0,
	 cert_options, run_cert_server},
	{"cert endpoint", "CA OUT URI",
	 "Make an endpoint's certificate; URI is biomatch://DEPLOYMENT/SITE/CLASS/NUMBER", 3, 3, 0,
	 cert_options, run_cert_endpoint},
	{"cert key", "FILE", "Make a store key", 1, 1, 0, no_options, run_cert_key},
	{"cert audit", "OUT", "Make the key of an audit log, OUT.key, and its public half, OUT.pem",
	 1, 1, 0, no_options, run_cert_audit},
	{"version", "", "Tell the version", 0, 0, 0, no_options, run_version},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void parse_time(struct argp_state *state, const char *arg, int64_t *out)
{
	if (time_parse(arg, out))
		argp_error(state, "not a time: give 2024-05-31 or 2024-05-31T13:45:00Z (UTC)");
}

static void parse_number(struct argp_state *state, const char *arg, unsigned max, unsigned *out)
{
	uint64_t number;

	if (parse_uint(arg, 1, max, &number))
		argp_error(state, "not a number of 1 to %u", max);
	else
		*out = (unsigned)number;
}

static void parse_list(struct argp_state *state, char *arg, struct list *list)
{
	if (list->n == CLI_MAX_LIST)
		argp_error(state, "an option is repeated more than %d times", CLI_MAX_LIST);
	else
		list->items[list->n++] = arg;
}

static void parse_timeout(struct argp_state *state, const char *arg, uint32_t *out)
{
	uint64_t ms;

	if (parse_duration_ms(arg, 1, 3600000, &ms))
		argp_error(state, "not a time of 1ms to 1h: give 500ms or 30s");
	else
		*out = (uint32_t)ms;
}

static error_t parse_connect_option(struct options *o, int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case KEY_TARGET:
		o->target = arg;
		return 0;
	case KEY_CERT:
		o->certificate = arg;
		return 0;
	case KEY_KEY:
		o->private_key = arg;
		return 0;
	case KEY_CA:
		o->ca = arg;
		return 0;
	case KEY_SERVER_NAME:
		o->server_name = arg;
		return 0;
	case KEY_TIMEOUT:
		parse_timeout(state, arg, &o->timeout_ms);
		return 0;
	case KEY_PURPOSE:
		o->purpose = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse_encounter_option(struct options *o, int key, char *arg,
				      struct argp_state *state)
{
	switch (key) {
	case KEY_ENCOUNTER:
		o->encounter = arg;
		return 0;
	case KEY_TYPE:
		parse_list(state, arg, &o->types);
		return 0;
	case KEY_SITE:
		parse_list(state, arg, &o->sites);
		return 0;
	case KEY_SUBJECT:
		parse_list(state, arg, &o->subjects);
		return 0;
	case KEY_IMAGE:
		parse_list(state, arg, &o->images);
		return 0;
	case KEY_CAPTURED:
		parse_time(state, arg, &o->captured_s);
		return 0;
	case KEY_EXPIRES:
		parse_time(state, arg, &o->expires_s);
		return 0;
	case KEY_FROM:
		parse_time(state, arg, &o->from_s);
		return 0;
	case KEY_BEFORE:
		parse_time(state, arg, &o->before_s);
		return 0;
	default:
		return parse_connect_option(o, key, arg, state);
	}
}

/* Every command's options go here; which of them it has, its table row says. */
static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case KEY_JSON:
		o->json = true;
		return 0;
	case KEY_REQUEST_ID:
		o->request_id = arg;
		return 0;
	case KEY_REPORT:
		o->report = arg;
		return 0;
	case KEY_REFUSE_DUPLICATES:
		o->refuse_duplicates = true;
		return 0;
	case KEY_MAX:
		parse_number(state, arg, 1000, &o->max_candidates);
		return 0;
	case KEY_JOBS:
		parse_number(state, arg, 64, &o->jobs);
		return 0;
	case KEY_DAYS:
		parse_number(state, arg, 36500, &o->days);
		return 0;
	case KEY_ED25519:
		o->ed25519 = true;
		return 0;
	case KEY_FIRST:
		if (parse_uint(arg, 1, UINT64_MAX, &o->first))
			argp_error(state, "not a number from 1");
		return 0;
	case KEY_PUBLIC_KEY:
		parse_list(state, arg, &o->public_keys);
		return 0;
	case ARGP_KEY_ARG:
		if (o->n_args == CLI_MAX_ARGS)
			argp_error(state, "too many arguments");
		else
			o->args[o->n_args++] = arg;
		return 0;
	default:
		return parse_encounter_option(o, key, arg, state);
	}
}

static error_t parse_child(int key, char *arg, struct argp_state *state)
{
	/* The command's own parser takes the arguments. */
	return key < KEY_TARGET ? ARGP_ERR_UNKNOWN : parse_option(key, arg, state);
}

#define CHILDREN 3

static const struct argp no_argp;
static const struct argp common_argp = {common_options, parse_child, NULL, NULL, NULL, NULL, NULL};
static const struct argp connect_argp = {
	connect_options, parse_child, NULL, NULL, NULL, NULL, NULL};
static const struct argp purpose_argp = {
	purpose_options, parse_child, NULL, NULL, NULL, NULL, NULL};

/* Children hand their input on to nobody by themselves. */
static error_t parse_command(int key, char *arg, struct argp_state *state)
{
	if (key == ARGP_KEY_INIT) {
		for (size_t i = 0; i < CHILDREN; i++)
			state->child_inputs[i] = state->input;
		return 0;
	}
	return parse_option(key, arg, state);
}

static const char *required_missing(const struct command *command, const struct options *o)
{
	if (command->needs & NEEDS_CONNECTION) {
		if (!o->target)
			return "say where the service is: --target or BIOMATCH_TARGET";
		if (!o->certificate)
			return "name this endpoint's certificate: --cert or BIOMATCH_CERT";
		if (!o->private_key)
			return "name the certificate's key: --key or BIOMATCH_KEY";
		if (!o->ca)
			return "name the CA of the service's certificate: --ca or BIOMATCH_CA";
	}
	if (command->needs & NEEDS_PURPOSE && !o->purpose)
		return "name the purpose of the call: --purpose or BIOMATCH_PURPOSE";
	return NULL;
}

/* Options and the number of arguments; does not return where they are wrong. */
static void parse_command_line(const struct command *command, int argc, char **argv,
			       struct options *o)
{
	const bool purpose = command->needs & NEEDS_PURPOSE;
	const bool connection = command->needs & NEEDS_CONNECTION;
	const struct argp_child children[CHILDREN + 1] = {
		{&common_argp, 0, NULL, 0},
		{purpose ? &purpose_argp : &no_argp, 0, NULL, 0},
		{connection ? &connect_argp : &no_argp, 0, NULL, 0},
		{0},
	};
	const struct argp argp = {command->options, parse_command, command->args, command->summary,
				  children,         NULL,          NULL};
	char name[64];
	const char *missing;

	snprintf(name, sizeof(name), "biomatch %s", command->name);
	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, o);
	missing = required_missing(command, o);
	if (o->n_args < command->min_args)
		missing = "an argument is missing";
	else if (o->n_args > command->max_args)
		missing = "too many arguments";
	if (!missing)
		return;
	fprintf(stderr, "%s: %s\nTry '%s --help'.\n", name, missing, name);
	exit(EXIT_USAGE);
}

static void print_help(void)
{
	puts("Usage: biomatch COMMAND [OPTION...] ARGUMENT...\n"
	     "Ask the face matching service biomatchd.\n");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-26s%s\n", commands[i].name, commands[i].summary);
	printf("  %-26s%s\n", "calibrate", "Measure a model pack on labelled pictures");
	puts("\n'biomatch COMMAND --help' tells more; biomatch(1) tells all.");
}

/* The command that argv names, and how many words that took. */
static const struct command *find_command(int argc, char **argv, int *words)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		const char *name = commands[i].name, *space = strchr(name, ' ');
		size_t first = space ? (size_t)(space - name) : strlen(name);

		if (argc < 2 || strlen(argv[1]) != first || strncmp(argv[1], name, first))
			continue;
		*words = space ? 2 : 1;
		if (!space || (argc > 2 && !strcmp(argv[2], space + 1)))
			return &commands[i];
	}
	return NULL;
}

/* Needs the models and no service: a program of its own, beside this one or, installed, among the
 * daemon's. */
static int run_calibrate(char **argv)
{
	static const char *const places[] = {"", "/../libexec"};
	char self[4096 - 64] = "", path[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *dir = n > 0 ? dirname(self) : ".";

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%s%s/biomatch-calibrate", dir, places[i]);
		execv(path, argv);
	}
	fprintf(stderr, "biomatch: %s: %m\n", path);
	return EXIT_LOCAL;
}

static struct options default_options(void)
{
	return (struct options){
		.target = getenv("BIOMATCH_TARGET"),
		.certificate = getenv("BIOMATCH_CERT"),
		.private_key = getenv("BIOMATCH_KEY"),
		.ca = getenv("BIOMATCH_CA"),
		.server_name = getenv("BIOMATCH_SERVER_NAME"),
		.purpose = getenv("BIOMATCH_PURPOSE"),
		.timeout_ms = DEFAULT_TIMEOUT_MS,
		.days = DEFAULT_DAYS,
		.jobs = 4,
	};
}

int main(int argc, char **argv)
{
	struct cli cli = {.options = default_options()};
	const struct command *command;
	int result = EXIT_DONE, words = 0;

	if (argc > 1 && !strcmp(argv[1], "calibrate"))
		return run_calibrate(argv + 1);
	signal(SIGPIPE, SIG_IGN);
	argp_err_exit_status = EXIT_USAGE;
	command = find_command(argc, argv, &words);
	if (!command) {
		bool asked = argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"));

		if (asked)
			print_help();
		else
			fputs("biomatch: no such command; try 'biomatch --help'\n", stderr);
		return asked ? EXIT_DONE : EXIT_USAGE;
	}
	parse_command_line(command, argc - words, argv + words, &cli.options);
	if (command->needs & NEEDS_CONNECTION)
		result = cli_open(&cli);
	if (result == EXIT_DONE)
		result = command->run(&cli);
	cli_close(&cli);
	if (fflush(stdout) || ferror(stdout)) {
		fputs("biomatch: the output could not be written whole\n", stderr);
		return EXIT_LOCAL;
	}
	return result;
}
