/*
 * spawn.c - what the host's bare command costs: posix_spawn and wait, N times, by
 * C concurrent callers; prints one JSON line as load.c does.
 *
 *   spawn [-c CALLERS] -n COUNT COMMAND [ARGUMENT]...
 *
 * The command's stdin and stdout are /dev/null.  A command that fails ends all with 1.
 */
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT_MAX   100000
#define CALLERS_MAX 64

static struct {
    char **command;
    long count;
    atomic_long next;
    atomic_int failed;
    uint32_t *usec;
} job;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *caller_main(void *arg)
{
    posix_spawn_file_actions_t *quiet = arg;
    long i;

    while ((i = atomic_fetch_add(&job.next, 1)) < job.count && !atomic_load(&job.failed)) {
        int64_t begun = now_ns();
        int status = -1;
        pid_t pid;

        if (posix_spawnp(&pid, job.command[0], quiet, NULL, job.command, environ) != 0 ||
            waitpid(pid, &status, 0) != pid || status != 0) {
            atomic_store(&job.failed, 1);
            break;
        }
        job.usec[i] = (uint32_t)((now_ns() - begun) / 1000);
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    posix_spawn_file_actions_t quiet;
    pthread_t threads[CALLERS_MAX];
    int callers = 1, started = 0, opt;

    while ((opt = getopt(argc, argv, "+c:n:")) != -1) {
        switch (opt) {
        case 'c':
            callers = (int)strtol(optarg, NULL, 10);
            break;
        case 'n':
            job.count = strtol(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    }
    if (optind >= argc || callers < 1 || callers > CALLERS_MAX || job.count < 1 ||
        job.count > COUNT_MAX) {
        fprintf(stderr, "usage: spawn [-c CALLERS] -n COUNT COMMAND [ARGUMENT]...\n");
        return 2;
    }
    job.command = argv + optind;
    job.usec = calloc((size_t)job.count, sizeof(*job.usec));
    if (job.usec == NULL || posix_spawn_file_actions_init(&quiet) != 0 ||
        posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0) != 0 ||
        posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0) != 0) {
        return 1;
    }
    int64_t begun = now_ns();
    while (started < callers && pthread_create(&threads[started], NULL, caller_main, &quiet) == 0) {
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    double seconds = (double)(now_ns() - begun) / 1e9;
    posix_spawn_file_actions_destroy(&quiet);
    if (started != callers || atomic_load(&job.failed)) {
        fprintf(stderr, "spawn: %s failed\n", job.command[0]);
        return 1;
    }
    qsort(job.usec, (size_t)job.count, sizeof(*job.usec), by_value);
    printf("{\"count\":%ld,\"errors\":0,\"per_second\":%.1f,\"p50_us\":%u,\"p95_us\":%u}\n",
           job.count, (double)job.count / seconds, job.usec[job.count / 2],
           job.usec[job.count * 95 / 100]);
    free(job.usec);
    return 0;
}
