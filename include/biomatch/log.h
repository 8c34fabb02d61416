/*
 * Structured logging: one event, a stable name, and fields. Goes to the journal
 * where standard error is connected to it, and to standard error as one JSON
 * object a line everywhere else.
 *
 * No field may hold a subject id, a score of a named person, or image bytes.
 *
 * Thread: any.  Owns: nothing.
 */
#ifndef BIOMATCH_LOG_H
#define BIOMATCH_LOG_H

#include "biomatch/error.h"

/* The levels of syslog(3) that are used. */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Sets the least severe level that is written; LOG_LEVEL_INFO at start. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* Reads "error", "warning", "notice", "info" or "debug". */
int log_level_parse(const char *name, enum log_level *level) BM_MUST_CHECK;

/*
 * Writes an event. event is a stable snake_case name. format is a printf format
 * of the shape "key=%d other_key=%s", keys snake_case, one value each; a string
 * value may hold any bytes, they are escaped. NULL for no fields.
 */
void log_event(enum log_level level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...)   log_event(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_event(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_event(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_event(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_event(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
