/*
 * What a connection's frames cost. HTTP/2 has frames that are cheap to send and
 * do no work for anybody; nghttp2 accepts any number of most of them. The meter
 * reads the frame headers of what arrives and keeps a budget: such frames take
 * from it; time, calls and bytes sent to the peer give. And it keeps the time that
 * the connection may have of its loop's thread.
 *
 * Thread: one user at a time.
 */
#ifndef NET_METER_H
#define NET_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"

#define METER_BURST      2000
#define METER_PER_SECOND 100
/* What one well-formed request gives back: its own HEADERS frame and some more. */
#define METER_PER_CALL 8
/*
 * What a DATA frame sent gives, for as long as it takes to be read: its reader answers
 * with window updates and pings.
 */
#define METER_PER_SENT 2
/* A turn of the connection; and what it may use at once of the time that its share gives. */
#define METER_TURN_NS  (CLOCK_NS_PER_MS / 4)
#define METER_TIME_MAX (5 * CLOCK_NS_PER_MS)
/* Who connects again does not have all of it again. */
#define METER_TIME_FIRST CLOCK_NS_PER_MS

struct net_meter {
	unsigned skip; /* of the client's connection preface */
	uint8_t head[9];
	unsigned head_len;
	uint32_t payload; /* still to come of the current frame */
	int64_t budget;   /* in frames */
	int64_t answers;  /* frames that what was sent may be answered with */
	int64_t now_ns;   /* when it was last refilled */
	unsigned share;   /* of the loop's time, per cent */
	int64_t time_ns;  /* that is left of it */
	int64_t spent_ns; /* when some was last spent */
};

void net_meter_init(struct net_meter *meter, unsigned share, int64_t now_ns);
/* Reads bytes as they came from the peer; false once the budget is spent. */
bool net_meter_count(struct net_meter *meter, struct bytes in, int64_t now_ns);
/* A call has come. */
void net_meter_give_call(struct net_meter *meter);
/* A DATA frame has been sent. */
void net_meter_give_sent(struct net_meter *meter);
/* Something as cheap as a frame; false once the budget is spent. */
bool net_meter_take(struct net_meter *meter, int64_t now_ns);
/* Takes the time of a turn; how long to wait before the next one, 0 while there is time left. */
int64_t net_meter_spend(struct net_meter *meter, int64_t used_ns, int64_t now_ns);

#endif
