/* The live page's figures in a terminal, read from the operators' port. */
#include <curses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/parse.h"
#include "cli.h"
#include "reading.h"

#define PERIOD_MS  2000
#define KEPT       31 /* readings: a minute */
#define AGE_LEN    32
#define MAX_ROWS   512
#define DEFAULT_AT "127.0.0.1:8444"

enum colour { GOOD = 1, WARN, BAD };

/* The newest reading is the last. */
struct screen {
	struct reading readings[KEPT];
	size_t n;
	int error; /* of the last attempt */
	char host[PARSE_HOST_MAX + 1];
	uint16_t port;
	const char *at;
};

/* How calls ended: in the last minute, and since the daemon's start. */
struct ends {
	double answered, refused, failed;
};

struct row {
	char site[READING_LABEL_MAX], class[READING_LABEL_MAX];
	double connections, last;
	struct ends recent, total;
	int rank; /* the worst first */
};

static const struct {
	const char *name;
	int colour;
} states[] = {{"failing", BAD}, {"refusing", WARN}, {"connected", GOOD}, {"away", 0}};

static const struct reading *newest(const struct screen *screen)
{
	return &screen->readings[screen->n - 1];
}

static void forget(struct screen *screen, size_t n)
{
	for (size_t i = 0; i < n; i++)
		reading_deinit(&screen->readings[i]);
	screen->n -= n;
	memmove(screen->readings, screen->readings + n, screen->n * sizeof(screen->readings[0]));
}

/* Another life of the daemon counts from 0. */
static bool lives_on(const struct screen *screen, const struct reading *now)
{
	static const char name[] = "process_start_time_seconds";

	return reading_sum(newest(screen), name, NULL) == reading_sum(now, name, NULL);
}

static void take(struct screen *screen)
{
	struct reading now;

	screen->error = reading_take(screen->host, screen->port, PERIOD_MS, &now);
	if (screen->error)
		return;
	if (screen->n && !lives_on(screen, &now))
		forget(screen, screen->n);
	if (screen->n == KEPT)
		forget(screen, 1);
	screen->readings[screen->n++] = now;
}

static double minutes(const struct screen *screen)
{
	return (double)(newest(screen)->at_ms - screen->readings[0].at_ms) / 60000;
}

static double growth(const struct screen *screen, const char *name, const char *const *wanted)
{
	return reading_sum(newest(screen), name, wanted) -
	       reading_sum(&screen->readings[0], name, wanted);
}

static struct ends ends_of(const struct reading *reading, const struct row *who)
{
	static const char *const faults[] = {"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNKNOWN"};
	static const char name[] = "biomatch_estate_calls_total";
	const char *wanted[] = {"site", who->site, "class", who->class, "status", "OK", NULL};
	struct ends ends = {.answered = reading_sum(reading, name, wanted)};

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		wanted[5] = faults[i];
		ends.failed += reading_sum(reading, name, wanted);
	}
	wanted[4] = NULL;
	ends.refused = reading_sum(reading, name, wanted) - ends.answered - ends.failed;
	return ends;
}

static void fill_row(const struct screen *screen, struct row *row)
{
	const char *wanted[] = {"site", row->site, "class", row->class, NULL};
	struct ends before = ends_of(&screen->readings[0], row);

	row->total = ends_of(newest(screen), row);
	row->recent = (struct ends){row->total.answered - before.answered,
				    row->total.refused - before.refused,
				    row->total.failed - before.failed};
	row->connections = reading_sum(newest(screen), "biomatch_estate_connections", wanted);
	row->last = reading_sum(newest(screen), "biomatch_estate_last_call_seconds", wanted);
	row->rank = row->recent.failed > 0    ? 0
		    : row->recent.refused > 0 ? 1
		    : row->connections > 0    ? 2
					      : 3;
}

static int compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int order = x->rank - y->rank;

	if (!order)
		order = strcmp(x->site, y->site);
	return order ? order : strcmp(x->class, y->class);
}

/* The sites and classes that have connected; those that have called have. */
static size_t list_rows(const struct screen *screen, struct row rows[MAX_ROWS])
{
	const struct reading *now = newest(screen);
	size_t n = 0;

	for (size_t i = 0; i < now->n && n < MAX_ROWS; i++) {
		if (strcmp(now->samples[i].name, "biomatch_estate_connections"))
			continue;
		reading_label(&now->samples[i], "site", rows[n].site);
		reading_label(&now->samples[i], "class", rows[n].class);
		fill_row(screen, &rows[n++]);
	}
	qsort(rows, n, sizeof(rows[0]), compare_rows);
	return n;
}

static const char *age(double seconds, char out[AGE_LEN])
{
	if (seconds >= 86400)
		snprintf(out, AGE_LEN, "%.0f d", seconds / 86400);
	else if (seconds >= 3600)
		snprintf(out, AGE_LEN, "%.0f h", seconds / 3600);
	else if (seconds >= 60)
		snprintf(out, AGE_LEN, "%.0f min", seconds / 60);
	else
		snprintf(out, AGE_LEN, "%.0f s", seconds < 0 ? 0 : seconds);
	return out;
}

/* What a line of 79 columns or more leaves for the site. */
static int site_width(void)
{
	return COLS < 80 + 12 ? 12 : 24;
}

static void draw_row(const struct screen *screen, const struct row *row)
{
	double calls = row->recent.answered + row->recent.refused + row->recent.failed;
	double span = minutes(screen), now_s = (double)newest(screen)->at_ms / 1000;
	char room[AGE_LEN];

	printw("%-*.*s %-11.11s ", site_width(), site_width(), row->site, row->class);
	attron(COLOR_PAIR(states[row->rank].colour));
	printw("%-9s", states[row->rank].name);
	attroff(COLOR_PAIR(states[row->rank].colour));
	printw("%5.0f", row->connections);
	printw("%8s", row->last > 0 ? age(now_s - row->last, room) : "-");
	printw("%8.0f%9.0f%8.0f%7.0f\n", span > 0 ? calls / span : 0, row->total.answered,
	       row->total.refused, row->total.failed);
}

