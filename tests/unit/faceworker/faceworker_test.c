/* The worker process: what it finds, what it survives, and the walls around it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/faceworker.h"
#include "pixels.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#define PACK    "build/packs/faceplugin-0.0.1"
#define SAMPLES "build/samples/"
#define ADA     SAMPLES "people/ada/01.jpg"
/* Above it lie the sample photographs of one person, below it those of two. */
#define SAME_PERSON 0.4f

static const struct faceworker_options usual = {
	.program = BUILD_DIR "/biomatch-face",
	.pack_dir = PACK,
	.dim = 512,
	.start_ms = 60000,
	.run_ms = 30000,
	.max_memory = UINT64_C(2) << 30,
	.max_resident = UINT64_C(1) << 30,
};

static struct faceworker *open_worker(const struct faceworker_options *options)
{
	struct faceworker *worker = NULL;

	if (faceworker_open(options, &worker))
		fail_msg("%s did not start; is it built, and has scripts/setup run?",
			 options->program);
	return worker;
}

static int setup(void **state)
{
	*state = open_worker(&usual);
	return 0;
}

static int teardown(void **state)
{
	faceworker_close(*state);
	return 0;
}

static int look(struct faceworker *worker, struct encoded picture, struct face_report *report)
{
	int error = faceworker_run(worker, picture.data, picture.len, 0, CLOCK_FOREVER, report);

	free(picture.data);
	return error;
}

static void assert_works(struct faceworker *worker)
{
	struct face_report report;

	assert_int_equal(look(worker, read_encoded(SAMPLES "people/bea/01.jpg"), &report), 0);
	assert_int_equal(report.finding, 0);
}

/* The value behind a name at the start of a line of /proc/PID/FILE; "" for none. */
static void read_proc(pid_t pid, const char *file, const char *name, char value[128])
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	f = fopen(path, "re");
	assert_non_null(f);
	value[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, strlen(name)))
			snprintf(value, 128, "%s", line + strlen(name));
	}
	fclose(f);
}

static unsigned long long read_status(pid_t pid, const char *name, int base)
{
	char value[128];

	read_proc(pid, "status", name, value);
	assert_string_not_equal(value, "");
	return strtoull(value, NULL, base);
}

static struct encoded blank(int width, int height)
{
	struct pixels pixels = make_pixels(width, height);
	struct encoded picture = encode_png(pixels.p, width, height, PNG_FORMAT_GRAY);

	free(pixels.p);
	return picture;
}

static float likeness(const struct face_report *a, const struct face_report *b)
{
	float sum = 0;

	assert_int_equal(a->dim, b->dim);
	for (uint32_t i = 0; i < a->dim; i++)
		sum += a->embedding[i] * b->embedding[i];
	return sum;
}

static void test_tells_people_apart(void **state)
{
	struct face_report ada, again, stranger;

	assert_int_equal(look(*state, read_encoded(ADA), &ada), 0);
	assert_int_equal(look(*state, read_encoded(SAMPLES "people/ada/02.jpg"), &again), 0);
	assert_int_equal(look(*state, read_encoded(SAMPLES "people/bea/01.jpg"), &stranger), 0);
	assert_int_equal(ada.finding, 0);
	assert_int_equal(again.finding, 0);
	assert_int_equal(stranger.finding, 0);
	assert_int_equal(ada.dim, 512);
	assert_true(likeness(&ada, &again) > SAME_PERSON);
	assert_true(likeness(&ada, &stranger) < SAME_PERSON);
	assert_true(likeness(&again, &stranger) < SAME_PERSON);
	assert_true(ada.decode_us > 0 && ada.detect_us > 0 && ada.align_us > 0 && ada.embed_us > 0);
}

