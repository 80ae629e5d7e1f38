/*
 * probe_lifecycle.c - attacks on the end of a run: items 51 and 52 of the catalogue.
 */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OWN_ZOMBIES 50
#define PATIENCE_MS 15000 /* for pid 1 to collect, on a machine that has other things to do */

/* ---- 51: daemons ---- */

/* Deaf to every signal that can be ignored, without a terminal, parent or descriptor. */
static void __attribute__((noreturn)) daemon_life(int ready)
{
    for (int sig = 1; sig < NSIG; sig++) {
        (void)signal(sig, SIG_IGN);
    }
    prctl(PR_SET_NAME, MARK "daemon");
    prctl(PR_SET_PDEATHSIG, 0);
    if (write(ready, "x", 1) != 1) {
        _exit(1);
    }
    for (int fd = 0; fd < 64; fd++) {
        close(fd);
    }
    for (;;) {
        sleep(3600);
    }
}

static int spawn_daemon(int ready)
{
    pid_t pid = fork();

    if (pid != 0) {
        return pid < 0 ? -1 : waitpid(pid, NULL, 0) == pid ? 0 : -1;
    }
    setsid();
    pid = fork();
    if (pid == 0) {
        daemon_life(ready);
    }
    _exit(pid < 0 ? 1 : 0);
}

static void daemons(int argc, char **argv)
{
    int wanted = argc > 0 ? atoi(argv[0]) : 1, pair[2];
    long long alive = 0;
    char byte;

    if (pipe(pair) != 0) {
        return;
    }
    for (int i = 0; i < wanted; i++) {
        tried(spawn_daemon(pair[1]), "daemon %d", i);
    }
    close(pair[1]);
    while (alive < wanted && read(pair[0], &byte, 1) == 1) {
        alive++;
    }
    noted_number("daemons", alive);
}

/* ---- 52: zombies ---- */

static long long now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* A child whose own child ends when its parent is no more: pid 1 has to collect it. */
static int orphan_zombie(void)
{
    int wstatus;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(fork() < 0 ? 1 : 0);
    }
    if (pid < 0 || waitpid(pid, &wstatus, 0) != pid) {
        return -1;
    }
    errno = EAGAIN;
    return wstatus == 0 ? 0 : -1;
}

/* A child that is dead when this returns, and that nobody collects. */
static int own_zombie(void)
{
    siginfo_t info;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(0);
    }
    return pid < 0 ? -1 : waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
}

/*
 * Full of zombies that pid 1 has not come to yet, a run has to wait for a process like
 * everybody at a limit.  Returns how many were made by `until`.
 */
static long long make(int (*one)(void), int wanted, long long until)
{
    long long made = 0;

    while (made < wanted) {
        if (one() == 0) {
            made++;
        } else if (errno == EAGAIN && now_ms() < until) {
            usleep(1000);
        } else {
            break;
        }
    }
    return made;
}

/* Processes in /proc: a zombie is one. */
static int count_processes(void)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    int count = 0;

    if (proc == NULL) {
        return -1;
    }
    while ((entry = readdir(proc)) != NULL) {
        count += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
    }
    closedir(proc);
    return count;
}

/* Is there nobody but who was there before? */
static int await_alone(int before, long long until)
{
    while (count_processes() != before) {
        if (now_ms() > until) {
            errno = ETIMEDOUT;
            return -1;
        }
        usleep(1000);
    }
    return before > 0 ? 0 : -1;
}

static void zombies(int argc, char **argv)
{
    int wanted = argc > 0 ? atoi(argv[0]) : 1, before = count_processes();
    long long until = now_ms() + PATIENCE_MS;

    noted_number("orphans", make(orphan_zombie, wanted, until));
    tried(await_alone(before, until), "pid 1 collects them all");
    noted_number("own", make(own_zombie, OWN_ZOMBIES, until));
}

const attack_t lifecycle_attacks[] = {
    {"daemons", daemons},
    {"zombies", zombies},
    {NULL, NULL},
};
