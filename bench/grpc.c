/*
 * grpc PKI TURNS SECONDS PORT PID PORT PID: what a small call costs our transport and gRPC C++, of
 * which the two servers are, in turns. See bench/grpc, which starts them.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/health/v1/health.pb-c.h"
#include "health.h"
#include "load.h"

#define MAX_TURNS 99

enum { NET, GRPC, SERVERS };

static const struct {
	const char *name;
	struct load_shape shape;
} rows[] = {
	{" 1 caller", {1, 1}},
	{" 64 connections, 1 caller each", {64, 1}},
	{" 1 connection, 16 callers", {1, 16}},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* The columns of a turn, or of several. */
enum column { RATE, CPU, P50, P99, SERVER_BUSY, BUSY, COLUMNS };

struct turn {
	double is[SERVERS][COLUMNS];
};

/* Over all rows: the processor time's ratio in single turns. */
static double least = 1e9, most;

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const struct turn *turns, unsigned n, unsigned server, enum column column)
{
	double v[MAX_TURNS];

	for (unsigned i = 0; i < n; i++)
		v[i] = turns[i].is[server][column];
	qsort(v, n, sizeof(*v), by_size);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void measure(struct load *load, const struct load_server *server, struct load_shape shape,
		    unsigned ms, double out[COLUMNS])
{
	struct load_result result = load_run(load, server, shape, ms);

	out[RATE] = result.rate;
	out[CPU] = result.server_us;
	out[P50] = result.p50_us;
	out[P99] = result.p99_us;
	out[SERVER_BUSY] = 100 * result.server_busy;
	out[BUSY] = 100 * result.busy;
}

static void print_server(const char *what, const char *name, const double v[COLUMNS])
{
	printf("|%s | %s | %.0f | %.1f | %.0f | %.0f | %.0f | %.0f |\n", what, name, v[RATE],
	       v[CPU], v[P50], v[P99], v[SERVER_BUSY], v[BUSY]);
}

/* One row of the table, three lines of it; the ratio of the processor times. */
static double run_row(struct load *load, const struct load_server servers[SERVERS], size_t row,
		      unsigned n, unsigned ms)
{
	struct turn turns[MAX_TURNS];
	double v[SERVERS][COLUMNS];

	for (unsigned i = 0; i < n; i++) {
		double ratio;

		for (unsigned s = 0; s < SERVERS; s++)
			measure(load, &servers[s], rows[row].shape, ms, turns[i].is[s]);
		ratio = turns[i].is[NET][CPU] / turns[i].is[GRPC][CPU];
		least = ratio < least ? ratio : least;
		most = ratio > most ? ratio : most;
	}
	for (unsigned s = 0; s < SERVERS; s++) {
		for (enum column c = 0; c < COLUMNS; c++)
			v[s][c] = median(turns, n, s, c);
	}
	print_server(rows[row].name, "biomatch", v[NET]);
	print_server("", "gRPC C++", v[GRPC]);
	printf("| | ratio | %.2f | %.2f | %.2f | %.2f | | |\n", v[NET][RATE] / v[GRPC][RATE],
	       v[NET][CPU] / v[GRPC][CPU], v[NET][P50] / v[GRPC][P50], v[NET][P99] / v[GRPC][P99]);
	fflush(stdout);
	return v[NET][CPU] / v[GRPC][CPU];
}

static void run(struct load *load, const struct load_server servers[SERVERS], unsigned n,
		unsigned ms)
{
	double worst = 0;

	printf("| callers | server | calls/s | server CPU, us/call | p50, us | p99, us "
	       "| server busy, %% | client busy, %% |\n|---|---|--:|--:|--:|--:|--:|--:|\n");
	for (size_t row = 0; row < ROWS; row++) {
		double ratio = run_row(load, servers, row, n, ms);

		worst = ratio > worst ? ratio : worst;
	}
	printf("\nGoal: a call costs the server no more processor time than gRPC C++, a ratio of "
	       "at most 1.00.\nMeasured: %.2f in the worst row, %.2f to %.2f in single turns; "
	       "%s.\n",
	       worst, least, most, worst <= 1 ? "reached" : "missed");
}

static unsigned number(const char *text, unsigned most_allowed)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || !n || n > most_allowed) {
		fprintf(stderr, "grpc: not a number from 1 to %u: %s\n", most_allowed, text);
		exit(2);
	}
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	Grpc__Health__V1__HealthCheckResponse reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	struct load_server servers[SERVERS];
	struct load *load;

	if (argc != 8) {
		fputs("usage: grpc PKI TURNS SECONDS PORT PID PORT PID\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	request.service = (char *)(uintptr_t)HEALTH_SERVICE;
	reply.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	load = load_open(argv[1], HEALTH_PATH, &request.base, &reply.base);
	for (unsigned s = 0; s < SERVERS; s++) {
		servers[s] = (struct load_server){(uint16_t)number(argv[4 + 2 * s], UINT16_MAX),
						  (pid_t)number(argv[5 + 2 * s], INT32_MAX)};
		load_check_refusal(argv[1], &servers[s]);
	}
	run(load, servers, number(argv[2], MAX_TURNS), 1000 * number(argv[3], 3600));
	load_close(load);
	return 0;
}