static int draw_estate(const struct screen *screen)
{
	struct row *rows = calloc(MAX_ROWS, sizeof(*rows));
	size_t n;

	if (!rows)
		return BM_ENOMEM;
	n = list_rows(screen, rows);
	attron(A_BOLD);
	printw("%-*s %-11s %-9s%5s%8s%8s%9s%8s%7s\n", site_width(), "SITE", "CLASS", "STATE",
	       "CONN", "LAST", "PER MIN", "ANSWERED", "REFUSED", "FAILED");
	attroff(A_BOLD);
	for (size_t i = 0; i < n && getcury(stdscr) < LINES - 1; i++)
		draw_row(screen, &rows[i]);
	free(rows);
	return 0;
}

static void draw_pools(const struct reading *now)
{
	static const char *const pools[] = {"face", "read", "scan"};

	printw("busy");
	for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++) {
		const char *const wanted[] = {"pool", pools[i], NULL};

		printw("  %s %.0f of %.0f", pools[i],
		       reading_sum(now, "biomatch_pool_busy", wanted),
		       reading_sum(now, "biomatch_pool_threads", wanted));
	}
	printw("  waiting %.0f  workers down %.0f\n",
	       reading_sum(now, "biomatch_pool_waiting", NULL),
	       reading_sum(now, "biomatch_face_workers_down", NULL));
}

/* The mean of each stage in the last minute, in milliseconds. */
static void draw_stages(const struct screen *screen)
{
	static const char *const stages[] = {"queue", "decode", "detect",
					     "embed", "scan",   "commit"};

	printw("ms  ");
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		const char *const wanted[] = {"stage", stages[i], NULL};
		double n = growth(screen, "biomatch_stage_seconds_count", wanted);
		double ms = 1000 * growth(screen, "biomatch_stage_seconds_sum", wanted) / n;

		if (n > 0)
			printw("  %s %.*f", stages[i], ms < 10 ? 2 : 0, ms);
		else
			printw("  %s -", stages[i]);
	}
	printw("\n");
}

static void draw_decisions(const struct reading *now)
{
	static const char *const decisions[] = {"MATCH", "NO_MATCH", "REFER"};

	printw("all ");
	for (size_t i = 0; i < sizeof(decisions) / sizeof(decisions[0]); i++) {
		const char *const wanted[] = {"decision", decisions[i], NULL};

		printw("  %s %.0f", decisions[i],
		       reading_sum(now, "biomatch_decisions_total", wanted));
	}
	printw("  references %.0f  audit log %.0f\n",
	       reading_sum(now, "biomatch_gallery_references", NULL),
	       reading_sum(now, "biomatch_audit_entries_total", NULL));
}

static int draw(const struct screen *screen)
{
	const struct reading *now = newest(screen);
	double up =
		(double)now->at_ms / 1000 - reading_sum(now, "process_start_time_seconds", NULL);
	char room[AGE_LEN];
	int error;

	erase();
	attron(A_BOLD);
	printw("biomatchd %s", screen->at);
	attroff(A_BOLD);
	printw("  up %s  connections %.0f", age(up, room),
	       reading_sum(now, "biomatch_connections", NULL));
	if (screen->error) {
		attron(COLOR_PAIR(BAD));
		printw("  no answer: %s", bm_error_text(screen->error));
		attroff(COLOR_PAIR(BAD));
	}
	printw("\n");
	draw_pools(now);
	draw_stages(screen);
	draw_decisions(now);
	printw("\n");
	error = draw_estate(screen);
	refresh();
	return error;
}

static int watch(struct screen *screen)
{
	int error = 0, key = ERR;

	initscr();
	cbreak();
	noecho();
	curs_set(0);
	keypad(stdscr, TRUE);
	timeout(PERIOD_MS);
	if (has_colors()) {
		start_color();
		use_default_colors();
		init_pair(GOOD, COLOR_GREEN, -1);
		init_pair(WARN, COLOR_YELLOW, -1);
		init_pair(BAD, COLOR_RED, -1);
	}
	while (!error && key != 'q') {
		error = draw(screen);
		key = error ? ERR : getch();
		if (key == ERR || key == ' ')
			take(screen);
	}
	endwin();
	return error;
}

static int refuse(const struct cli *cli, enum exit_code code, const char *at, const char *why)
{
	char message[256];

	snprintf(message, sizeof(message), "%.100s: %.100s", at, why);
	return cli_fail(cli, code, &(struct failure){.message = message});
}

int run_top(struct cli *cli)
{
	struct screen screen = {.at = cli->options.n_args ? cli->options.args[0] : DEFAULT_AT};
	int result = EXIT_DONE;

	if (parse_address(screen.at, screen.host, &screen.port) || !*screen.host)
		return refuse(cli, EXIT_USAGE, screen.at, "not of the form host:port");
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return refuse(cli, EXIT_USAGE, "top", "this is not a terminal");
	take(&screen);
	if (screen.error == BM_EINVAL)
		return refuse(cli, EXIT_CONNECTION, screen.at, "this is no operators' port");
	if (screen.error)
		return refuse(cli, EXIT_CONNECTION, screen.at, bm_error_text(screen.error));
	if (watch(&screen))
		result = refuse(cli, EXIT_LOCAL, "top", bm_error_text(BM_ENOMEM));
	forget(&screen, screen.n);
	return result;
}
