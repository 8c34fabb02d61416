/* What is asked of the scheduler, as far as it can be seen from here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "biomatch/priority.h"

static int nice_of_thread(void)
{
	errno = 0;
	return getpriority(PRIO_PROCESS, 0);
}

static void *stand_behind(void *arg)
{
	int *nice = arg;

	priority_behind();
	*nice = nice_of_thread();
	return NULL;
}

static void *be_prompt(void *arg)
{
	int *nice = arg;

	priority_prompt();
	*nice = nice_of_thread();
	return NULL;
}

static int nice_in(void *(*run)(void *arg))
{
	pthread_t thread;
	int nice = -1;

	assert_int_equal(pthread_create(&thread, NULL, run, &nice), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return nice;
}

static void test_of_one_thread_alone(void **state)
{
	int before = nice_of_thread();

	(void)state;
	assert_int_equal(nice_in(be_prompt), before);
	assert_true(nice_in(stand_behind) >= 5);
	assert_int_equal(nice_of_thread(), before);
}

static void test_offers_until_told(void **state)
{
	struct itimerval timer;

	(void)state;
	assert_int_equal(priority_offer_always(true), 0);
	/* Each alarm ends a wait. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pause(), -1);
		assert_int_equal(errno, EINTR);
	}
	assert_int_equal(priority_offer_always(false), 0);
	assert_int_equal(getitimer(ITIMER_REAL, &timer), 0);
	assert_false(timerisset(&timer.it_value));
	priority_offer();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_one_thread_alone),
		cmocka_unit_test(test_offers_until_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
