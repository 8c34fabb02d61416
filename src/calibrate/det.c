#include <math.h>

#include "calibrate.h"
#include "plot.h"

#define WIDTH  720
#define HEIGHT 480
#define LEFT   78.0
#define RIGHT  (WIDTH - 24.0)
#define TOP    44.0
#define BOTTOM (HEIGHT - 56.0)

struct det {
	const struct accuracy *a;
	const char *title;
	struct plot_axis x, y;
};

static void choose_axes(struct det *det)
{
	const struct accuracy *a = det->a;
	const struct accuracy_point *first = &a->points[0], *last = &a->points[a->n_points - 1];
	double least = first->fnmr.low > 0 ? first->fnmr.low : first->fnmr.high / 10;

	det->x = (struct plot_axis){
		.low = floor(log10(last->fmr.low)),
		.high = fmin(ceil(log10(first->fmr.high)), 0),
		.from = LEFT,
		.to = RIGHT,
	};
	det->y = (struct plot_axis){
		.low = floor(log10(least)),
		.high = fmin(fmax(ceil(log10(last->fnmr.high)), floor(log10(least)) + 1), 0),
		.from = BOTTOM,
		.to = TOP,
	};
}

static void draw_grid(cairo_t *cr, const struct det *det)
{
	for (double e = det->x.low; e <= det->x.high; e++) {
		double x = plot_at(&det->x, pow(10, e));

		plot_use_grid(cr);
		plot_line(cr, x, TOP, x, BOTTOM);
		plot_use_label(cr);
		plot_decade(cr, x, BOTTOM + 20, 0.5, e);
	}
	for (double e = det->y.low; e <= det->y.high; e++) {
		double y = plot_at(&det->y, pow(10, e));

		plot_use_grid(cr);
		plot_line(cr, LEFT, y, RIGHT, y);
		plot_use_label(cr);
		plot_decade(cr, LEFT - 8, y + 4, 1, e);
	}
}

static void draw_titles(cairo_t *cr, const char *title)
{
	cairo_set_source_rgb(cr, 0.08, 0.10, 0.13);
	plot_text(cr, LEFT, 26, 0, title);
	plot_text(cr, (LEFT + RIGHT) / 2, HEIGHT - 14, 0.5, "FMR (false match rate)");
	cairo_save(cr);
	cairo_translate(cr, 20, (TOP + BOTTOM) / 2);
	cairo_rotate(cr, -M_PI / 2);
	plot_text(cr, 0, 0, 0.5, "FNMR (false non-match rate)");
	cairo_restore(cr);
}

/* The band of both intervals: along their lower ends, and back along the upper ones. */
static void draw_band(cairo_t *cr, const struct det *det)
{
	const struct accuracy *a = det->a;

	for (size_t i = 0; i < a->n_points; i++)
		cairo_line_to(cr, plot_at(&det->x, a->points[i].fmr.low),
			      plot_at(&det->y, a->points[i].fnmr.low));
	for (size_t i = a->n_points; i-- > 0;)
		cairo_line_to(cr, plot_at(&det->x, a->points[i].fmr.high),
			      plot_at(&det->y, a->points[i].fnmr.high));
	cairo_close_path(cr);
	cairo_set_source_rgba(cr, 0.13, 0.40, 0.75, 0.18);
	cairo_fill(cr);
}

static void draw_curve(cairo_t *cr, const struct det *det)
{
	const struct accuracy *a = det->a;

	cairo_set_source_rgb(cr, 0.13, 0.40, 0.75);
	cairo_set_line_width(cr, 2);
	for (size_t i = 0; i < a->n_points; i++)
		cairo_line_to(cr, plot_at(&det->x, a->points[i].fmr.rate),
			      plot_at(&det->y, a->points[i].fnmr.rate));
	cairo_stroke(cr);
	for (size_t i = 0; i < a->n_points; i++) {
		cairo_arc(cr, plot_at(&det->x, a->points[i].fmr.rate),
			  plot_at(&det->y, a->points[i].fnmr.rate), 3, 0, 2 * M_PI);
		cairo_fill(cr);
	}
}

static void draw(cairo_t *cr, const void *arg)
{
	const struct det *det = arg;

	draw_grid(cr, det);
	draw_titles(cr, det->title);
	cairo_rectangle(cr, LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP);
	cairo_clip(cr);
	draw_band(cr, det);
	draw_curve(cr, det);
}

int det_draw(const char *path, const struct accuracy *a, const char *title)
{
	struct det det = {.a = a, .title = title};
	const char *failed;

	choose_axes(&det);
	failed = plot_write(path, WIDTH, HEIGHT, draw, &det);
	return failed ? complain(BM_EIO, "%s.svg: %s", path, failed) : 0;
}
