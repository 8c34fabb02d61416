#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/file.h"
#include "cli.h"

/* Some ten million files. */
#define REPORT_MAX ((size_t)2 << 30)

const char *outcome_name(enum outcome outcome)
{
	static const char *const names[OUTCOMES] = {"CREATED", "EXISTS", "DUPLICATE", "REFER",
						    "ERROR"};

	return names[outcome];
}

bool report_done(const struct report *report, const char *request_id)
{
	return json_object_get(report->done, request_id) != NULL;
}

/* A line that cannot be read was cut off with the run that wrote it. */
static int read_line(struct report *report, const char *line, size_t len)
{
	const char *outcome = "", *request_id = "";
	json_t *root = json_loadb(line, len, 0, NULL);
	int result = 0;

	if (root &&
	    !json_unpack(root, "{s:s, s:s}", "outcome", &outcome, "request_id", &request_id) &&
	    strcmp(outcome, outcome_name(OUTCOME_ERROR)))
		result = json_object_set_new(report->done, request_id, json_true());
	json_decref(root);
	return result ? BM_ENOMEM : 0;
}

static int read_lines(struct report *report, const char *text, size_t len)
{
	int error = 0;

	while (len && !error) {
		const char *end = memchr(text, '\n', len);
		size_t line = end ? (size_t)(end - text) : len;

		error = read_line(report, text, line);
		text += line + (end ? 1 : 0);
		len -= line + (end ? 1 : 0);
	}
	return error;
}

int report_open(struct report *report, const char *path)
{
	uint8_t *text = NULL;
	size_t len = 0;
	int error;

	*report = (struct report){.fd = -1, .done = json_object()};
	error = report->done ? file_read(path, REPORT_MAX, &text, &len) : BM_ENOMEM;
	if (error == BM_EIO && errno == ENOENT)
		error = 0;
	if (!error)
		error = read_lines(report, (const char *)text, len);
	if (error)
		goto out;
	report->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (report->fd < 0)
		error = BM_EIO;
	else if (len && text[len - 1] != '\n')
		error = file_write_full(report->fd, "\n", 1);
out:
	free(text);
	if (error)
		report_close(report);
	return error;
}

void report_close(struct report *report)
{
	if (report->fd >= 0)
		close(report->fd);
	json_decref(report->done);
	*report = (struct report){.fd = -1};
}

int report_add(const struct report *report, const char *file, const char *request_id,
	       enum outcome outcome, const char *reason)
{
	json_t *root = json_pack("{s:o, s:s, s:s, s:s*}", "file", text_json(file), "request_id",
				 request_id, "outcome", outcome_name(outcome), "reason",
				 *reason ? reason : NULL);
	char *line = root ? json_dumps(root, JSON_COMPACT) : NULL;
	size_t len = line ? strlen(line) : 0;
	int error = BM_ENOMEM;

	if (line) {
		/* One write a line; the NUL makes room for the line's end. */
		line[len] = '\n';
		error = file_write_full(report->fd, line, len + 1);
	}
	free(line);
	json_decref(root);
	return error;
}
