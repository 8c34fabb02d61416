#include "process.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* A store file must never become somebody's standard error. */
static void fill_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static void limit_core_dumps(void)
{
	const struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
#ifndef __SANITIZE_ADDRESS__
	/* The leak check has to look at the process as a debugger does. */
	prctl(PR_SET_DUMPABLE, 0);
#endif
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/*
 * The C library raises both thresholds to the largest block that was ever given back, 32 MB and
 * twice that at most: what one picture or search needed once would stay in every thread's arena.
 */
static void give_memory_back(void)
{
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	mallopt(M_TRIM_THRESHOLD, 128 * 1024);
	mallopt(M_ARENA_MAX, 4);
}

void process_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void process_harden(void)
{
	sigset_t set;

	fill_standard_descriptors();
	/* What was inherited, sockets of systemd included, stays out of the face workers. */
	close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	umask(077);
	limit_core_dumps();
	raise_descriptor_limit();
	give_memory_back();
	signal(SIGPIPE, SIG_IGN);
	process_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int process_listen_socket(char out[16])
{
	int n = sd_listen_fds(1);

	out[0] = '\0';
	if (n > 1)
		return BM_ECONF;
	if (n == 1)
		snprintf(out, 16, "fd:%d", SD_LISTEN_FDS_START);
	return 0;
}

int process_exit_status(int error)
{
	switch (error) {
	case 0:
		return EX_OK;
	case BM_ECONF:
	case BM_EINVAL:
	case BM_EPACK:
	case BM_EKEY:
	case BM_ESTOREVER:
	case BM_ESTORENEW:
	case BM_EMODEL:
	case BM_ETLS:
		return EX_CONFIG;
	case BM_ENET:
	case BM_EWORKER:
	case BM_EWORKERTIME:
		return EX_UNAVAILABLE;
	case BM_ENOMEM:
		return EX_OSERR;
	case BM_EIO:
	case BM_EFULL:
	case BM_EMAPFULL:
	case BM_ECORRUPT:
	case BM_EBACKUP:
	case BM_EDUMP:
	case BM_EREADONLY:
		return EX_IOERR;
	case BM_ELOCKED:
		return EX_TEMPFAIL;
	default:
		return EX_SOFTWARE;
	}
}
