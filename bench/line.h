/*
 * The line of a site that is not well: a relay between endpoints and daemon.
 *
 * Slow: bytes trickle in both directions. Dead: the daemon's peers vanish as with a cut
 * cable: from then on whatever arrives for them is dropped before TCP sees it, so that
 * nothing is acknowledged, reset or closed, and nothing is sent.
 */
#ifndef BENCH_LINE_H
#define BENCH_LINE_H

#include <stdint.h>

#define LINE_SLOW_BYTES 8000 /* a second, in each direction of each connection */

struct line;

enum line_state { LINE_WELL, LINE_SLOW, LINE_DEAD };

/* Relays what connects to line_port to this port of localhost; ends the process where it cannot. */
struct line *line_open(uint16_t port);
uint16_t line_port(const struct line *line);
/* Of the connections there are, and those to come. */
void line_set(struct line *line, enum line_state state);
void line_close(struct line *line);

#endif
