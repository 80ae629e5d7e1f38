/*
 * clock_shim.c - preloaded into nginx and sandbox-helper by tests: the wall clock is off by the
 * seconds that the file named in SB_CLOCK begins with, an int64_t.  A second one, where there is
 * one, is for CLOCK_MONOTONIC, which nobody sets: a wait of hours is over at once.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset;

static void __attribute__((constructor)) open_clock(void)
{
    const char *path = getenv("SB_CLOCK");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd >= 0 ? mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (fd >= 0)
        close(fd);
    if (p != MAP_FAILED)
        offset = p;
}

/* Behind the file's end there are zeros, to the end of the page. */
static int64_t ahead(int which)
{
    return offset != NULL ? offset[which] : 0;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, ts);
    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        ts->tv_sec += (time_t)ahead(0);
    if (rc == 0 && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE))
        ts->tv_sec += (time_t)ahead(1);
    return rc;
}

/* The kernel's timers do not know of it: an absolute one wakes its owner soon, who looks at the
 * clock. */
int timerfd_settime(int fd, int flags, const struct itimerspec *set, struct itimerspec *old)
{
    static int (*real)(int, int, const struct itimerspec *, struct itimerspec *);
    struct itimerspec soon = *set;
    struct timespec now;

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "timerfd_settime");
    if (offset == NULL || flags != TFD_TIMER_ABSTIME || set->it_value.tv_sec == 0)
        return real(fd, flags, set, old);
    clock_gettime(CLOCK_MONOTONIC, &now);
    now.tv_sec -= (time_t)ahead(1);
    soon.it_value.tv_sec -= (time_t)ahead(1);
    if (soon.it_value.tv_sec > now.tv_sec + 1)
        soon.it_value.tv_sec = now.tv_sec + 1;
    return real(fd, flags, &soon, old);
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;

    (void)zone;
    int rc = clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return rc;
}

time_t time(time_t *out)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    if (out != NULL)
        *out = ts.tv_sec;
    return ts.tv_sec;
}
