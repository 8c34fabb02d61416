/*
 * The endpoints of a deployment, each with a connection and a certificate of its own, and the
 * transactions of its class at its pace. The script `fleet` starts the daemon, and starts it
 * again when it ends.
 *
 *   fleet fill STORE KEY PACK GALLERIES          templates into each of "name:n,name:n"
 *   fleet run DIR PACK SECONDS BARE IMAGE PLOT
 *
 * DIR has the daemon's `pid` and `port`, `pki`, `store.key` and `endpoints`, with a line for
 * each: certificate, class, site. BARE is how many photographs a second the models alone do.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/file.h"
#include "biomatch/score.h"
#include "fill.h"
#include "fleet.h"
#include "line.h"
#include "set.h"

#define MAX_ENDPOINTS 2000
#define PACE_S        7.0 /* of a passage through a gate */
#define STACK         (256 << 10)
#define IMAGE_CLIENTS 4
#define DEAD_S        100.0 /* the longest that a dead site is waited for */
#define TROUBLED_SITE "lo-wu"
#define TICK_NS       (10 * CLOCK_NS_PER_MS)

enum {
	FIRST_STORM,
	PEAK,
	SEARCHED,
	SLOW_SITE,
	DEAD_SITE,
	RESTARTED,
	IMAGES,
	BUSY,
	OVERLOAD,
	N_PHASES
};

static struct line *line;

bool endpoint_troubled(const struct endpoint *e, const struct phase *phase)
{
	return phase->trouble && !strcmp(e->site, TROUBLED_SITE);
}

static struct phase *current(struct fleet *fleet)
{
	return &fleet->phases[fleet->phase];
}

static void meet(struct fleet *fleet)
{
	pthread_barrier_wait(&fleet->meeting);
}

