/*
 * What a connection's frames cost. HTTP/2 has frames that are cheap to send and
 * do no work for anybody; nghttp2 accepts any number of most of them. The meter
 * reads the frame headers of what arrives and keeps a budget: such frames take
 * from it; time, calls and bytes sent to the peer give.
 *
 * Thread: one user at a time.
 */
#ifndef NET_METER_H
#define NET_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"

#define METER_BURST      2000
#define METER_PER_SECOND 100
/* What one well-formed request gives back: its own HEADERS frame and some more. */
#define METER_PER_CALL 8
/* What a DATA frame sent gives: its reader answers with window updates and pings. */
#define METER_PER_SENT 2

struct net_meter {
	unsigned skip; /* of the client's connection preface */
	uint8_t head[9];
	unsigned head_len;
	uint32_t payload; /* still to come of the current frame */
	int64_t budget;   /* in frames */
	int64_t now_ns;   /* when it was last refilled */
};

void net_meter_init(struct net_meter *meter, int64_t now_ns);
/* Reads bytes as they came from the peer; false once the budget is spent. */
bool net_meter_count(struct net_meter *meter, struct bytes in, int64_t now_ns);
void net_meter_give(struct net_meter *meter, int64_t frames);

#endif
