/*
 * Plots on logarithmic axes with cairo: what the pictures in docs/ have in common.
 */
#ifndef CALIBRATE_PLOT_H
#define CALIBRATE_PLOT_H

#include <cairo/cairo.h>

/* From exponents of ten to points of the picture. */
struct plot_axis {
	double low, high, from, to;
};

/* What is below the axis, zero above all, is drawn on its end. */
double plot_at(const struct plot_axis *axis, double value);
/* The name of a power of ten. */
void plot_decade(cairo_t *cr, double x, double y, double align, double exponent);
/* align: 0 begins at x, 0.5 is centred on it, 1 ends there. */
void plot_text(cairo_t *cr, double x, double y, double align, const char *text);
void plot_line(cairo_t *cr, double x1, double y1, double x2, double y2);
/* The colours of the grid and of what stands beside it. */
void plot_use_grid(cairo_t *cr);
void plot_use_label(cairo_t *cr);

/*
 * Has draw put something on a white ground and writes it as PATH.svg and PATH.png.
 * NULL, or why it cannot be written.
 */
const char *plot_write(const char *path, double width, double height,
		       void (*draw)(cairo_t *cr, const void *arg), const void *arg);

#endif
