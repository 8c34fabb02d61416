/*
 * biomatch-calibrate, which `biomatch calibrate` starts: how well a model pack
 * tells people apart, and live faces from presented ones, on labelled pictures. A program
 * of its own, so that a client needs neither cairo nor the models.
 */
#include <argp.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "biomatch/face.h"
#include "biomatch/file.h"
#include "biomatch/log.h"
#include "biomatch/parse.h"
#include "biomatch/score.h"
#include "calibrate.h"

/* As biomatch's own. */
#define EXIT_USAGE 2
#define EXIT_LOCAL 6

enum {
	KEY_TEMPLATES = 256,
	KEY_OUTPUT,
	KEY_ID,
	KEY_SOURCE,
	KEY_WRITE,
	KEY_WORKER,
	KEY_JOBS,
	KEY_PAD
};

struct options {
	const char *templates, *output, *id, *source, *worker;
	unsigned jobs;
	bool write, pad;
	const char *args[3];
	size_t n_args;
};

static const struct argp_option option_list[] = {
	{"templates", KEY_TEMPLATES, "FILE", 0,
	 "Keep the templates here; where the file is there, take them from it", 0},
	{"output", KEY_OUTPUT, "DIR", 0, "Write calibration.yaml, det.svg and det.png here", 0},
	{"id", KEY_ID, "ID", 0, "The calibration's name, which replies and receipts carry", 0},
	{"source", KEY_SOURCE, "TEXT", 0, "What it was measured on, for people", 0},
	{"write", KEY_WRITE, NULL, 0, "Put the calibration into the pack's manifest", 0},
	{"pad", KEY_PAD, NULL, 0,
	 "Report APCER and BPCER of the pack's liveness model: PACK BONA_FIDE ATTACKS", 0},
	{"jobs", KEY_JOBS, "N", 0, "Face workers [one for each processor]", 0},
	{"worker", KEY_WORKER, "FILE", 0, "The face worker [biomatch-face beside this program]", 0},
	{0},
};

