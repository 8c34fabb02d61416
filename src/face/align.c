#include "align.h"

/* Where ArcFace models are trained to find eyes, nose and mouth corners (insightface). */
static const struct face_point target[5] = {
	{38.2946f, 51.6963f}, {73.5318f, 51.5014f}, {56.0252f, 71.7366f},
	{41.5493f, 92.3655f}, {70.7299f, 92.2041f},
};

static void mean_of(const struct face_point p[5], double mean[2])
{
	mean[0] = mean[1] = 0;
	for (int i = 0; i < 5; i++) {
		mean[0] += (double)p[i].x / 5;
		mean[1] += (double)p[i].y / 5;
	}
}

/*
 * In the plane Umeyama's solution needs no decomposition: with centred points as
 * complex numbers p and t, the best factor is sum(conj(p) t) / sum(|p|^2).
 */
int align_find_transform(const struct face_point from[5], double m[2][3])
{
	double a[2], b[2], real = 0, imaginary = 0, norm = 0;

	mean_of(from, a);
	mean_of(target, b);
	for (int i = 0; i < 5; i++) {
		double px = (double)from[i].x - a[0], py = (double)from[i].y - a[1];
		double tx = (double)target[i].x - b[0], ty = (double)target[i].y - b[1];

		real += px * tx + py * ty;
		imaginary += px * ty - py * tx;
		norm += px * px + py * py;
	}
	if (!(norm > 1e-6))
		return BM_EINVAL;
	real /= norm;
	imaginary /= norm;
	m[0][0] = m[1][1] = real;
	m[0][1] = -imaginary;
	m[1][0] = imaginary;
	m[0][2] = b[0] - real * a[0] + imaginary * a[1];
	m[1][2] = b[1] - imaginary * a[0] - real * a[1];
	return 0;
}
