#include "faiss.h"

#include <climits>
#include <memory>

#include <cblas.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexScalarQuantizer.h>
#include <faiss/utils/distances.h>
#include <omp.h>

struct peer {
	std::unique_ptr<faiss::Index> index;
	/* IVF does not own it. */
	std::unique_ptr<faiss::Index> coarse;
};

namespace
{
const auto product = faiss::METRIC_INNER_PRODUCT;

void make_ivf(struct peer *peer, int dim)
{
	peer->coarse = std::make_unique<faiss::IndexFlatIP>(dim);
	auto ivf = std::make_unique<faiss::IndexIVFFlat>(peer->coarse.get(), dim, 256, product);

	ivf->nprobe = 16;
	peer->index = std::move(ivf);
}

void make_index(struct peer *peer, enum peer_kind kind, int dim)
{
	using faiss::ScalarQuantizer;

	switch (kind) {
	case PEER_FLAT:
		peer->index = std::make_unique<faiss::IndexFlatIP>(dim);
		break;
	case PEER_SQ8:
		peer->index = std::make_unique<faiss::IndexScalarQuantizer>(
			dim, ScalarQuantizer::QT_8bit, product);
		break;
	case PEER_FP16:
		peer->index = std::make_unique<faiss::IndexScalarQuantizer>(
			dim, ScalarQuantizer::QT_fp16, product);
		break;
	case PEER_IVF:
		make_ivf(peer, dim);
		break;
	case PEER_HNSW:
		auto hnsw = std::make_unique<faiss::IndexHNSWFlat>(dim, 32, product);

		hnsw->hnsw.efSearch = 128;
		peer->index = std::move(hnsw);
		break;
	}
}
} // namespace

struct peer *peer_new(enum peer_kind kind, const float *rows, size_t n, size_t dim)
{
	auto peer = std::make_unique<struct peer>();
	size_t sample = n < 100000 ? n : 100000;

	make_index(peer.get(), kind, static_cast<int>(dim));
	peer->index->train(static_cast<faiss::Index::idx_t>(sample), rows);
	peer->index->add(static_cast<faiss::Index::idx_t>(n), rows);
	return peer.release();
}

void peer_free(struct peer *peer)
{
	delete peer;
}

void peer_use_sgemm(int yes)
{
	faiss::distance_compute_blas_threshold = yes ? 1 : INT_MAX;
}

void peer_use_threads(unsigned threads)
{
	omp_set_num_threads(static_cast<int>(threads));
	openblas_set_num_threads(static_cast<int>(threads));
}

void peer_search(struct peer *peer, const float *probes, size_t m, size_t k, float *scores,
		 int64_t *ids)
{
	peer->index->search(static_cast<faiss::Index::idx_t>(m), probes,
			    static_cast<faiss::Index::idx_t>(k), scores, ids);
}
