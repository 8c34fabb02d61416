#include "family.h"

#include "biomatch/clock.h"

#define US CLOCK_NS_PER_US
#define MS CLOCK_NS_PER_MS

/* From the comparison of two templates to the longest time that a call may take. */
const int64_t metrics_bounds[METRICS_BOUNDS] = {
	50 * US, 100 * US, 250 * US, 500 * US, 1 * MS,    2500 * US, 5 * MS,    10 * MS,    25 * MS,
	50 * MS, 100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 5000 * MS, 10000 * MS,
};

const struct metrics_family metrics_families[METRICS_FAMILIES] = {
	[METRICS_RPCS] = {"biomatch_rpcs_total",
			  "Calls answered, by gRPC status",
			  METRICS_COUNTER,
			  1024,
			  {"method", "status", "class"}},
	[METRICS_RPC_TIME] = {"biomatch_rpc_seconds",
			      "Time from a call's headers to its answer, calls that failed too",
			      METRICS_HISTOGRAM,
			      64,
			      {"method"}},
	[METRICS_STAGE_TIME] = {"biomatch_stage_seconds",
				"Time that one call spent in a stage of its work",
				METRICS_HISTOGRAM,
				16,
				{"stage"}},
	[METRICS_ERRORS] = {"biomatch_errors_total",
			    "Calls that ended in an error, by the reason they were told",
			    METRICS_COUNTER,
			    128,
			    {"reason"}},
	[METRICS_DECISIONS] = {"biomatch_decisions_total",
			       "Decisions answered, with the reason of a referral",
			       METRICS_COUNTER,
			       1024,
			       {"method", "decision", "reason", "class"}},
	[METRICS_SCORE_BANDS] = {"biomatch_score_bands_total",
				 "Comparisons answered, by the coarse band of the score",
				 METRICS_COUNTER,
				 64,
				 {"method", "band"}},
	[METRICS_LIVE_FMR] = {"biomatch_live_fmr",
			      "Verified probes against references of others, drawn at random: "
			      "share that reaches the threshold",
			      METRICS_PROPORTION,
			      512,
			      {"class", "site"}},
	[METRICS_ESTATE_CALLS] = {"biomatch_estate_calls_total",
				  "Calls answered to the endpoints of a site and class",
				  METRICS_COUNTER,
				  2048,
				  {"site", "class", "status"}},
	[METRICS_ESTATE_CONNECTIONS] = {"biomatch_estate_connections",
					"Connections of the endpoints of a site and class",
					METRICS_LEVEL,
					512,
					{"site", "class"}},
	[METRICS_ESTATE_LAST_CALL] =
		{"biomatch_estate_last_call_seconds",
		 "When the last call of a site and class was answered, Unix time",
		 METRICS_TIME,
		 512,
		 {"site", "class"}},
};