static void wait_until(int64_t ns)
{
	struct timespec until = {ns / CLOCK_NS_PER_SEC, ns % CLOCK_NS_PER_SEC};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* A client that connects with its first call. */
static struct biomatch_client *dial(struct endpoint *e, const char *target)
{
	char message[BIOMATCH_MESSAGE_MAX] = "", key[520], ca[512];
	struct biomatch_options options = {.target = target,
					   .certificate = e->certificate,
					   .private_key = key,
					   .ca = ca,
					   .server_name = "localhost",
					   .connect_ms = 30000};
	struct biomatch_client *client;

	snprintf(key, sizeof(key), "%.*s.key", (int)strlen(e->certificate) - 4, e->certificate);
	snprintf(ca, sizeof(ca), "%s/ca.pem", e->fleet->remote.pki);
	must(biomatch_client_open(&options, &client, message), message);
	return client;
}

static void dial_again(struct endpoint *e, struct biomatch_client **client, const char *target)
{
	biomatch_client_close(*client);
	*client = dial(e, target);
}

/* Endpoints of a class are at different points of their turns. */
static enum kind next_kind(const struct endpoint *e)
{
	return e->class->kinds[(e->number + e->calls) % e->class->n_kinds];
}

/* Share of its transactions that a class has of verifications. */
static double verifying(const struct class *class)
{
	size_t n = 0;

	for (size_t i = 0; i < class->n_kinds; i++)
		n += class->kinds[i] == VERIFY;
	return (double)n / (double)class->n_kinds;
}

/* Nanoseconds from one transaction of the endpoint to the next. */
static int64_t pace_of(const struct endpoint *e, const struct phase *phase)
{
	double all = 0, pace = PACE_S;

	if (phase->verifications > 0 && verifying(e->class) > 0) {
		for (size_t i = 0; i < e->fleet->n; i++)
			all += verifying(e->fleet->endpoints[i].class);
		pace = all / phase->verifications;
	}
	return (int64_t)(pace * CLOCK_NS_PER_SEC);
}

static void transact_paced(struct endpoint *e, struct biomatch_client *client, struct phase *phase)
{
	int64_t pace = pace_of(e, phase);
	/* Endpoints begin at different moments of their pace, and keep to it. */
	int64_t next =
		phase->from_ns + (int64_t)((double)e->number / (double)e->fleet->n * (double)pace);

	for (; next < atomic_load(&phase->to_ns); next += pace) {
		wait_until(next);
		transact(e, client, next_kind(e));
	}
}

static void transact_at_once(struct endpoint *e, struct biomatch_client *client,
			     struct phase *phase, bool pictures)
{
	while (clock_monotonic_ns() < atomic_load(&phase->to_ns))
		transact(e, client, pictures ? VERIFY_IMAGE : next_kind(e));
}

static bool is_gate(const struct endpoint *e)
{
	return e->class->kinds[0] == VERIFY;
}

/*
 * People come when they like: from one to the next it takes an exponentially distributed time.
 * Everybody draws the same moments, and takes those that are theirs.
 */
static void transact_at_random(struct endpoint *e, struct biomatch_client *client,
			       struct phase *phase)
{
	double all = phase->load * tally_rate(e->fleet, IMAGES, VERIFY_IMAGE);
	unsigned short seed[3] = {0, 0, (unsigned short)e->fleet->phase};
	int64_t next = phase->from_ns;
	size_t gates = 0, own = 0;

	for (size_t i = 0; i < e->fleet->n; i++) {
		own += i < e->number && is_gate(&e->fleet->endpoints[i]);
		gates += is_gate(&e->fleet->endpoints[i]);
	}
	for (size_t n = 0;; n++) {
		next += (int64_t)(-log(1 - erand48(seed)) / all * CLOCK_NS_PER_SEC);
		if (next >= atomic_load(&phase->to_ns))
			return;
		if (n % gates != own)
			continue;
		wait_until(next);
		transact(e, client, VERIFY_IMAGE);
	}
}

static void take_part(struct endpoint *e, struct biomatch_client *client)
{
	struct phase *phase = current(e->fleet);
	bool searches = e->class->kinds[0] == SEARCH;

	if (phase->way == STORM)
		transact(e, client, CHECK);
	else if (phase->way == RESTART)
		transact_until_answered(e, client);
	else if (searches && phase->search)
		transact_at_once(e, client, phase, false);
	else if (searches || (phase->trouble == DEAD && endpoint_troubled(e, phase)))
		return;
	else if (phase->way == PACED)
		transact_paced(e, client, phase);
	else if (phase->way == CROWD && is_gate(e))
		transact_at_random(e, client, phase);
	else if (phase->way == PICTURES && e->number < IMAGE_CLIENTS)
		transact_at_once(e, client, phase, true);
}

/* Four meetings a phase: it is set, all are ready, it begins, it is over. */
static void *live(void *arg)
{
	struct endpoint *e = arg;
	struct fleet *fleet = e->fleet;
	struct biomatch_client *client = dial(e, fleet->remote.target);
	char through[32];

	snprintf(through, sizeof(through), "localhost:%u", line_port(line));
	for (;;) {
		bool troubled;

		meet(fleet);
		if (fleet->phase == FLEET_MAX_PHASES)
			break;
		troubled = endpoint_troubled(e, current(fleet));
		if (current(fleet)->way == STORM)
			dial_again(e, &client, fleet->remote.target);
		if (troubled) {
			dial_again(e, &client, through);
			transact(e, client, CHECK);
		}
		meet(fleet);
		meet(fleet);
		take_part(e, client);
		meet(fleet);
		if (troubled)
			dial_again(e, &client, fleet->remote.target);
	}
	biomatch_client_close(client);
	return NULL;
}

static pid_t read_pid(const struct fleet *fleet)
{
	char path[512];
	int pid = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/pid", fleet->dir);
	file = fopen(path, "r");
	if (file && fscanf(file, "%d", &pid) != 1)
		pid = 0;
	if (file)
		fclose(file);
	return pid;
}

/* The daemon ends as for an update of the machine, and the script starts it again. */
static void end_daemon(struct fleet *fleet)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/port", fleet->dir);
	must(unlink(path) || kill(fleet->daemon, SIGTERM) ? BM_EIO : 0, "restart");
	while (!kill(fleet->daemon, 0) || errno != ESRCH)
		wait_until(clock_monotonic_ns() + TICK_NS);
}