int complain(int error, const char *format, ...)
{
	va_list args;

	fputs("biomatch calibrate: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return error;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	uint64_t jobs;

	switch (key) {
	case KEY_TEMPLATES:
		o->templates = arg;
		return 0;
	case KEY_OUTPUT:
		o->output = arg;
		return 0;
	case KEY_ID:
		o->id = arg;
		return 0;
	case KEY_SOURCE:
		o->source = arg;
		return 0;
	case KEY_WRITE:
		o->write = true;
		return 0;
	case KEY_PAD:
		o->pad = true;
		return 0;
	case KEY_WORKER:
		o->worker = arg;
		return 0;
	case KEY_JOBS:
		if (parse_uint(arg, 1, 64, &jobs))
			argp_error(state, "not a number of 1 to 64");
		else
			o->jobs = (unsigned)jobs;
		return 0;
	case ARGP_KEY_ARG:
		if (o->n_args == sizeof(o->args) / sizeof(o->args[0]))
			argp_error(state, "too many arguments");
		else
			o->args[o->n_args++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (o->n_args != (o->pad ? 3 : 2))
			argp_error(state, "%s",
				   o->n_args < 3 ? "an argument is missing" : "too many arguments");
		if (o->write && (!o->id || !o->source))
			argp_error(state, "--write needs --id and --source");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void print_calibration(FILE *to, const struct options *o, const struct accuracy *a)
{
	fprintf(to, "calibration:\n  id: %s\n  source: %s\n  mates: %llu\n  non_mates: %llu\n",
		o->id ? o->id : "unnamed", o->source ? o->source : "not said",
		(unsigned long long)a->mates, (unsigned long long)a->non_mates);
	fputs("  # After each point: the FMR measured at its score, and the FNMR, with 95 % "
	      "intervals.\n"
	      "  points:\n",
	      to);
	for (size_t i = 0; i < a->n_points; i++) {
		const struct accuracy_point *p = &a->points[i];

		fprintf(to,
			"    - {fmr: %.0e, score: %.4f} # FMR %.2e (%.2e to %.2e), FNMR %.4f (%.4f "
			"to %.4f)\n",
			a->targets[i], (double)p->score, p->fmr.rate, p->fmr.low, p->fmr.high,
			p->fnmr.rate, p->fnmr.low, p->fnmr.high);
	}
	fprintf(to, "  band_stranger: %.4f\n  band_mate: %.4f\n", (double)a->stranger,
		(double)a->mate);
}

/* A file beside it takes its place, so that no half of one is ever read. */
static int replace(const char *path, const char *text, size_t len)
{
	char beside[4096 + 8];
	int error;

	snprintf(beside, sizeof(beside), "%s.new", path);
	unlink(beside);
	error = file_write_new(beside, text, len, 0644);
	if (!error && rename(beside, path))
		error = BM_EIO;
	return error ? complain(error, "%s cannot be written: %m", path) : 0;
}

/* The manifest up to its calibration, which is its last section. */
static int cut_manifest(const char *path, uint8_t **text, size_t *len)
{
	int error = file_read(path, 1 << 20, text, len);
	const char *at;

	if (error)
		return complain(error, "%s cannot be read", path);
	at = strstr((char *)*text, "\ncalibration:");
	if (!at)
		return 0;
	*len = (size_t)(at + 1 - (char *)*text);
	for (at = strchr(at + 1, '\n'); at && at[1]; at = strchr(at + 1, '\n')) {
		if (strchr(" #\n", at[1]))
			continue;
		free(*text);
		(void)complain(BM_EINVAL, "%s: move the calibration behind all other sections",
			       path);
		return BM_EINVAL;
	}
	return 0;
}

static int write_manifest(const struct options *o, const struct accuracy *a)
{
	char path[4096], *joined = NULL;
	size_t len, size;
	uint8_t *text;
	FILE *memory;
	int error;

	snprintf(path, sizeof(path), "%s/manifest.yaml", o->args[0]);
	error = cut_manifest(path, &text, &len);
	if (error)
		return error;
	memory = open_memstream(&joined, &size);
	if (memory) {
		fwrite(text, 1, len, memory);
		print_calibration(memory, o, a);
	}
	error = memory && !fclose(memory) ? replace(path, joined, size) : BM_ENOMEM;
	free(joined);
	free(text);
	return error;
}

static int write_files(const struct options *o, const struct pack *pack, const struct accuracy *a)
{
	char path[4096], title[256], *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);
	int error = memory ? 0 : BM_ENOMEM;

	if (memory) {
		print_calibration(memory, o, a);
		error = fclose(memory) ? BM_ENOMEM : 0;
	}
	if (!error && mkdir(o->output, 0755) && access(o->output, W_OK))
		error = complain(BM_EIO, "%s cannot be made: %m", o->output);
	snprintf(path, sizeof(path), "%s/calibration.yaml", o->output);
	if (!error)
		error = replace(path, text, size);
	free(text);
	snprintf(path, sizeof(path), "%s/det", o->output);
	snprintf(title, sizeof(title), "%s: %llu mates, %llu non-mates", pack->model,
		 (unsigned long long)a->mates, (unsigned long long)a->non_mates);
	return error ? error : det_draw(path, a, title);
}

/* How many pictures gave no template, and why. */
static void print_failures(const struct looks *looks)
{
	struct accuracy_rate fta;
	size_t failed = 0;

	for (size_t i = 0; i < looks->n; i++)
		failed += !looks->list[i].made;
	fta = accuracy_share((double)failed, (double)looks->n);
	printf("failure to acquire: %zu of %zu pictures, %.2f %% (%.2f to %.2f)\n", failed,
	       looks->n, 100 * fta.rate, 100 * fta.low, 100 * fta.high);
	for (size_t i = 0; i < looks->n; i++) {
		size_t same = 0;

		for (size_t j = 0; j < looks->n; j++) {
			if (strcmp(looks->list[i].reason, looks->list[j].reason))
				continue;
			if (j < i)
				break;
			same++;
		}
		if (same && !looks->list[i].made)
			printf("  %-20s %6zu\n", looks->list[i].reason, same);
	}
}

static void print_points(const struct accuracy *a)
{
	puts("\n| FMR wanted | score | FMR (95 %) | FNMR (95 %) |\n|--:|--:|--:|--:|");
	for (size_t i = 0; i < a->n_points; i++) {
		const struct accuracy_point *p = &a->points[i];

		printf("| %.0e | %.4f | %.2e (%.2e to %.2e) | %.2f %% (%.2f to %.2f) |\n",
		       a->targets[i], (double)p->score, p->fmr.rate, p->fmr.low, p->fmr.high,
		       100 * p->fnmr.rate, 100 * p->fnmr.low, 100 * p->fnmr.high);
	}
}

/* Those with a template, close together. */
static int measure(const struct pictures *pictures, const struct looks *looks, struct accuracy *a)
{
	struct accuracy_set set = {.dim = looks->dim, .n_people = pictures->n_labels};
	uint32_t *people = calloc(looks->n, sizeof(*people));
	int error;

	if (!people)
		return BM_ENOMEM;
	for (size_t i = 0; i < looks->n; i++) {
		if (!looks->list[i].made)
			continue;
		memmove(looks->templates + set.n * looks->dim, looks->templates + i * looks->dim,
			looks->dim * sizeof(float));
		people[set.n++] = pictures->list[i].label;
	}
	set.rows = looks->templates;
	set.people = people;
	error = accuracy_measure(&set, a);
	free(people);
	if (error == BM_EINVAL)
		return complain(error, "there must be two pictures of a person, and two people");
	return error;
}

static int calibrate(const struct options *o, const struct pack *pack, const struct look_how *how)
{
	bool kept = o->templates && !access(o->templates, F_OK);
	struct pictures pictures;
	struct looks looks;
	struct accuracy a;
	int error;

	if (kept) {
		error = templates_read(o->templates, pack, &pictures, &looks);
		if (error)
			return error;
	} else {
		error = pictures_list(o->args[1], &pictures);
		if (error)
			return error;
		error = look_at(&pictures, pack, how, &looks);
		if (error)
			goto out;
		if (o->templates)
			error = templates_write(o->templates, pack, &pictures, &looks);
	}
	printf("%zu pictures of %zu people, %s\n", looks.n, pictures.n_labels, pack->model);
	print_failures(&looks);
	if (!error)
		error = measure(&pictures, &looks, &a);
	if (!error && !a.n_points)
		error = complain(BM_EINVAL, "%llu pairs of two people are too few for any rate",
				 (unsigned long long)a.non_mates);
	if (!error) {
		printf("%llu mate pairs, %llu non-mate pairs\n", (unsigned long long)a.mates,
		       (unsigned long long)a.non_mates);
		print_points(&a);
	}
	if (!error && o->output)
		error = write_files(o, pack, &a);
	if (!error && o->write)
		error = write_manifest(o, &a);
	looks_free(&looks);
out:
	pictures_free(&pictures);
	return error;
}

static void find_worker(char path[4096])
{
	char self[4096 - 16] = "";
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	snprintf(path, 4096, "%s/biomatch-face", n > 0 ? dirname(self) : ".");
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		option_list,
		parse_option,
		"PACK PICTURES\nPACK BONA_FIDE ATTACKS",
		"Measure a model pack on labelled pictures, a directory for each person.",
		NULL,
		NULL,
		NULL};
	struct options o = {.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
	struct look_how how = {0};
	char worker[4096], message[PACK_MESSAGE_LEN] = "";
	char name[] = "biomatch calibrate";
	struct pack *pack;
	int error;

	argv[0] = name;
	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	log_set_level(LOG_LEVEL_WARNING);
	find_worker(worker);
	if (score_init(NULL))
		return EXIT_LOCAL;
	if (pack_open(o.args[0], false, &pack, message)) {
		complain(0, "%s", message);
		return EXIT_LOCAL;
	}
	how = (struct look_how){.program = o.worker ? o.worker : worker,
				.pack_dir = o.args[0],
				.wanted = o.pad ? FACE_LIVENESS : 0,
				.jobs = o.jobs};
	error = o.pad ? pad_report(pack, &how, o.args[1], o.args[2]) : calibrate(&o, pack, &how);
	pack_close(pack);
	if (error == BM_ENOMEM)
		complain(0, "out of memory");
	return error || fflush(stdout) ? EXIT_LOCAL : 0;
}
