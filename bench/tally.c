/* What became of the calls: samples, and what is printed of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/clock.h"
#include "fleet.h"

#define WHOLE STAGES /* not a stage: all of a call */

static const char *const kind_names[KINDS] = {"Check", "Verify",       "Compare", "Identify",
					      "Enrol", "Verify image", "Search"};
static const char *const stage_names[STAGES] = {"queue", "decode", "detect",  "align",
						"embed", "match",  "quality", "the rest"};

const char *tally_kind(enum kind kind)
{
	return kind_names[kind];
}

void tally_note(struct endpoint *e, enum kind kind, int64_t began, int code,
		const Biomatch__V1__StageTimes *times)
{
	const struct fleet *fleet = e->fleet;
	const struct phase *phase = &fleet->phases[fleet->phase];
	int64_t now = clock_monotonic_ns();
	struct sample *s;

	if (e->n == e->room) {
		e->room = e->room ? 2 * e->room : 64;
		e->samples = realloc(e->samples, e->room * sizeof(*e->samples));
		must(e->samples ? 0 : BM_ENOMEM, "samples");
	}
	s = &e->samples[e->n++];
	*s = (struct sample){
		.at = (float)((double)(now - fleet->phases[0].from_ns) / CLOCK_NS_PER_SEC),
		.ms = (float)((double)(now - began) / CLOCK_NS_PER_MS),
		.phase = (uint8_t)fleet->phase,
		.kind = (uint8_t)kind,
		.code = (uint8_t)code,
		.troubled = endpoint_troubled(e, phase),
	};
	if (times) {
		const uint32_t us[REST] = {times->queue_us,  times->decode_us, times->detect_us,
					   times->align_us,  times->embed_us,  times->match_us,
					   times->quality_us};

		s->stage[REST] = s->ms;
		for (int i = 0; i < REST; i++) {
			s->stage[i] = (float)us[i] / 1000;
			s->stage[REST] -= s->stage[i];
		}
	}
}

/* Calls that are looked at together. */
struct pick {
	size_t phase;
	enum kind kind;
	bool troubled;
};

struct picked {
	double *ms; /* of those answered with OK, n of them */
	size_t n, refused, failed;
};

/* stage: or WHOLE. Whoever asks frees ms. */
static struct picked pick_calls(const struct fleet *fleet, struct pick pick, int stage)
{
	struct picked p = {0};
	size_t all = 1;

	for (size_t i = 0; i < fleet->n; i++)
		all += fleet->endpoints[i].n;
	p.ms = calloc(all, sizeof(*p.ms));
	must(p.ms ? 0 : BM_ENOMEM, "samples");
	for (size_t i = 0; i < fleet->n; i++) {
		const struct endpoint *e = &fleet->endpoints[i];

		for (const struct sample *s = e->samples; s < e->samples + e->n; s++) {
			if (s->phase != pick.phase || s->kind != pick.kind ||
			    s->troubled != pick.troubled)
				continue;
			if (s->code == GRPC_OK)
				p.ms[p.n++] = (double)(stage == WHOLE ? s->ms : s->stage[stage]);
			else if (s->code == GRPC_RESOURCE_EXHAUSTED)
				p.refused++;
			else
				p.failed++;
		}
	}
	return p;
}

double tally_rate(const struct fleet *fleet, size_t phase, enum kind kind)
{
	struct picked p = pick_calls(fleet, (struct pick){phase, kind, false}, WHOLE);

	free(p.ms);
	return (double)p.n / fleet->phases[phase].took;
}

double tally_quantile(const struct fleet *fleet, size_t phase, enum kind kind, double q)
{
	struct picked p = pick_calls(fleet, (struct pick){phase, kind, false}, WHOLE);
	double ms = quantile(p.ms, p.n, q);

	free(p.ms);
	return ms;
}

size_t tally_failed(const struct fleet *fleet, size_t phase)
{
	size_t n = 0;

	for (int kind = 0; kind < KINDS; kind++) {
		struct picked p =
			pick_calls(fleet, (struct pick){phase, (enum kind)kind, false}, WHOLE);

		n += p.failed;
		free(p.ms);
	}
	return n;
}

