#include <math.h>

#include "biomatch/accuracy.h"

/* The normal deviate of 97.5 %. */
#define Z 1.959963984540054

struct accuracy_rate accuracy_share(double k, double n)
{
	double p, middle, half;

	if (n <= 0)
		return (struct accuracy_rate){.high = 1};
	p = k / n;
	middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n);
	half = Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n);
	return (struct accuracy_rate){
		.rate = p,
		.low = k > 0 ? fmax(middle - half, 0) : 0,
		.high = k < n ? fmin(middle + half, 1) : 1,
	};
}
