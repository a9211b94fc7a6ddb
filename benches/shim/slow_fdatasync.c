/*
 * Makes each fdatasync and fsync of a process take longer, as on a slower disk: LD_PRELOAD it, and
 * set PERF_FSYNC_DELAY_US to the microseconds that each call waits before it does its work.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

typedef int (*sync_call)(int);

static void wait_as_told(void)
{
    const char *text = getenv("PERF_FSYNC_DELAY_US");
    long delay = text ? strtol(text, NULL, 10) : 0;
    struct timespec until;

    if (delay <= 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += delay / 1000000;
    until.tv_nsec += delay % 1000000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec += 1;
        until.tv_nsec -= 1000000000;
    }
    /* Until a point in time, so that signals do not shorten or prolong it. */
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static int slow(const char *name, int fd)
{
    sync_call real = (sync_call)dlsym(RTLD_NEXT, name);

    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    wait_as_told();
    return real(fd);
}

int fdatasync(int fd)
{
    return slow("fdatasync", fd);
}

int fsync(int fd)
{
    return slow("fsync", fd);
}
