/*
 * The call that bench/grpc measures: both servers answer it for this one service with SERVING, and
 * with NOT_FOUND for every other.
 */
#ifndef BENCH_HEALTH_H
#define BENCH_HEALTH_H

#define HEALTH_PATH    "/grpc.health.v1.Health/Check"
#define HEALTH_SERVICE "biomatch.v1.MatchingService"

#endif
