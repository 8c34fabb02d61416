/* The daemon's configuration: taken, or refused with a reason and its line. */
#include "biomatch/conf.h"
#include "fuzz.h"

static struct fuzz_file file;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_file_open(&file);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char message[CONF_MESSAGE_LEN];
	struct conf *conf;
	int error;

	fuzz_file_set(&file, data, size);
	error = conf_open(file.path, &conf, message);
	if (!error) {
		REQUIRE(conf->server.max_connection_bytes >= conf->server.max_message);
		REQUIRE(conf->server.threads && conf->face.workers);
		conf_close(conf);
		return 0;
	}
	REQUIRE(error == BM_ECONF && strlen(message) > strlen(file.path) &&
		strlen(message) < sizeof(message));
	return 0;
}
