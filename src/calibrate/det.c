#include <cairo/cairo-svg.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "calibrate.h"

#define WIDTH  720
#define HEIGHT 480
#define LEFT   78.0
#define RIGHT  (WIDTH - 24.0)
#define TOP    44.0
#define BOTTOM (HEIGHT - 56.0)
#define SIZE   13.0

/* Decades of both axes. */
struct axes {
	double x_low, x_high, y_low, y_high; /* exponents of ten */
};

static double map(double value, double low, double high, double from, double to)
{
	return from + (log10(value) - low) / (high - low) * (to - from);
}

static double at_x(const struct axes *axes, double fmr)
{
	return map(fmr, axes->x_low, axes->x_high, LEFT, RIGHT);
}

/* What is below the axis, zero above all, is drawn on it. */
static double at_y(const struct axes *axes, double fnmr)
{
	return map(fmax(fnmr, pow(10, axes->y_low)), axes->y_low, axes->y_high, BOTTOM, TOP);
}

static struct axes choose_axes(const struct accuracy *a)
{
	const struct accuracy_point *first = &a->points[0], *last = &a->points[a->n_points - 1];
	double least = first->fnmr.low > 0 ? first->fnmr.low : first->fnmr.high / 10;

	return (struct axes){
		.x_low = floor(log10(last->fmr.low)),
		.x_high = fmin(ceil(log10(first->fmr.high)), 0),
		.y_low = floor(log10(least)),
		.y_high = fmin(fmax(ceil(log10(last->fnmr.high)), floor(log10(least)) + 1), 0),
	};
}

static void put_text(cairo_t *cr, double x, double y, double align, const char *text)
{
	cairo_text_extents_t extents;

	cairo_text_extents(cr, text, &extents);
	cairo_move_to(cr, x - align * extents.x_advance, y);
	cairo_show_text(cr, text);
}

static void line(cairo_t *cr, double x1, double y1, double x2, double y2)
{
	cairo_move_to(cr, x1, y1);
	cairo_line_to(cr, x2, y2);
	cairo_stroke(cr);
}

static void put_decade(cairo_t *cr, double x, double y, double align, double exponent)
{
	char text[16];

	snprintf(text, sizeof(text), exponent > -3 ? "%g" : "%.0e", pow(10, exponent));
	put_text(cr, x, y, align, text);
}

static void draw_grid(cairo_t *cr, const struct axes *axes)
{
	cairo_set_line_width(cr, 1);
	for (double e = axes->x_low; e <= axes->x_high; e++) {
		double x = at_x(axes, pow(10, e));

		cairo_set_source_rgb(cr, 0.86, 0.88, 0.90);
		line(cr, x, TOP, x, BOTTOM);
		cairo_set_source_rgb(cr, 0.25, 0.28, 0.33);
		put_decade(cr, x, BOTTOM + 20, 0.5, e);
	}
	for (double e = axes->y_low; e <= axes->y_high; e++) {
		double y = at_y(axes, pow(10, e));

		cairo_set_source_rgb(cr, 0.86, 0.88, 0.90);
		line(cr, LEFT, y, RIGHT, y);
		cairo_set_source_rgb(cr, 0.25, 0.28, 0.33);
		put_decade(cr, LEFT - 8, y + 4, 1, e);
	}
}

static void draw_titles(cairo_t *cr, const char *title)
{
	cairo_set_source_rgb(cr, 0.08, 0.10, 0.13);
	put_text(cr, LEFT, 26, 0, title);
	put_text(cr, (LEFT + RIGHT) / 2, HEIGHT - 14, 0.5, "FMR (false match rate)");
	cairo_save(cr);
	cairo_translate(cr, 20, (TOP + BOTTOM) / 2);
	cairo_rotate(cr, -M_PI / 2);
	put_text(cr, 0, 0, 0.5, "FNMR (false non-match rate)");
	cairo_restore(cr);
}

/* The band of both intervals: along their lower ends, and back along the upper ones. */
static void draw_band(cairo_t *cr, const struct axes *axes, const struct accuracy *a)
{
	for (size_t i = 0; i < a->n_points; i++)
		cairo_line_to(cr, at_x(axes, a->points[i].fmr.low),
			      at_y(axes, a->points[i].fnmr.low));
	for (size_t i = a->n_points; i-- > 0;)
		cairo_line_to(cr, at_x(axes, a->points[i].fmr.high),
			      at_y(axes, a->points[i].fnmr.high));
	cairo_close_path(cr);
	cairo_set_source_rgba(cr, 0.13, 0.40, 0.75, 0.18);
	cairo_fill(cr);
}

static void draw_curve(cairo_t *cr, const struct axes *axes, const struct accuracy *a)
{
	cairo_set_source_rgb(cr, 0.13, 0.40, 0.75);
	cairo_set_line_width(cr, 2);
	for (size_t i = 0; i < a->n_points; i++)
		cairo_line_to(cr, at_x(axes, a->points[i].fmr.rate),
			      at_y(axes, a->points[i].fnmr.rate));
	cairo_stroke(cr);
	for (size_t i = 0; i < a->n_points; i++) {
		cairo_arc(cr, at_x(axes, a->points[i].fmr.rate), at_y(axes, a->points[i].fnmr.rate),
			  3, 0, 2 * M_PI);
		cairo_fill(cr);
	}
}

static void draw(cairo_t *cr, const struct accuracy *a, const char *title)
{
	const struct axes axes = choose_axes(a);

	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	cairo_set_font_size(cr, SIZE);
	draw_grid(cr, &axes);
	draw_titles(cr, title);
	cairo_rectangle(cr, LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP);
	cairo_clip(cr);
	draw_band(cr, &axes, a);
	draw_curve(cr, &axes, a);
}

int det_draw(const char *path, const struct accuracy *a, const char *title)
{
	char svg[4096], png[4096];
	cairo_surface_t *surface;
	cairo_status_t status;
	cairo_t *cr;

	snprintf(svg, sizeof(svg), "%s.svg", path);
	snprintf(png, sizeof(png), "%s.png", path);
	surface = cairo_svg_surface_create(svg, WIDTH, HEIGHT);
	cr = cairo_create(surface);
	draw(cr, a, title);
	status = cairo_status(cr);
	if (!status)
		status = cairo_surface_write_to_png(surface, png);
	cairo_destroy(cr);
	cairo_surface_finish(surface);
	if (!status)
		status = cairo_surface_status(surface);
	cairo_surface_destroy(surface);
	return status ? complain(BM_EIO, "%s: %s", svg, cairo_status_to_string(status)) : 0;
}
