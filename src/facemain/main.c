/*
 * biomatch-face: looks at one picture after another for the daemon that started
 * it. Started with the socket and the shared memory at fixed descriptors; not
 * for people.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/faceworker.h"
#include "biomatch/log.h"
#include "biomatch/parse.h"
#include "biomatch/priority.h"
#include "biomatch/score.h"
#include "sandbox.h"

static bool answer(int result)
{
	struct faceworker_answer message = {.result = result};

	return send(FACEWORKER_SOCKET_FD, &message, sizeof(message), MSG_NOSIGNAL) ==
	       (ssize_t)sizeof(message);
}

/* One order; false when the daemon is gone. */
static bool receive(struct faceworker_order *order)
{
	ssize_t n;

	do {
		n = recv(FACEWORKER_SOCKET_FD, order, sizeof(*order), 0);
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*order);
}

static void serve(struct face_engine *engine, struct faceworker_memory *memory)
{
	struct faceworker_order order;
	static struct face_report report;

	while (receive(&order)) {
		int result = BM_EIMGSIZE;

		if (order.len <= sizeof(memory->picture)) {
			result = priority_offer_always(true);
			if (!result)
				result = face_engine_run(engine, memory->picture, order.len,
							 order.wanted, &report);
			if (priority_offer_always(false))
				return;
			bytes_wipe(memory->picture, order.len);
		}
		if (!result)
			memory->report = report;
		bytes_wipe(&report, sizeof(report));
		if (!answer(result))
			return;
	}
}

static int open_engine(const char *pack_dir, struct face_engine **engine)
{
	char message[PACK_MESSAGE_LEN] = "";
	struct pack *pack;
	int error = pack_open(pack_dir, true, &pack, message);

	if (error) {
		log_error("pack_refused", "reason=%s", message);
		return error;
	}
	error = face_engine_open(pack, engine);
	if (error)
		log_error("models_not_loaded", "reason=%s", bm_error_text(error));
	/* The engine borrows the pack; both live as long as the process. */
	return error;
}

int main(int argc, char **argv)
{
	struct faceworker_memory *memory;
	struct face_engine *engine = NULL;
	uint64_t max_memory;
	int error;

	if (argc != 3 || parse_uint(argv[2], 1, UINT64_MAX, &max_memory)) {
		fprintf(stderr, "biomatch-face is started by biomatchd\n");
		return 64;
	}
	/* Without its daemon it has nothing to do. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return 71;
	memory = mmap(NULL, sizeof(*memory), PROT_READ | PROT_WRITE, MAP_SHARED,
		      FACEWORKER_MEMORY_FD, 0);
	if (memory == MAP_FAILED) {
		fprintf(stderr, "biomatch-face is started by biomatchd\n");
		return 64;
	}
	priority_behind();
	error = priority_offer_always(false);
	if (!error)
		error = score_init(NULL);
	if (!error)
		error = open_engine(argv[1], &engine);
	if (!error)
		error = sandbox_enter(max_memory);
	if (!answer(error) || error)
		return 1;
	serve(engine, memory);
	return 0;
}
