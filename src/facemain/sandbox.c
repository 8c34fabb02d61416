#include "sandbox.h"

#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int limit(int resource, rlim_t value)
{
	struct rlimit limits = {value, value};

	return setrlimit((__rlimit_resource_t)resource, &limits) ? BM_EINTERNAL : 0;
}

static int set_limits(uint64_t max_memory)
{
	int error = limit(RLIMIT_CORE, 0);

	if (!error)
		error = limit(RLIMIT_FSIZE, 0);
	if (!error)
		error = limit(RLIMIT_NPROC, 0);
	if (!error)
		error = limit(RLIMIT_NOFILE, 0);
	/* The sanitizers reserve terabytes of address space. */
	if (!error && !SANITIZED)
		error = limit(RLIMIT_AS, max_memory);
	return error;
}

/*
 * Logging still works: the C library looks for a time zone now and not at the
 * first line, and a line to a file is lost without a signal.
 */
static int prepare_log(void)
{
	tzset();
	return signal(SIGXFSZ, SIG_IGN) == SIG_ERR ? BM_EINTERNAL : 0;
}

/* A daemon that was started by root has them. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	return syscall(SYS_capset, &header, none) ? BM_EINTERNAL : 0;
}

static int allow_all(scmp_filter_ctx filter)
{
	static const int calls[] = {
		SCMP_SYS(read),
		SCMP_SYS(write),
		SCMP_SYS(recvfrom),
		SCMP_SYS(sendto),
		SCMP_SYS(exit),
		SCMP_SYS(exit_group),
		SCMP_SYS(brk),
		SCMP_SYS(munmap),
		SCMP_SYS(mremap),
		SCMP_SYS(madvise),
		SCMP_SYS(futex),
		SCMP_SYS(rt_sigreturn),
		SCMP_SYS(rt_sigprocmask),
		SCMP_SYS(setitimer),
		SCMP_SYS(clock_gettime),
		SCMP_SYS(sched_yield),
		SCMP_SYS(getpid),
		SCMP_SYS(gettid),
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(calls) / sizeof(calls[0]); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	/* Memory, but never memory that can be executed. */
	if (!rc)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!rc)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return rc;
}

static int load_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int rc;

	if (!filter)
		return BM_ENOMEM;
	rc = allow_all(filter);
	if (!rc)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	return rc ? BM_EINTERNAL : 0;
}

int sandbox_enter(uint64_t max_memory)
{
	int error = set_limits(max_memory);

	if (!error)
		error = prepare_log();
	if (!error)
		error = drop_capabilities();
	if (error)
		return error;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return BM_EINTERNAL;
	return SANITIZED ? 0 : load_filter();
}
