#include "standby.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/log.h"

int role_read(const struct standby *standby, enum standby_role *out)
{
	const bool configured = standby->options.leader.target != NULL;
	enum changes_role stored;
	struct db_txn txn;
	int error = db_begin_read(standby->options.db, &txn);

	if (error)
		return error;
	stored = changes_role(&txn);
	error = txn.error;
	db_abort(&txn);
	if (configured)
		*out = stored == CHANGES_PROMOTED ? STANDBY_LEADS : STANDBY_FOLLOWS;
	else
		*out = stored == CHANGES_SUPERSEDED ? STANDBY_SUPERSEDED : STANDBY_LEADS;
	return error;
}

int place_read(const struct standby *standby, struct changes_place *out)
{
	struct db_txn txn;
	int error = db_begin_read(standby->options.db, &txn);

	if (error)
		return error;
	error = changes_head(&txn, out);
	db_abort(&txn);
	return error;
}

enum standby_role standby_role(const struct standby *standby)
{
	return (enum standby_role)atomic_load(&standby->role);
}

const char *standby_leader(const struct standby *standby)
{
	return standby->options.leader.target;
}

int standby_may_change(const struct standby *standby)
{
	switch (standby_role(standby)) {
	case STANDBY_FOLLOWS:
		return BM_EFOLLOWER;
	case STANDBY_SUPERSEDED:
		return BM_ESUPERSEDED;
	default:
		return 0;
	}
}

/* Since the store was last known to have all that its leader has. */
static int64_t age_ns(const struct standby *standby)
{
	int64_t synced = atomic_load(&standby->synced_ns);

	return synced ? clock_monotonic_ns() - synced : CLOCK_FOREVER;
}

int standby_may_read(const struct standby *standby)
{
	switch (standby_role(standby)) {
	case STANDBY_FOLLOWS:
		return age_ns(standby) > standby->options.max_age_ms * CLOCK_NS_PER_MS ? BM_ESTALE
										       : 0;
	case STANDBY_SUPERSEDED:
		return BM_ESUPERSEDED;
	default:
		return 0;
	}
}

int standby_promote(struct standby *standby, struct db_txn *txn, int64_t now_ms,
		    struct changes_place *out)
{
	int error;

	if (standby_role(standby) != STANDBY_FOLLOWS)
		return standby_role(standby) == STANDBY_LEADS ? BM_EEXISTS : BM_ESUPERSEDED;
	changes_set_role(txn, CHANGES_PROMOTED);
	error = changes_raise_epoch(txn, standby->options.keys, now_ms);
	if (!error)
		error = changes_head(txn, out);
	atomic_store(&standby->role_changed, true);
	return error;
}

int standby_supersede(struct standby *standby, struct db_txn *txn)
{
	changes_set_role(txn, CHANGES_SUPERSEDED);
	atomic_store(&standby->role_changed, true);
	return txn->error;
}

void standby_committed(struct standby *standby)
{
	static const char *const names[] = {"leader", "standby", "superseded"};
	enum standby_role role;

	if (!atomic_exchange(&standby->role_changed, false))
		return;
	if (role_read(standby, &role)) {
		atomic_store(&standby->role_changed, true);
		return;
	}
	if ((int)role != atomic_exchange(&standby->role, (int)role))
		log_notice("role_changed", "role=%s", names[role]);
}

static int64_t lag_ms(const struct standby *standby, enum standby_role role)
{
	int64_t age = role == STANDBY_FOLLOWS ? age_ns(standby) : 0;

	/* Never in step: as old as the machine's time is long. */
	return (age == CLOCK_FOREVER ? clock_monotonic_ns() : age) / CLOCK_NS_PER_MS;
}

void standby_stat(const struct standby *standby, struct standby_stat *out)
{
	enum standby_role role = standby_role(standby);

	*out = (struct standby_stat){
		.role = role,
		.connected = role == STANDBY_FOLLOWS && atomic_load(&standby->connected),
		.lag_changes = role == STANDBY_FOLLOWS ? atomic_load(&standby->lag_changes) : 0,
		.lag_ms = lag_ms(standby, role),
	};
}

/* Checks that there can be a client, and starts the thread. */
static int start(struct standby *standby, char message[BIOMATCH_MESSAGE_MAX])
{
	struct biomatch_client *client;
	int error = biomatch_client_open(&standby->options.leader, &client, message);

	if (error)
		return error;
	biomatch_client_close(client);
	standby->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (standby->wake_fd < 0 || pthread_create(&standby->thread, NULL, follow_run, standby)) {
		snprintf(message, BIOMATCH_MESSAGE_MAX, "%s", bm_error_text(BM_ENOMEM));
		return BM_ENOMEM;
	}
	standby->started = true;
	return 0;
}

int standby_open(const struct standby_options *options, struct standby **out,
		 char message[BIOMATCH_MESSAGE_MAX])
{
	struct standby *standby = calloc(1, sizeof(*standby));
	enum standby_role role = STANDBY_LEADS;
	int error;

	if (!standby)
		return BM_ENOMEM;
	standby->options = *options;
	standby->wake_fd = -1;
	error = role_read(standby, &role);
	atomic_init(&standby->role, (int)role);
	if (!error && options->leader.target)
		error = start(standby, message);
	if (error) {
		standby_close(standby);
		return error;
	}
	*out = standby;
	return 0;
}

void standby_close(struct standby *standby)
{
	static const uint64_t one = 1;

	if (!standby)
		return;
	if (standby->started) {
		atomic_store(&standby->closing, true);
		/* A counter at its limit can be read all the same. */
		if (write(standby->wake_fd, &one, sizeof(one)) < 0)
			log_warning("standby_not_woken", NULL);
		pthread_join(standby->thread, NULL);
	}
	if (standby->wake_fd >= 0)
		close(standby->wake_fd);
	free(standby);
}