static double since(const struct phase *phase)
{
	return (double)(clock_monotonic_ns() - phase->from_ns) / 1e9;
}

static void watch_start(struct fleet *fleet, struct phase *phase)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/port", fleet->dir);
	while (access(path, F_OK))
		wait_until(clock_monotonic_ns() + TICK_NS);
	phase->up = since(phase);
	fleet->daemon = read_pid(fleet);
	phase->before = (struct process_usage){0};
}

/* Until the daemon has let go of the dead connections; the phase ends then. */
static void watch_dead(struct fleet *fleet, struct phase *phase, double least)
{
	size_t n = 0;

	for (size_t i = 0; i < fleet->n; i++)
		n += endpoint_troubled(&fleet->endpoints[i], phase);
	n -= n / 20; /* the daemon opens some for other ends, too */
	while (clock_monotonic_ns() < atomic_load(&phase->to_ns)) {
		if (process_descriptors(fleet->daemon) + n <= phase->before.descriptors) {
			phase->noticed = since(phase);
			break;
		}
		wait_until(clock_monotonic_ns() + 10 * TICK_NS);
	}
	if (phase->noticed > 0)
		atomic_store(&phase->to_ns,
			     phase->from_ns + (int64_t)(fmax(least, phase->noticed) * 1e9));
}

/* Of this process so far. */
static double own_cpu_ms(void)
{
	struct timespec used;

	must(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) ? BM_EIO : 0, "clock");
	return (double)used.tv_sec * 1e3 + (double)used.tv_nsec / 1e6;
}

static void run_phase(struct fleet *fleet)
{
	struct phase *phase = current(fleet);
	double seconds = phase->trouble == DEAD ? DEAD_S : phase->seconds;

	line_set(line, LINE_WELL);
	meet(fleet);
	meet(fleet);
	phase->before = process_usage(fleet->daemon);
	phase->clients_cpu_ms = -own_cpu_ms();
	line_set(line, phase->trouble == SLOW   ? LINE_SLOW
		       : phase->trouble == DEAD ? LINE_DEAD
						: LINE_WELL);
	if (phase->way == RESTART)
		end_daemon(fleet);
	phase->from_ns = clock_monotonic_ns();
	atomic_store(&phase->to_ns, phase->from_ns + (int64_t)(seconds * 1e9));
	meet(fleet);
	if (phase->way == RESTART)
		watch_start(fleet, phase);
	if (phase->trouble == DEAD)
		watch_dead(fleet, phase, phase->seconds);
	meet(fleet);
	phase->took = since(phase);
	phase->after = process_usage(fleet->daemon);
	phase->clients_cpu_ms += own_cpu_ms();
	tally_phase(fleet);
}

