/*
 * Embeds pictures: reads a path a line from standard input and writes a row of
 * `dimension` floats a picture to standard output, all zero where no template
 * could be made. What became of each picture goes to standard error, with the time of every stage.
 * Used by bench/fleet, to hold the service against the models alone, and for bench/identify -e.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/face.h"
#include "biomatch/file.h"
#include "biomatch/score.h"

static int embed(struct face_engine *engine, const char *path, struct face_report *report)
{
	uint8_t *data;
	size_t len;
	int error = file_read(path, FACE_MAX_IMAGE_BYTES, &data, &len);

	if (error)
		return error;
	error = face_engine_run(engine, data, len, 0, report);
	free(data);
	return error ? error : report->finding;
}

static int run(const struct pack *pack, struct face_engine *engine)
{
	static struct face_report report;
	char path[4096];

	while (fgets(path, sizeof(path), stdin)) {
		int error;

		path[strcspn(path, "\n")] = '\0';
		memset(&report, 0, sizeof(report));
		error = embed(engine, path, &report);
		fprintf(stderr, "%s\t%s\t%u\t%u\t%u\t%u\t%u\n", path,
			error ? bm_error_reason(error) : "OK", report.n_faces, report.decode_us,
			report.detect_us, report.align_us, report.embed_us);
		if (error)
			memset(report.embedding, 0, sizeof(report.embedding));
		if (fwrite(report.embedding, sizeof(float), pack->dim, stdout) != pack->dim)
			return 1;
	}
	return ferror(stdin) || fflush(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
	char message[PACK_MESSAGE_LEN];
	struct face_engine *engine;
	struct pack *pack;
	int status = 1;

	if (argc != 2) {
		fprintf(stderr, "usage: embed PACK <PATHS >ROWS\n");
		return 64;
	}
	if (score_init(NULL))
		return 1;
	if (pack_open(argv[1], true, &pack, message)) {
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	if (!face_engine_open(pack, &engine)) {
		status = run(pack, engine);
		face_engine_close(engine);
	}
	pack_close(pack);
	return status;
}
