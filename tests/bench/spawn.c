/*
 * spawn.c - what a bare command costs: posix_spawn and wait, N times, by C
 * concurrent callers; prints one JSON line as load.c does.
 *
 *   spawn [-c CALLERS] [-n COUNT] [-s SECONDS] [-w PAUSE-US] [-i STDIN-FILE] [-a] COMMAND
 * [ARGUMENT]...
 *         [";" COMMAND [ARGUMENT]...]
 *
 * Commands separated by an argument ";" run one after the other and are timed together: what a
 * shell would do, without the shell.  Ends after COUNT or SECONDS, whichever is first.  Stdin is
 * /dev/null or the file, stdout /dev/null.  -w: pause after each; -a: print every latency.
 * A command that fails ends all with 1, and nothing is printed: a broken command is no fast one.
 */
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "samples.h"

#define COUNT_MAX    1000000
#define CALLERS_MAX  64
#define COMMANDS_MAX 4
#define SECONDS_MAX  600

static struct {
    char **commands[COMMANDS_MAX];
    size_t ncommands;
    long count;
    int64_t pause_ns, deadline_ns;
    posix_spawn_file_actions_t quiet;
    atomic_long next;
    atomic_int failed;
    pthread_mutex_t lock; /* of samples */
    samples_t samples;
} job = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool run_once(void)
{
    for (size_t i = 0; i < job.ncommands; i++) {
        char **argv = job.commands[i];
        int status = -1;
        pid_t pid;

        if (posix_spawnp(&pid, argv[0], &job.quiet, NULL, argv, environ) != 0 ||
            waitpid(pid, &status, 0) != pid || status != 0)
            return false;
    }
    return true;
}

static void *caller_main(void *arg)
{
    while (atomic_fetch_add(&job.next, 1) < job.count && !atomic_load(&job.failed)) {
        int64_t begun = now_ns(), ended;
        bool good;

        if (begun >= job.deadline_ns)
            break;
        good = run_once();
        ended = now_ns();
        pthread_mutex_lock(&job.lock);
        good = good && samples_add(&job.samples, ended - begun);
        pthread_mutex_unlock(&job.lock);
        if (!good)
            atomic_store(&job.failed, 1);
        if (job.pause_ns > 0)
            sleep_until(ended + job.pause_ns);
    }
    return NULL;
}

/* argv without its options: split at ";". */
static bool take_commands(char **argv)
{
    while (*argv != NULL) {
        if (strcmp(*argv, ";") == 0 || job.ncommands == COMMANDS_MAX)
            return false;
        job.commands[job.ncommands++] = argv;
        while (*argv != NULL && strcmp(*argv, ";") != 0)
            argv++;
        if (*argv != NULL)
            *argv++ = NULL;
    }
    return job.ncommands > 0;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: spawn [-c CALLERS] [-n COUNT] [-s SECONDS] [-w PAUSE-US] [-i STDIN-FILE]"
            " [-a] COMMAND [ARGUMENT]... [\";\" COMMAND [ARGUMENT]...]\n");
    return 2;
}

static bool run_callers(int callers)
{
    pthread_t threads[CALLERS_MAX];
    int started = 0;

    while (started < callers && pthread_create(&threads[started], NULL, caller_main, NULL) == 0)
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return started == callers && !atomic_load(&job.failed);
}

int main(int argc, char **argv)
{
    const char *input = "/dev/null";
    int callers = 1, opt;
    long seconds = SECONDS_MAX;
    bool all = false, good;

    job.count = COUNT_MAX;
    while ((opt = getopt(argc, argv, "+c:n:s:w:i:a")) != -1) {
        switch (opt) {
        case 'c':
            callers = (int)argument("-c", optarg, 1, CALLERS_MAX);
            break;
        case 'n':
            job.count = argument("-n", optarg, 1, COUNT_MAX);
            break;
        case 's':
            seconds = argument("-s", optarg, 1, SECONDS_MAX);
            break;
        case 'w':
            job.pause_ns = argument("-w", optarg, 0, 10000000) * 1000;
            break;
        case 'i':
            input = optarg;
            break;
        case 'a':
            all = true;
            break;
        default:
            return usage();
        }
    }
    if (!take_commands(argv + optind))
        return usage();
    if (posix_spawn_file_actions_init(&job.quiet) != 0 ||
        posix_spawn_file_actions_addopen(&job.quiet, 0, input, O_RDONLY, 0) != 0 ||
        posix_spawn_file_actions_addopen(&job.quiet, 1, "/dev/null", O_WRONLY, 0) != 0)
        return 1;
    int64_t begun = now_ns();
    job.deadline_ns = begun + seconds * 1000000000;
    good = run_callers(callers);
    double took = (double)(now_ns() - begun) / 1e9;
    posix_spawn_file_actions_destroy(&job.quiet);
    if (good) {
        printf("{\"count\":%zu,\"failed\":0,\"seconds\":%.3f,\"per_second\":%.2f",
               job.samples.count, took, (double)job.samples.count / took);
        samples_print(stdout, "", &job.samples, all);
        puts("}");
    } else {
        fprintf(stderr, "spawn: %s failed\n", job.commands[0][0]);
    }
    samples_free(&job.samples);
    return good ? 0 : 1;
}
