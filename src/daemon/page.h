/*
 * The live page: the files of page/ and the charting library uPlot, compiled in.
 */
#ifndef DAEMON_PAGE_H
#define DAEMON_PAGE_H

#include "biomatch/console.h"

#define PAGE_FILES 8

void page_list(struct console_page out[PAGE_FILES]);

#endif
