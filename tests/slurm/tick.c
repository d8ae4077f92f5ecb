/* Makes slurmctld look for new batch jobs every TICK_MS milliseconds instead of once a second,
 * and at time limits once a second instead of every 30 seconds.
 *
 * To be preloaded into slurmctld alone. Its main loop waits 10 times usleep(100000) in
 * releases up to 22.05, and with pthread_cond_timedwait until the next whole second in
 * later ones; no setting shortens that. Tests only: real clusters have the full second.
 *
 *     cc -shared -fPIC -O2 -o tick.so tick.c -ldl
 *
 * Up to 22.05 compile with -DUSLEEP_ONLY: such a release may run on a C library that has
 * no dlvsym where the linker looks for it.
 *
 * The look at time limits needs -DTIME_LIMITS, for a release that is known to have what
 * look_at_time_limits() calls.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define MAIN_LOOP_USLEEP 100000

static long tick_ms = 50;

#ifndef USLEEP_ONLY
static int (*real_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
#endif

__attribute__((constructor)) static void start(void)
{
	const char *text = getenv("TICK_MS");

	if (text)
		tick_ms = atol(text);
#ifndef USLEEP_ONLY
	/* An unversioned look-up finds the oldest version, whose pthread_cond_t differs. */
	real_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
	if (!real_timedwait)
		real_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
#endif
}

#ifndef USLEEP_ONLY
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
			   const struct timespec *until)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (until->tv_nsec != 0 || until->tv_sec != now.tv_sec + 1)
		return real_timedwait(condition, mutex, until);
	now.tv_nsec += tick_ms * 1000000L;
	now.tv_sec += now.tv_nsec / 1000000000L;
	now.tv_nsec %= 1000000000L;
	return real_timedwait(condition, mutex, &now);
}
#endif

#ifdef TIME_LIMITS
/* slurmctld exports these for its plugins. The levels are those of its own round of 30 s:
 * read the configuration, write jobs and nodes, read partitions and federation. */
struct levels { int configuration, jobs, nodes, partitions, federation; };

static void look_at_time_limits(void)
{
	static const struct levels levels = {1, 2, 2, 1, 1};
	static time_t last;
	time_t now = time(0);
	void (*lock)(struct levels) = dlsym(RTLD_DEFAULT, "lock_slurmctld");
	void (*unlock)(struct levels) = dlsym(RTLD_DEFAULT, "unlock_slurmctld");
	void (*look)(void) = dlsym(RTLD_DEFAULT, "job_time_limit");

	if (now == last || !lock || !unlock || !look)
		return;
	last = now;
	lock(levels);
	look();
	unlock(levels);
}
#endif

int usleep(useconds_t microseconds)
{
	struct timespec pause = {microseconds / 1000000, (microseconds % 1000000) * 1000L};

	if (microseconds == MAIN_LOOP_USLEEP) {
		pause.tv_nsec = tick_ms * 1000000L / 10;
#ifdef TIME_LIMITS
		/* The main loop holds no lock while it waits; other threads may. */
		if (gettid() == getpid())
			look_at_time_limits();
#endif
	}
	return nanosleep(&pause, 0);
}