static void test_reports_findings(void **state)
{
	struct face_report report;

	assert_int_equal(look(*state, read_encoded(SAMPLES "group.jpg"), &report), 0);
	assert_int_equal(report.finding, BM_EMANYFACES);
	assert_in_range(report.n_faces, 2, FACE_MAX_FACES);
	for (uint32_t i = 1; i < report.n_faces; i++)
		assert_true(report.faces[i].width * report.faces[i].height <=
			    report.faces[i - 1].width * report.faces[i - 1].height);
	for (uint32_t i = 0; i < PACK_MAX_DIM; i++)
		assert_true(report.embedding[i] == 0);

	assert_int_equal(look(*state, blank(200, 200), &report), 0);
	assert_int_equal(report.finding, BM_ENOFACE);
	assert_int_equal(report.n_faces, 0);
	assert_int_equal(report.width, 200);
	assert_int_equal(report.height, 200);
}

/* No decoder needs what the walls forbid. */
static void test_decodes_every_format_confined(void **state)
{
	struct pixels ada = read_pixels(ADA);
	struct encoded kinds[] = {
		encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_420, 0),
		encode_jpeg(ada.p, ada.width, ada.height, TJPF_BGR, TJSAMP_444, TJFLAG_PROGRESSIVE),
		encode_png(ada.p, ada.width, ada.height, PNG_FORMAT_BGR),
		encode_jp2(&ada, 3, 8, OPJ_CODEC_JP2),
		encode_jp2(&ada, 3, 12, OPJ_CODEC_J2K),
	};
	struct face_report report, first;

	assert_int_equal(look(*state, read_encoded(ADA), &first), 0);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		assert_int_equal(look(*state, kinds[i], &report), 0);
		assert_int_equal(report.finding, 0);
		assert_true(likeness(&report, &first) > 0.95f);
	}
	free(ada.p);
}

/* The largest picture there may be, and then what fits no longer. */
static void test_lives_within_its_memory(void **state)
{
	struct face_report report;
	pid_t pid = faceworker_pid(*state);

	assert_int_equal(look(*state, blank(6300, 6300), &report), 0);
	assert_int_equal(report.finding, BM_ENOFACE);
	assert_int_equal(faceworker_pid(*state), pid);
#ifndef SANITIZED
	struct faceworker_options options = usual;
	struct faceworker *worker;

	options.max_memory = read_status(pid, "VmSize:", 10) * 1024 + (UINT64_C(32) << 20);
	worker = open_worker(&options);
	pid = faceworker_pid(worker);
	assert_int_equal(look(worker, blank(6300, 6300), &report), BM_ENOMEM);
	assert_int_equal(faceworker_pid(worker), pid);
	assert_works(worker);
	faceworker_close(worker);
#endif
}

static struct encoded ada_until(size_t keep)
{
	struct encoded picture = read_encoded(ADA);

	assert_in_range(keep, 0, picture.len);
	picture.len = keep;
	return picture;
}

/* 20,000 by 20,000 pixels, as its header has it. */
static struct encoded huge(void)
{
	struct encoded picture = blank(200, 200);

	bytes_put_be32(picture.data + 16, 20000);
	bytes_put_be32(picture.data + 20, 20000);
	bytes_put_be32(picture.data + 29, crc_of(picture.data + 12, 17));
	return picture;
}

static struct encoded text(const char *of)
{
	struct encoded picture = {(uint8_t *)strdup(of), strlen(of)};

	assert_non_null(picture.data);
	return picture;
}

/* None of them costs the worker its life. */
static void test_refuses_what_is_no_picture(void **state)
{
	pid_t pid = faceworker_pid(*state);
	struct face_report report;

	assert_int_equal(look(*state, text("a text that is named portrait.jpg"), &report),
			 BM_EIMGFORMAT);
	assert_int_equal(look(*state, text(""), &report), BM_EIMGFORMAT);
	assert_int_equal(look(*state, ada_until(3), &report), BM_EIMGTRUNC);
	assert_int_equal(look(*state, ada_until(5000), &report), BM_EIMGTRUNC);
	assert_int_equal(look(*state, huge(), &report), BM_EIMGSIZE);
	assert_int_equal(look(*state, blank(20, 20), &report), BM_EIMGSMALL);
	assert_int_equal(faceworker_pid(*state), pid);
	assert_works(*state);
}

