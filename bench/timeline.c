/* The times of calls by second, a panel for each kind. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "fleet.h"
#include "plot.h"

#define WIDTH           960
#define LEFT            64.0
#define RIGHT           (WIDTH - 20.0)
#define TOP             86.0
#define PANEL           112.0 /* from one to the next */
#define HEIGHT_OF_PANEL 88.0
#define BOTTOM          52.0

struct timeline {
	const struct fleet *fleet;
	size_t n_phases;
	enum kind kinds[KINDS];
	size_t n_kinds;
	struct plot_axis ms; /* of the panel under way */
	double seconds;
};

/* A call's second and time. */
struct moment {
	unsigned second;
	double ms;
};

struct moments {
	struct moment *list;
	size_t n;
};

static int by_second(const void *a, const void *b)
{
	unsigned x = ((const struct moment *)a)->second, y = ((const struct moment *)b)->second;

	return (x > y) - (x < y);
}

/* The calls of a kind that were answered with OK, over lines that are well. */
static struct moments moments_of(const struct fleet *fleet, enum kind kind)
{
	struct moments m = {0};
	size_t all = 1;

	for (size_t i = 0; i < fleet->n; i++)
		all += fleet->endpoints[i].n;
	m.list = calloc(all, sizeof(*m.list));
	must(m.list ? 0 : BM_ENOMEM, "samples");
	for (size_t i = 0; i < fleet->n; i++) {
		const struct endpoint *e = &fleet->endpoints[i];

		for (const struct sample *s = e->samples; s < e->samples + e->n; s++) {
			if (s->kind == kind && s->code == GRPC_OK && !s->troubled)
				m.list[m.n++] = (struct moment){(unsigned)s->at, (double)s->ms};
		}
	}
	qsort(m.list, m.n, sizeof(*m.list), by_second);
	return m;
}

static double at_x(const struct timeline *t, double second)
{
	return LEFT + second / t->seconds * (RIGHT - LEFT);
}

/* One line along the seconds; a second without a call breaks it. */
static void draw_quantile(cairo_t *cr, const struct timeline *t, const struct moments *m, double q)
{
	double *ms = calloc(m->n + 1, sizeof(*ms));
	unsigned before = 0;

	must(ms ? 0 : BM_ENOMEM, "samples");
	for (size_t i = 0; i < m->n;) {
		unsigned second = m->list[i].second;
		double x = at_x(t, second + 0.5), y;
		size_t n = 0;

		for (; i < m->n && m->list[i].second == second; i++)
			ms[n++] = m->list[i].ms;
		y = plot_at(&t->ms, quantile(ms, n, q));
		if (second != before + 1)
			cairo_move_to(cr, x - 1, y); /* so that a second alone shows */
		cairo_line_to(cr, x, y);
		before = second;
	}
	cairo_stroke(cr);
	free(ms);
}

static void draw_frame(cairo_t *cr, const struct timeline *t, const char *name)
{
	for (double e = t->ms.low; e <= t->ms.high; e++) {
		double y = plot_at(&t->ms, pow(10, e));

		plot_use_grid(cr);
		plot_line(cr, LEFT, y, RIGHT, y);
		plot_use_label(cr);
		plot_decade(cr, LEFT - 8, y + 4, 1, e);
	}
	cairo_set_source_rgb(cr, 0.08, 0.10, 0.13);
	plot_text(cr, LEFT + 4, t->ms.to - 6, 0, name);
}

static void draw_panel(cairo_t *cr, struct timeline *t, size_t panel)
{
	struct moments m = moments_of(t->fleet, t->kinds[panel]);
	double top = TOP + (double)panel * PANEL;

	t->ms = (struct plot_axis){-1, 3, top + HEIGHT_OF_PANEL, top};
	draw_frame(cr, t, tally_kind(t->kinds[panel]));
	cairo_save(cr);
	cairo_rectangle(cr, LEFT, top, RIGHT - LEFT, HEIGHT_OF_PANEL);
	cairo_clip(cr);
	cairo_set_line_width(cr, 2);
	cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
	cairo_set_source_rgb(cr, 0.84, 0.42, 0.12);
	draw_quantile(cr, t, &m, 0.99);
	cairo_set_source_rgb(cr, 0.13, 0.40, 0.75);
	draw_quantile(cr, t, &m, 0.5);
	cairo_restore(cr);
	free(m.list);
}

static double begin_of(const struct timeline *t, size_t phase)
{
	const struct phase *phases = t->fleet->phases;

	return (double)(phases[phase].from_ns - phases[0].from_ns) / 1e9;
}

/* Names of short phases would meet: they stand on three lines by turns. */
static void draw_phases(cairo_t *cr, const struct timeline *t, double bottom)
{
	const double dashes[] = {3, 3};

	for (size_t i = 0; i < t->n_phases; i++) {
		double x = at_x(t, begin_of(t, i)), y = 34 + 14 * (double)(i % 3);
		bool last = i + 1 == t->n_phases;

		plot_use_label(cr);
		plot_text(cr, last ? RIGHT : x + 3, y, last, t->fleet->phases[i].name);
		cairo_set_line_width(cr, 1);
		cairo_set_dash(cr, dashes, 2, 0);
		plot_line(cr, x, y - 10, x, bottom);
		cairo_set_dash(cr, NULL, 0, 0);
	}
}

static void draw_seconds(cairo_t *cr, const struct timeline *t, double bottom)
{
	double step = t->seconds > 200 ? 60 : 10;

	plot_use_label(cr);
	for (double s = 0; s <= t->seconds; s += step) {
		char text[16];

		snprintf(text, sizeof(text), "%.0f", s);
		plot_text(cr, at_x(t, s), bottom + 18, 0.5, text);
	}
	plot_text(cr, (LEFT + RIGHT) / 2, bottom + 38, 0.5, "seconds");
}

static void draw(cairo_t *cr, const void *arg)
{
	struct timeline t = *(const struct timeline *)arg;
	double bottom = TOP + (double)(t.n_kinds - 1) * PANEL + HEIGHT_OF_PANEL;

	cairo_set_source_rgb(cr, 0.08, 0.10, 0.13);
	plot_text(cr, LEFT, 16, 0, "Milliseconds of a call as the endpoint sees it, by second:");
	cairo_set_source_rgb(cr, 0.13, 0.40, 0.75);
	plot_text(cr, RIGHT - 100, 16, 1, "p50");
	cairo_set_source_rgb(cr, 0.84, 0.42, 0.12);
	plot_text(cr, RIGHT - 60, 16, 1, "p99");
	draw_phases(cr, &t, bottom);
	for (size_t i = 0; i < t.n_kinds; i++)
		draw_panel(cr, &t, i);
	draw_seconds(cr, &t, bottom);
}

void timeline_draw(const struct fleet *fleet, size_t n_phases, const char *path)
{
	const struct phase *last = &fleet->phases[n_phases - 1];
	struct timeline t = {.fleet = fleet, .n_phases = n_phases};
	const char *failed;

	t.seconds = begin_of(&t, n_phases - 1) + last->took;
	for (int kind = 0; kind < KINDS; kind++) {
		struct moments m = moments_of(fleet, (enum kind)kind);

		if (m.n && kind != CHECK)
			t.kinds[t.n_kinds++] = (enum kind)kind;
		free(m.list);
	}
	failed = plot_write(path, WIDTH, TOP + (double)t.n_kinds * PANEL + BOTTOM - 24, draw, &t);
	if (failed)
		fprintf(stderr, "fleet: %s.svg: %s\n", path, failed);
}
