#include "meter.h"

#define PREFACE_LEN 24
/* Of RFC 9113, section 6. */
#define TYPE_DATA          0
#define TYPE_HEADERS       1
#define TYPE_PING          6
#define TYPE_WINDOW_UPDATE 8
#define TYPE_CONTINUATION  9

void net_meter_init(struct net_meter *meter, unsigned share, int64_t now_ns)
{
	*meter = (struct net_meter){
		.skip = PREFACE_LEN,
		.budget = METER_BURST,
		.now_ns = now_ns,
		.share = share,
		.time_ns = METER_TIME_FIRST,
		.spent_ns = now_ns,
	};
}

static void give(struct net_meter *meter, int64_t frames)
{
	meter->budget += frames;
	if (meter->budget > METER_BURST)
		meter->budget = METER_BURST;
}

static void refill(struct net_meter *meter, int64_t now_ns)
{
	const int64_t frame_ns = CLOCK_NS_PER_SEC / METER_PER_SECOND;
	int64_t frames = (now_ns - meter->now_ns) / frame_ns;

	if (frames <= 0)
		return;
	meter->now_ns += frames * frame_ns;
	give(meter, frames);
}

void net_meter_give_call(struct net_meter *meter)
{
	give(meter, METER_PER_CALL);
}

void net_meter_give_sent(struct net_meter *meter)
{
	meter->answers += METER_PER_SENT;
}

bool net_meter_take(struct net_meter *meter, int64_t now_ns)
{
	refill(meter, now_ns);
	meter->budget--;
	return meter->budget >= 0;
}

int64_t net_meter_spend(struct net_meter *meter, int64_t used_ns, int64_t now_ns)
{
	meter->time_ns += (now_ns - meter->spent_ns) * meter->share / 100;
	meter->spent_ns = now_ns;
	if (meter->time_ns > METER_TIME_MAX)
		meter->time_ns = METER_TIME_MAX;
	meter->time_ns -= used_ns;
	return meter->time_ns > 0 ? 0 : (METER_TURN_NS - meter->time_ns) * 100 / meter->share;
}

/*
 * DATA with bytes in it is paid for by its bytes, through flow control. A header
 * block costs by its size: compressed, it can hold a thousand times as much.
 */
static int64_t frame_cost(struct net_meter *meter, const uint8_t head[9], uint32_t payload)
{
	switch (head[3]) {
	case TYPE_PING:
	case TYPE_WINDOW_UPDATE:
		if (!meter->answers)
			return 1;
		meter->answers--;
		return 0;
	case TYPE_DATA:
		return payload ? 0 : 1;
	case TYPE_HEADERS:
	case TYPE_CONTINUATION:
		return 1 + payload / 1024;
	default:
		return 1;
	}
}

/* Takes a run of bytes that are no frame header. */
static size_t pass_over(struct bytes in, size_t at, uint32_t *left)
{
	size_t n = in.len - at < *left ? in.len - at : *left;

	*left -= (uint32_t)n;
	return n;
}

bool net_meter_count(struct net_meter *meter, struct bytes in, int64_t now_ns)
{
	refill(meter, now_ns);
	for (size_t at = 0; at < in.len && meter->budget >= 0;) {
		if (meter->skip) {
			at += pass_over(in, at, &meter->skip);
		} else if (meter->payload) {
			at += pass_over(in, at, &meter->payload);
		} else {
			meter->head[meter->head_len++] = in.data[at++];
			if (meter->head_len < sizeof(meter->head))
				continue;
			meter->head_len = 0;
			meter->payload = bytes_get_be32(meter->head) >> 8;
			meter->budget -= frame_cost(meter, meter->head, meter->payload);
		}
	}
	return meter->budget >= 0;
}
