#include "plot.h"

#include <cairo/cairo-svg.h>
#include <math.h>
#include <stdio.h>

#define SIZE 13.0

double plot_at(const struct plot_axis *axis, double value)
{
	double share =
		(log10(fmax(value, pow(10, axis->low))) - axis->low) / (axis->high - axis->low);

	return axis->from + share * (axis->to - axis->from);
}

void plot_text(cairo_t *cr, double x, double y, double align, const char *text)
{
	cairo_text_extents_t extents;

	cairo_text_extents(cr, text, &extents);
	cairo_move_to(cr, x - align * extents.x_advance, y);
	cairo_show_text(cr, text);
}

void plot_decade(cairo_t *cr, double x, double y, double align, double exponent)
{
	char text[16];

	snprintf(text, sizeof(text), exponent > -3 ? "%g" : "%.0e", pow(10, exponent));
	plot_text(cr, x, y, align, text);
}

void plot_line(cairo_t *cr, double x1, double y1, double x2, double y2)
{
	cairo_move_to(cr, x1, y1);
	cairo_line_to(cr, x2, y2);
	cairo_stroke(cr);
}

void plot_use_grid(cairo_t *cr)
{
	cairo_set_source_rgb(cr, 0.86, 0.88, 0.90);
	cairo_set_line_width(cr, 1);
}

void plot_use_label(cairo_t *cr)
{
	cairo_set_source_rgb(cr, 0.25, 0.28, 0.33);
}

const char *plot_write(const char *path, double width, double height,
		       void (*draw)(cairo_t *cr, const void *arg), const void *arg)
{
	char svg[4096], png[4096];
	cairo_surface_t *surface;
	cairo_status_t status;
	cairo_t *cr;

	snprintf(svg, sizeof(svg), "%s.svg", path);
	snprintf(png, sizeof(png), "%s.png", path);
	surface = cairo_svg_surface_create(svg, width, height);
	cr = cairo_create(surface);
	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	cairo_set_font_size(cr, SIZE);
	draw(cr, arg);
	status = cairo_status(cr);
	if (!status)
		status = cairo_surface_write_to_png(surface, png);
	cairo_destroy(cr);
	cairo_surface_finish(surface);
	if (!status)
		status = cairo_surface_status(surface);
	cairo_surface_destroy(surface);
	return status ? cairo_status_to_string(status) : NULL;
}
