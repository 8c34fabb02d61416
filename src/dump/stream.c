#include "dump.h"

int stream_open(struct dump_stream *stream, int fd)
{
	*stream = (struct dump_stream){.fd = fd, .digest = EVP_MD_CTX_new()};
	return stream->digest && EVP_DigestInit_ex(stream->digest, EVP_sha256(), NULL) == 1
		       ? 0
		       : BM_ENOMEM;
}

void stream_close(struct dump_stream *stream)
{
	EVP_MD_CTX_free(stream->digest);
}

int stream_take(struct dump_stream *stream, const void *data, size_t len)
{
	return EVP_DigestUpdate(stream->digest, data, len) == 1 ? 0 : BM_ENOMEM;
}

int stream_digest(const struct dump_stream *stream, uint8_t out[DUMP_DIGEST_LEN])
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	int ok = copy && EVP_MD_CTX_copy_ex(copy, stream->digest) == 1 &&
		 EVP_DigestFinal_ex(copy, out, NULL) == 1;

	EVP_MD_CTX_free(copy);
	return ok ? 0 : BM_ENOMEM;
}