static void test_refuses_what_is_too_long(void **state)
{
	struct face_report report;
	uint8_t byte = 0xff;

	/* Refused by its length, before a byte is read. */
	assert_int_equal(
		faceworker_run(*state, &byte, FACE_MAX_IMAGE_BYTES + 1, 0, CLOCK_FOREVER, &report),
		BM_EIMGSIZE);
	assert_works(*state);
}

static void test_is_confined(void **state)
{
	pid_t pid = faceworker_pid(*state);

	assert_int_equal(read_status(pid, "NoNewPrivs:", 10), 1);
	assert_int_equal(read_status(pid, "CapEff:", 16), 0);
	assert_int_equal(read_status(pid, "CapPrm:", 16), 0);
	assert_int_equal(read_status(pid, "Threads:", 10), 1);
#ifndef SANITIZED
	assert_int_equal(read_status(pid, "Seccomp:", 10), 2);
#endif
}

static void assert_limit(pid_t pid, const char *name, unsigned long long value)
{
	char line[128];
	unsigned long long soft, hard;

	read_proc(pid, "limits", name, line);
	assert_int_equal(sscanf(line, "%llu %llu", &soft, &hard), 2);
	assert_int_equal(soft, value);
	assert_int_equal(hard, value);
}

static void test_is_limited(void **state)
{
	pid_t pid = faceworker_pid(*state);

	assert_limit(pid, "Max core file size", 0);
	assert_limit(pid, "Max file size", 0);
	assert_limit(pid, "Max processes", 0);
	assert_limit(pid, "Max open files", 0);
#ifndef SANITIZED
	assert_limit(pid, "Max address space", usual.max_memory);
#endif
}

/* A process that cannot be dumped shows its descriptors to root alone. */
static void test_holds_no_descriptor_of_the_daemon(void **state)
{
	char path[64], target[64];
	struct dirent *entry;
	unsigned seen = 0;
	DIR *dir;

	if (geteuid())
		skip();
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)faceworker_pid(*state));
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		ssize_t len;

		if (entry->d_name[0] == '.')
			continue;
		assert_in_range(atoi(entry->d_name), 0, FACEWORKER_MEMORY_FD);
		seen |= 1u << atoi(entry->d_name);
		len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		assert_true(len > 0);
		target[len] = '\0';
		if (atoi(entry->d_name) == STDIN_FILENO)
			assert_string_equal(target, "/dev/null");
		if (atoi(entry->d_name) == FACEWORKER_SOCKET_FD)
			assert_memory_equal(target, "socket:", 7);
		if (atoi(entry->d_name) == FACEWORKER_MEMORY_FD)
			assert_memory_equal(target, "/memfd:", 7);
	}
	closedir(dir);
	assert_int_equal(seen & 1u << FACEWORKER_SOCKET_FD, 1u << FACEWORKER_SOCKET_FD);
}

static pid_t victim;

static void kill_victim(int signal)
{
	(void)signal;
	kill(victim, SIGKILL);
}

