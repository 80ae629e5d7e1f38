/*
 * probe_lifecycle.c - attacks on the end of a run: items 51 and 52 of the catalogue.
 */
#include "probe.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN_ZOMBIES 50

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

static void zombies(int argc, char **argv)
{
    int wanted = argc > 0 ? atoi(argv[0]) : 1;
    long long made = 0, own = 0;

    for (int i = 0; i < wanted; i++) {
        int rc = orphan_zombie();

        /* full of zombies that pid 1 has not come to yet: try again, a little later */
        for (int again = 0; rc != 0 && errno == EAGAIN && again < 1000; again++) {
            usleep(1000);
            rc = orphan_zombie();
        }
        made += rc == 0;
    }
    for (int i = 0; i < OWN_ZOMBIES; i++) { /* nobody collects these */
        pid_t pid = fork();

        if (pid == 0) {
            _exit(0);
        }
        own += pid > 0;
    }
    noted_number("orphans", made);
    noted_number("own", own);
    tried(made == wanted ? 0 : -1, "%d orphans", wanted);
}

const attack_t lifecycle_attacks[] = {
    {"daemons", daemons},
    {"zombies", zombies},
    {NULL, NULL},
};