void tally_begin(void)
{
	printf("| phase | call | a second | p50 ms | p99 ms | p99.9 ms | refused | failed |\n"
	       "|---|---|--:|--:|--:|--:|--:|--:|\n");
}

void tally_phase(const struct fleet *fleet)
{
	const struct phase *phase = &fleet->phases[fleet->phase];

	for (int i = 0; i < 2 * KINDS; i++) {
		struct pick pick = {fleet->phase, (enum kind)(i % KINDS), i >= KINDS};
		struct picked p = pick_calls(fleet, pick, WHOLE);

		if (p.n + p.refused + p.failed)
			printf("| %s | %s%s | %.1f | %.2f | %.2f | %.2f | %zu | %zu |\n",
			       phase->name, kind_names[pick.kind], pick.troubled ? ", there" : "",
			       (double)p.n / phase->took, quantile(p.ms, p.n, 0.5),
			       quantile(p.ms, p.n, 0.99), quantile(p.ms, p.n, 0.999), p.refused,
			       p.failed);
		free(p.ms);
	}
	fflush(stdout);
}

static void print_stages(const struct fleet *fleet, struct pick pick)
{
	struct picked p = pick_calls(fleet, pick, WHOLE);
	size_t n = p.n;

	free(p.ms);
	if (!n)
		return;
	printf("| %s | %s |", fleet->phases[pick.phase].name, kind_names[pick.kind]);
	for (int stage = 0; stage < STAGES; stage++) {
		p = pick_calls(fleet, pick, stage);
		printf(" %.2f / %.2f |", quantile(p.ms, p.n, 0.5), quantile(p.ms, p.n, 0.99));
		free(p.ms);
	}
	printf("\n");
}

static void print_all_stages(const struct fleet *fleet, size_t n_phases)
{
	printf("\nby stage, p50 / p99 ms; the rest is network, TLS, the commit and the client\n\n"
	       "| phase | call |");
	for (int stage = 0; stage < STAGES; stage++)
		printf(" %s |", stage_names[stage]);
	printf("\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
	for (size_t phase = 0; phase < n_phases; phase++) {
		for (int kind = VERIFY; kind < KINDS; kind++)
			print_stages(fleet, (struct pick){phase, (enum kind)kind, false});
	}
}

static size_t answered_in(const struct fleet *fleet, size_t phase)
{
	size_t n = 0;

	for (size_t i = 0; i < fleet->n; i++) {
		const struct endpoint *e = &fleet->endpoints[i];

		for (const struct sample *s = e->samples; s < e->samples + e->n; s++)
			n += s->phase == phase && s->code != 255;
	}
	return n;
}

static void print_usage(const struct fleet *fleet, size_t n_phases)
{
	printf("\nby phase; memory is what is no file's, at its end\n\n"
	       "| phase | seconds | answers | processor ms each | face workers' | cores | clients' "
	       "cores | MiB "
	       "| face workers' | descriptors |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
	for (size_t i = 0; i < n_phases; i++) {
		const struct phase *phase = &fleet->phases[i];
		const struct process_usage *from = &phase->before, *to = &phase->after;
		double daemon = (double)(to->daemon_cpu_ms - from->daemon_cpu_ms);
		double workers = (double)(to->workers_cpu_ms - from->workers_cpu_ms);
		size_t n = answered_in(fleet, i);

		printf("| %s | %.1f | %zu | %.2f | %.2f | %.2f | %.2f | %zu | %zu | %zu |\n",
		       phase->name, phase->took, n, daemon / (double)n, workers / (double)n,
		       (daemon + workers) / 1000 / phase->took,
		       phase->clients_cpu_ms / 1000 / phase->took, to->daemon_kib >> 10,
		       to->workers_kib >> 10, to->descriptors);
	}
}

void tally_end(const struct fleet *fleet, size_t n_phases)
{
	print_all_stages(fleet, n_phases);
	print_usage(fleet, n_phases);
}