/* The worker is held so that it dies while its caller waits for it. */
static void test_survives_a_worker_killed_on_a_picture(void **state)
{
	const struct itimerval soon = {.it_value = {.tv_usec = 50000}};
	struct sigaction action = {.sa_handler = kill_victim};
	struct face_report report;

	victim = faceworker_pid(*state);
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(kill(victim, SIGSTOP), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
	assert_int_equal(look(*state, read_encoded(ADA), &report), BM_EWORKER);

	assert_int_equal(faceworker_pid(*state), -1);
	assert_int_equal(kill(victim, 0), -1); /* reaped */
	assert_int_equal(errno, ESRCH);
	assert_int_equal(look(*state, read_encoded(ADA), &report), BM_EWORKER);
	assert_int_equal(faceworker_ready(*state), 0);
	assert_int_not_equal(faceworker_pid(*state), victim);
	assert_works(*state);
}

static void test_replaces_a_worker_that_died_idle(void **state)
{
	pid_t pid = faceworker_pid(*state);
	siginfo_t info;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(faceworker_ready(*state), 0);
	assert_int_not_equal(faceworker_pid(*state), pid);
	assert_works(*state);
}

static void test_keeps_a_worker_that_lives(void **state)
{
	pid_t pid = faceworker_pid(*state);

	assert_int_equal(faceworker_ready(*state), 0);
	assert_works(*state);
	assert_int_equal(faceworker_ready(*state), 0);
	assert_int_equal(faceworker_pid(*state), pid);
}

static void test_kills_a_worker_that_hangs(void **state)
{
	struct faceworker_options options = usual;
	struct faceworker *worker;
	struct face_report report;
	pid_t pid;

	(void)state;
	options.run_ms = 50;
	worker = open_worker(&options);
	pid = faceworker_pid(worker);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(look(worker, read_encoded(ADA), &report), BM_EWORKERTIME);
	assert_int_equal(faceworker_pid(worker), -1);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	faceworker_close(worker);
}

/* The caller gives up; the worker, on time, goes on and serves the next one. */
static void test_lets_a_late_caller_go(void **state)
{
	struct encoded picture = read_encoded(ADA);
	pid_t pid = faceworker_pid(*state);
	struct face_report report;

	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(faceworker_run(*state, picture.data, picture.len, 0,
					clock_monotonic_ns() + 20 * CLOCK_NS_PER_MS, &report),
			 BM_EDEADLINE);
	free(picture.data);
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(look(*state, blank(64, 48), &report), 0);
	assert_int_equal(report.width, 64); /* of this picture, not of the last */
	assert_int_equal(report.finding, BM_ENOFACE);
	assert_int_equal(faceworker_pid(*state), pid);
}

static void test_replaces_a_worker_that_outgrew_its_limit(void **state)
{
	struct faceworker_options options = usual;
	struct faceworker *worker;
	pid_t pid;

	(void)state;
	options.max_resident = 1 << 20;
	worker = open_worker(&options);
	pid = faceworker_pid(worker);
	assert_works(worker);
	assert_int_equal(faceworker_pid(worker), pid);
	assert_int_equal(faceworker_ready(worker), 0);
	assert_int_not_equal(faceworker_pid(worker), pid);
	faceworker_close(worker);
}

static void test_leaves_no_process(void **state)
{
	struct faceworker *worker = open_worker(&usual);
	pid_t pid = faceworker_pid(worker);

	(void)state;
	faceworker_close(worker);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void test_wants_a_pack(void **state)
{
	struct faceworker_options options = usual;
	struct faceworker *worker = NULL;

	(void)state;
	options.pack_dir = "/nowhere";
	assert_int_equal(faceworker_open(&options, &worker), BM_EPACK);
	assert_null(worker);
}

int main(void)
{
	const struct CMUnitTest shared[] = {
		cmocka_unit_test(test_tells_people_apart),
		cmocka_unit_test(test_reports_findings),
		cmocka_unit_test(test_decodes_every_format_confined),
		cmocka_unit_test(test_lives_within_its_memory),
		cmocka_unit_test(test_refuses_what_is_no_picture),
		cmocka_unit_test(test_refuses_what_is_too_long),
		cmocka_unit_test(test_is_confined),
		cmocka_unit_test(test_is_limited),
		cmocka_unit_test(test_holds_no_descriptor_of_the_daemon),
		cmocka_unit_test(test_keeps_a_worker_that_lives),
		cmocka_unit_test(test_lets_a_late_caller_go),
		cmocka_unit_test(test_survives_a_worker_killed_on_a_picture),
		cmocka_unit_test(test_replaces_a_worker_that_died_idle),
		cmocka_unit_test(test_kills_a_worker_that_hangs),
		cmocka_unit_test(test_replaces_a_worker_that_outgrew_its_limit),
		cmocka_unit_test(test_leaves_no_process),
		cmocka_unit_test(test_wants_a_pack),
	};

	return cmocka_run_group_tests(shared, setup, teardown);
}
