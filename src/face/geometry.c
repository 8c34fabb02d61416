#include "geometry.h"

#include <math.h>

#define DEGREES (180 / M_PI)

/*
 * The five points of an average head facing us, millimetres: right, down, toward
 * us. In the plane they are those that ArcFace models are trained to find
 * (insightface), at 63 mm between the eyes.
 */
static const double model[5][3] = {
	{-31.5, 0, 0}, {31.5, 0, 0}, {0.2, 36.0, 34}, {-25.7, 72.8, 9}, {26.5, 72.5, 9},
};

static double distance(struct face_point a, struct face_point b)
{
	return hypot((double)a.x - (double)b.x, (double)a.y - (double)b.y);
}

static struct face_point middle(struct face_point a, struct face_point b)
{
	return (struct face_point){(a.x + b.x) / 2, (a.y + b.y) / 2};
}

/* Turning shortens the one distance or the other: the longer one is the head's. */
void geometry_find_head(const struct face_point landmarks[5], struct geometry_head *out)
{
	double across = distance(landmarks[0], landmarks[1]) / GEOMETRY_EYES_MM, down;

	out->eyes = middle(landmarks[0], landmarks[1]);
	down = distance(out->eyes, middle(landmarks[3], landmarks[4])) / GEOMETRY_MOUTH_MM;
	out->scale = fmax(across, down);
}

static void centre(double points[5][3])
{
	for (int c = 0; c < 3; c++) {
		double mean = 0;

		for (int i = 0; i < 5; i++)
			mean += points[i][c] / 5;
		for (int i = 0; i < 5; i++)
			points[i][c] -= mean;
	}
}

/* The inverse of a symmetric 3 by 3 matrix by its adjugate; the model's is regular. */
static void invert(const double m[3][3], double out[3][3])
{
	double determinant = 0;

	for (int i = 0; i < 3; i++) {
		for (int j = 0; j < 3; j++)
			out[j][i] = m[(i + 1) % 3][(j + 1) % 3] * m[(i + 2) % 3][(j + 2) % 3] -
				    m[(i + 1) % 3][(j + 2) % 3] * m[(i + 2) % 3][(j + 1) % 3];
	}
	for (int i = 0; i < 3; i++)
		determinant += m[0][i] * out[i][0];
	for (int i = 0; i < 9; i++)
		out[i / 3][i % 3] /= determinant;
}

/* The two rows of the camera: p = a X with least squares over the five points. */
static void fit_camera(const struct face_point landmarks[5], double a[2][3])
{
	double X[5][3], p[5][3] = {{0}}, XtX[3][3] = {{0}}, inverse[3][3], pX[2][3] = {{0}};

	for (int i = 0; i < 5; i++) {
		for (int c = 0; c < 3; c++)
			X[i][c] = model[i][c];
		p[i][0] = (double)landmarks[i].x;
		p[i][1] = (double)landmarks[i].y;
	}
	centre(X);
	centre(p);
	for (int i = 0; i < 5; i++) {
		for (int r = 0; r < 3; r++) {
			for (int c = 0; c < 3; c++)
				XtX[r][c] += X[i][r] * X[i][c];
			pX[0][r] += p[i][0] * X[i][r];
			pX[1][r] += p[i][1] * X[i][r];
		}
	}
	invert(XtX, inverse);
	for (int r = 0; r < 2; r++) {
		for (int c = 0; c < 3; c++) {
			a[r][c] = 0;
			for (int k = 0; k < 3; k++)
				a[r][c] += pX[r][k] * inverse[k][c];
		}
	}
}

void geometry_find_pose(const struct face_point landmarks[5], struct face_pose *out)
{
	double a[2][3], roll, depth, length;

	*out = (struct face_pose){0};
	fit_camera(landmarks, a);
	roll = atan2(a[1][0], a[0][0]);
	/* The row of the head's own horizontal: what it owes to depth is the turn. */
	for (int c = 0; c < 3; c++)
		a[0][c] = cos(roll) * a[0][c] + sin(roll) * a[1][c];
	depth = a[0][2];
	length = sqrt(a[0][0] * a[0][0] + a[0][1] * a[0][1] + depth * depth);
	if (!(length > 1e-9))
		return;
	out->roll = (float)(roll * DEGREES);
	out->yaw = (float)(asin(fmin(fmax(depth / length, -1), 1)) * DEGREES);
}

double geometry_mouth_opening(const struct face_point points[GEOMETRY_POINTS],
			      const struct geometry_head *head)
{
	double lips = 0;

	for (int i = 0; i < 3; i++)
		lips += distance(points[61 + i], points[67 - i]) / 3;
	return head->scale > 0 ? lips / (head->scale * GEOMETRY_MOUTH_MM) : 0;
}
