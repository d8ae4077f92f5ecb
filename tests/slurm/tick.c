/* Makes slurmctld look for new batch jobs every TICK_MS milliseconds instead of once a second.
 *
 * To be preloaded into slurmctld alone. Its main loop waits 10 times usleep(100000) in
 * releases up to 22.05, and with pthread_cond_timedwait until the next whole second in
 * later ones; no setting shortens that. Tests only: real clusters have the full second.
 *
 *     cc -shared -fPIC -O2 -o tick.so tick.c -ldl
 *
 * Up to 22.05 compile with -DUSLEEP_ONLY: such a release may run on a C library that has
 * no dlvsym where the linker looks for it.
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

int usleep(useconds_t microseconds)
{
	struct timespec pause = {microseconds / 1000000, (microseconds % 1000000) * 1000L};

	if (microseconds == MAIN_LOOP_USLEEP)
		pause.tv_nsec = tick_ms * 1000000L / 10;
	return nanosleep(&pause, 0);
}
