/*
 * stalls.c - when does this machine not run at all?
 *
 *   stalls -s SECONDS
 *
 * One thread a processor, bound to it, under SCHED_FIFO (sched(7)): nothing of the bench comes
 * before it.  Each wants to run every half millisecond and notes by how much it came late.  What is
 * late by 2 ms and more was stopped from outside, as a virtual machine is whose host gives its
 * processors, or the thread that does its disk, no more time for now; latencies above that are not
 * the measured program's.  Prints one line of JSON: "stalls" of 2 ms and more, on all processors
 * together, "stalls_per_second" of one processor, "stalled", their share of the time, and
 * "longest_us".  Exit status 1 where it may not have that priority: only root may, as a rule.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "samples.h"

#define PROCESSORS_MAX 64
#define PRIORITY       50
#define PERIOD_NS      500000
#define STALL_NS       2000000
#define SECONDS_MAX    3600

typedef struct {
    pthread_t thread;
    int processor;
    int error; /* an errno, when it could not be what it should */
    int64_t until;
    long stalls;
    int64_t stalled_ns, longest_ns;
} watcher_t;

static int take_priority(int processor)
{
    const struct sched_param param = {.sched_priority = PRIORITY};
    cpu_set_t set;
    int rc;

    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    rc = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    return rc != 0 ? rc : pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
}

static void *look(void *ctx)
{
    watcher_t *w = ctx;

    w->error = take_priority(w->processor);
    for (int64_t now = now_ns(); w->error == 0 && now < w->until;) {
        const int64_t due = now + PERIOD_NS;
        int64_t late;

        sleep_until(due);
        now = now_ns();
        late = now - due;
        if (late < STALL_NS)
            continue;
        w->stalls++;
        w->stalled_ns += late;
        if (late > w->longest_ns)
            w->longest_ns = late;
    }
    return NULL;
}

static void print(const watcher_t *watchers, int n, long seconds)
{
    long stalls = 0;
    int64_t stalled = 0, longest = 0;

    for (int i = 0; i < n; i++) {
        stalls += watchers[i].stalls;
        stalled += watchers[i].stalled_ns;
        longest = watchers[i].longest_ns > longest ? watchers[i].longest_ns : longest;
    }
    printf("{\"seconds\":%ld,\"stalls\":%ld,\"stalls_per_second\":%.2f,\"stalled\":%.4f,"
           "\"longest_us\":%lld}\n",
           seconds, stalls, (double)stalls / (double)(n * seconds),
           (double)stalled / 1e9 / (double)(n * seconds), (long long)(longest / 1000));
}

int main(int argc, char **argv)
{
    static watcher_t watchers[PROCESSORS_MAX];
    const int n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int64_t until;
    long seconds;

    if (argc != 3 || strcmp(argv[1], "-s") != 0 || n < 1 || n > PROCESSORS_MAX) {
        fprintf(stderr, "usage: stalls -s SECONDS\n");
        return 2;
    }
    seconds = argument("-s", argv[2], 1, SECONDS_MAX);
    until = now_ns() + (int64_t)seconds * 1000000000;
    for (int i = 0; i < n; i++) {
        watchers[i] = (watcher_t){.processor = i, .until = until};
        if (pthread_create(&watchers[i].thread, NULL, look, &watchers[i]) != 0) {
            fprintf(stderr, "stalls: no thread\n");
            return 1;
        }
    }
    for (int i = 0; i < n; i++)
        pthread_join(watchers[i].thread, NULL);
    for (int i = 0; i < n; i++) {
        if (watchers[i].error == 0)
            continue;
        fprintf(stderr, "stalls: real-time priority: %s\n", strerror(watchers[i].error));
        return 1;
    }
    print(watchers, n, seconds);
    return 0;
}