static void read_endpoints(struct fleet *fleet)
{
	char path[512], text[640], class[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/endpoints", fleet->dir);
	file = fopen(path, "r");
	must(file ? 0 : BM_EIO, path);
	fleet->endpoints = calloc(MAX_ENDPOINTS, sizeof(*fleet->endpoints));
	must(fleet->endpoints ? 0 : BM_ENOMEM, "endpoints");
	while (fleet->n < MAX_ENDPOINTS && fgets(text, sizeof(text), file)) {
		struct endpoint *e = &fleet->endpoints[fleet->n];

		if (sscanf(text, "%511s %63s %63s", e->certificate, class, e->site) != 3)
			continue;
		e->fleet = fleet;
		e->class = class_of(class);
		e->number = fleet->n++;
	}
	fclose(file);
}

static void make_people(struct fleet *fleet, struct arena *arena)
{
	struct set set = {.dim = fleet->remote.pack->dim, .spread = SET_SPREAD};
	float v[CODE_MAX_DIM];

	for (size_t i = 0; i < FLEET_PEOPLE; i++) {
		set_draw(&set, i, v);
		remote_template(&fleet->remote, v, arena, &fleet->people[i]);
	}
}

static void start_all(struct fleet *fleet)
{
	pthread_attr_t small;

	must(pthread_attr_init(&small) || pthread_attr_setstacksize(&small, STACK) ||
			     pthread_barrier_init(&fleet->meeting, NULL, (unsigned)fleet->n + 1)
		     ? BM_ENOMEM
		     : 0,
	     "thread");
	for (size_t i = 0; i < fleet->n; i++)
		must(pthread_create(&fleet->endpoints[i].thread, &small, live, &fleet->endpoints[i])
			     ? BM_ENOMEM
			     : 0,
		     "thread");
	pthread_attr_destroy(&small);
}

static void end_all(struct fleet *fleet)
{
	fleet->phase = FLEET_MAX_PHASES;
	meet(fleet);
	for (size_t i = 0; i < fleet->n; i++) {
		pthread_join(fleet->endpoints[i].thread, NULL);
		free(fleet->endpoints[i].samples);
	}
	free(fleet->endpoints);
	pthread_barrier_destroy(&fleet->meeting);
}

static void set_phases(struct phase *phases, double seconds)
{
	phases[FIRST_STORM] = (struct phase){.name = "storm", .way = STORM};
	phases[PEAK] = (struct phase){.name = "peak", .seconds = seconds};
	phases[SEARCHED] = (struct phase){
		.name = "search", .seconds = seconds, .verifications = 202, .search = true};
	phases[SLOW_SITE] =
		(struct phase){.name = "slow site", .seconds = seconds, .trouble = SLOW};
	phases[DEAD_SITE] =
		(struct phase){.name = "dead site", .seconds = seconds, .trouble = DEAD};
	phases[RESTARTED] = (struct phase){.name = "restart", .way = RESTART};
	phases[IMAGES] = (struct phase){.name = "images", .seconds = seconds / 2, .way = PICTURES};
	phases[BUSY] =
		(struct phase){.name = "busy", .seconds = seconds, .way = CROWD, .load = 0.8};
	phases[OVERLOAD] =
		(struct phase){.name = "overload", .seconds = seconds, .way = CROWD, .load = 3};
}

static void print_goal(const char *what, const char *wanted, bool met, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void print_goal(const char *what, const char *wanted, bool met, const char *format, ...)
{
	va_list args;

	printf("| %s | ", what);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(" | %s | %s |\n", wanted, met ? "met" : "not met");
}

static void print_goals(const struct fleet *fleet)
{
	const struct phase *phases = fleet->phases;
	double verified = tally_rate(fleet, SEARCHED, VERIFY);
	double p99 = tally_quantile(fleet, SEARCHED, VERIFY, 0.99);
	double pictures = tally_rate(fleet, IMAGES, VERIFY_IMAGE) / fleet->bare;
	double crowded =
		tally_rate(fleet, OVERLOAD, VERIFY_IMAGE) / tally_rate(fleet, IMAGES, VERIFY_IMAGE);
	double slower = tally_quantile(fleet, OVERLOAD, VERIFY_IMAGE, 0.99) /
			tally_quantile(fleet, BUSY, VERIFY_IMAGE, 0.99);
	double joined = phases[RESTARTED].took - phases[RESTARTED].up;
	size_t failed = 0;

	for (size_t i = 0; i < N_PHASES; i++)
		failed += tally_failed(fleet, i);
	printf("\n| | measured | wanted | |\n|---|--:|--:|---|\n");
	print_goal("Verify by template while the large gallery is searched", "200/s",
		   verified >= 200, "%.1f/s", verified);
	print_goal("p99 of them", "under 10 ms", p99 < 10, "%.1f ms", p99);
	print_goal("photographs, of what the models alone do", "90 %", pictures >= 0.9, "%.0f %%",
		   100 * pictures);
	print_goal(
		"at three times the load that can be borne, p99 of those served beside the same at "
		"80 %",
		"within 2x", slower <= 2, "%.2fx", slower);
	print_goal("and as many are served as before", "90 %", crowded >= 0.9, "%.0f %%",
		   100 * crowded);
	print_goal("all connect, full handshakes", "under 5 s", phases[FIRST_STORM].took < 5,
		   "%.1f s", phases[FIRST_STORM].took);
	print_goal("all are back once a restarted daemon listens", "under 5 s", joined < 5,
		   "%.1f s", joined);
	print_goal("calls of healthy sites lost in all", "none", !failed, "%zu", failed);
	printf("\nThe daemon ended and listened again within %.1f s. ", phases[RESTARTED].up);
	if (phases[DEAD_SITE].noticed > 0)
		printf("It let go of the dead site after %.0f s.\n", phases[DEAD_SITE].noticed);
	else
		printf("It had not let go of the dead site after %.0f s.\n", DEAD_S);
}

static void run(struct fleet *fleet, double seconds, const char *plot)
{
	struct rlimit files = {.rlim_cur = 8192, .rlim_max = 8192};

	if (setrlimit(RLIMIT_NOFILE, &files))
		perror("fleet: descriptors");
	signal(SIGPIPE, SIG_IGN);
	snprintf(fleet->run, sizeof(fleet->run), "%lld", (long long)clock_wall_ms());
	fleet->daemon = read_pid(fleet);
	set_phases(fleet->phases, seconds);
	line = line_open((uint16_t)strtoul(strrchr(fleet->remote.target, ':') + 1, NULL, 10));
	start_all(fleet);
	printf("%zu clients, each with a connection and a certificate of its own; the models "
	       "alone: "
	       "%.1f photographs a second\n\n",
	       fleet->n, fleet->bare);
	tally_begin();
	for (fleet->phase = 0; fleet->phase < N_PHASES; fleet->phase++)
		run_phase(fleet);
	tally_end(fleet, N_PHASES);
	print_goals(fleet);
	timeline_draw(fleet, N_PHASES, plot);
	end_all(fleet);
	line_close(line);
}

static void read_port(const struct fleet *fleet, char *target, size_t room)
{
	char path[512];
	unsigned port = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/port", fleet->dir);
	file = fopen(path, "r");
	must(file && fscanf(file, "%u", &port) == 1 ? 0 : BM_EIO, path);
	fclose(file);
	snprintf(target, room, "localhost:%u", port);
}

int main(int argc, char **argv)
{
	static struct fleet fleet;
	char target[32], pki[512], key[512];
	struct arena arena;

	must(score_init(NULL), "score");
	if (argc == 6 && !strcmp(argv[1], "fill")) {
		fill_store(argv[2], argv[3], argv[4], argv[5]);
		return 0;
	}
	if (argc != 8 || strcmp(argv[1], "run")) {
		fprintf(stderr, "usage: see bench/fleet\n");
		return 64;
	}
	fleet.dir = argv[2];
	fleet.bare = strtod(argv[5], NULL);
	snprintf(pki, sizeof(pki), "%s/pki", fleet.dir);
	snprintf(key, sizeof(key), "%s/store.key", fleet.dir);
	read_port(&fleet, target, sizeof(target));
	arena_init(&arena, 1 << 20);
	remote_init(&fleet.remote, target, pki, key, argv[3]);
	read_endpoints(&fleet);
	must(file_read(argv[6], 16 << 20, &fleet.image, &fleet.image_len), argv[6]);
	make_people(&fleet, &arena);
	run(&fleet, strtod(argv[4], NULL), argv[7]);
	remote_deinit(&fleet.remote);
	arena_deinit(&arena);
	free(fleet.image);
	return 0;
}
