#include "biomatch/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#define LOG_MAX_FIELDS 16
#define LOG_TEXT       2048

static _Atomic int level_now = LOG_LEVEL_INFO;

static const struct {
	const char *name;
	enum log_level level;
} levels[] = {
	{"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"notice", LOG_LEVEL_NOTICE},
	{"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},
};

#define LEVELS (sizeof(levels) / sizeof(levels[0]))

void log_set_level(enum log_level level)
{
	atomic_store(&level_now, (int)level);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load(&level_now);
}

int log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < LEVELS; i++) {
		if (!strcmp(name, levels[i].name)) {
			*level = levels[i].level;
			return 0;
		}
	}
	return BM_EINVAL;
}

static const char *level_name(enum log_level level)
{
	for (size_t i = 0; i < LEVELS; i++) {
		if (levels[i].level == level)
			return levels[i].name;
	}
	return "info";
}

/*
 * systemd sets JOURNAL_STREAM to the device and inode of the stream it connects;
 * where standard error is that stream, the journal takes fields directly.
 */
static bool journal_connected(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       !fstat(STDERR_FILENO, &st) && st.st_dev == device && st.st_ino == inode;
}

/* A field of a log line while it is written; both strings end with NUL. */
struct field {
	char *key, *value;
};

/* Formats all fields at once, with breaks where the format has its spaces. */
static void format_with(char fill, const char *format, va_list args, char text[LOG_TEXT])
{
	char broken[512];
	size_t len = strnlen(format, sizeof(broken) - 1);

	for (size_t i = 0; i < len; i++)
		broken[i] = format[i] == ' ' ? fill : format[i];
	broken[len] = '\0';
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	vsnprintf(text, LOG_TEXT, broken, args);
#pragma GCC diagnostic pop
}

/*
 * Cuts the text where the format had its spaces. A value may hold any byte, the
 * break among them, so two texts are made with different breaks: only where they
 * differ is the format's own.
 */
static size_t format_fields(const char *format, va_list args, struct field *out, char *text)
{
	char other[LOG_TEXT], *p = text;
	size_t n = 0, len;
	va_list again;

	va_copy(again, args);
	format_with('\x1e', format, again, other);
	va_end(again);
	format_with('\x1f', format, args, text);
	len = strlen(text);
	for (size_t i = 0; i <= len && n < LOG_MAX_FIELDS; i++) {
		char *equals;

		if (i < len && text[i] == other[i])
			continue;
		text[i] = '\0';
		equals = strchr(p, '=');
		if (!equals)
			break;
		*equals = '\0';
		out[n++] = (struct field){p, equals + 1};
		p = text + i + 1;
	}
	return n;
}

/* A line in the making: no memory is asked for, whose lack may be what there is to say. */
struct line {
	size_t len;
	/* Every byte of the text escaped, with the quotes and commas of its fields. */
	char text[6 * LOG_TEXT + 8 * LOG_MAX_FIELDS + 256];
};

static void put_char(struct line *line, char c)
{
	if (line->len < sizeof(line->text))
		line->text[line->len++] = c;
}

static void put_text(struct line *line, const char *s)
{
	while (*s)
		put_char(line, *s++);
}

static void put_json_string(struct line *line, const char *s)
{
	static const char hex[] = "0123456789abcdef";

	put_char(line, '"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c >= 0x7f) {
			put_text(line, "\\u00");
			put_char(line, hex[c >> 4]);
			put_char(line, hex[c & 15]);
			continue;
		}
		if (c == '"' || c == '\\')
			put_char(line, '\\');
		put_char(line, (char)c);
	}
	put_char(line, '"');
}

static void put_field(struct line *line, const char *key, const char *value)
{
	put_json_string(line, key);
	put_char(line, ':');
	put_json_string(line, value);
}

static void write_json(enum log_level level, const char *event, const struct field *fields,
		       size_t n)
{
	struct line line = {.len = 0};
	struct timespec now;
	char time[96];
	ssize_t written;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	snprintf(time, sizeof(time), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		 now.tv_nsec / 1000000);
	put_char(&line, '{');
	put_field(&line, "time", time);
	put_char(&line, ',');
	put_field(&line, "level", level_name(level));
	put_char(&line, ',');
	put_field(&line, "event", event);
	for (size_t i = 0; i < n; i++) {
		put_char(&line, ',');
		put_field(&line, fields[i].key, fields[i].value);
	}
	put_text(&line, "}\n");
	/* One write a line, so that lines of different threads do not mix. */
	written = write(STDERR_FILENO, line.text, line.len);
	(void)written; /* there is nowhere left to report it */
}

/* The journal's names are upper-case. */
static bool write_journal(enum log_level level, const char *event, const struct field *fields,
			  size_t n)
{
	char text[LOG_MAX_FIELDS + 2][LOG_TEXT / 4];
	struct iovec iov[LOG_MAX_FIELDS + 2];
	int rows = 0;

	snprintf(text[rows++], sizeof(text[0]), "PRIORITY=%d", (int)level);
	snprintf(text[rows++], sizeof(text[0]), "MESSAGE=%s", event);
	for (size_t i = 0; i < n; i++, rows++) {
		snprintf(text[rows], sizeof(text[0]), "%s=%s", fields[i].key, fields[i].value);
		for (char *c = text[rows]; *c && *c != '='; c++)
			*c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
	}
	for (int i = 0; i < rows; i++)
		iov[i] = (struct iovec){text[i], strlen(text[i])};
	return sd_journal_sendv(iov, rows) == 0;
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
	struct field fields[LOG_MAX_FIELDS];
	char text[LOG_TEXT];
	size_t n = 0;
	va_list args;

	if ((int)level > atomic_load_explicit(&level_now, memory_order_relaxed))
		return;
	if (format) {
		va_start(args, format);
		n = format_fields(format, args, fields, text);
		va_end(args);
	}
	if (journal_connected() && write_journal(level, event, fields, n))
		return;
	write_json(level, event, fields, n);
}
