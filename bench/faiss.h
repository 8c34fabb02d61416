/* faiss behind C functions, for the bench alone. */
#ifndef BENCH_FAISS_H
#define BENCH_FAISS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum peer_kind { PEER_FLAT, PEER_SQ8, PEER_FP16, PEER_IVF, PEER_HNSW };

struct peer;

/* An index of n rows, which it copies. */
struct peer *peer_new(enum peer_kind kind, const float *rows, size_t n, size_t dim);
void peer_free(struct peer *peer);
/* Whether distances of probes come from sgemm, whatever their number, or never. */
void peer_use_sgemm(int yes);
void peer_use_threads(unsigned threads);
/* The k best of each of m probes: ids -1 where there are fewer. */
void peer_search(struct peer *peer, const float *probes, size_t m, size_t k, float *scores,
		 int64_t *ids);

#ifdef __cplusplus
}
#endif

#endif
