/*
 * probe.c - the attack probe's frame.
 *
 *   probe NONCE HOLD_MS ATTACK [ARGUMENT ...]
 *
 * writes NONCE into an artifact (the proof that this code ran), runs the attack, writes
 * what it saw to output.json, then calls itself "holding" and sleeps, so that the host
 * can look at the process from outside: until the host says by SIGUSR1 that it has, or
 * for HOLD_MS.  Statically linked, raw system calls.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_MAX (512 * 1024)

static char tries[TEXT_MAX], notes[TEXT_MAX];

static void append(char *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void append(char *text, const char *fmt, ...)
{
    size_t used = strlen(text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text + used, TEXT_MAX - used, fmt, ap);
    va_end(ap);
}

static void append_string(char *text, const char *s)
{
    append(text, "\"");
    for (; *s != '\0'; s++) {
        if (*s == '"' || *s == '\\' || (unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e) {
            append(text, "\\u%04x", (unsigned char)*s);
        } else {
            append(text, "%c", *s);
        }
    }
    append(text, "\"");
}

void tried(long rc, const char *what, ...)
{
    int err = errno;
    char text[1024];
    va_list ap;

    va_start(ap, what);
    vsnprintf(text, sizeof(text), what, ap);
    va_end(ap);
    append(tries, "%s{\"what\":", tries[0] != '\0' ? "," : "");
    append_string(tries, text);
    append(tries, ",\"rc\":%ld,\"errno\":\"%s\"}", rc,
           rc >= 0                        ? ""
           : strerrorname_np(err) != NULL ? strerrorname_np(err)
                                          : "?");
}

void noted(const char *key, const char *value)
{
    append(notes, "%s", notes[0] != '\0' ? "," : "");
    append_string(notes, key);
    append(notes, ":");
    append_string(notes, value);
}

void noted_number(const char *key, long long value)
{
    append(notes, "%s\"%s\":%lld", notes[0] != '\0' ? "," : "", key, value);
}

int in_child(int (*f)(void *), void *arg)
{
    int wstatus;
    pid_t pid = fork();

    if (pid < 0) {
        return -1;
    }
    if (pid == 0) {
        _exit(f(arg));
    }
    if (waitpid(pid, &wstatus, 0) != pid) {
        return -1;
    }
    return WIFSIGNALED(wstatus) ? 128 + WTERMSIG(wstatus) : WEXITSTATUS(wstatus);
}

typedef struct {
    const char *path;
    char *const *argv;
} program_t;

static int execute(void *arg)
{
    const program_t *program = arg;
    static char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    int null = open("/dev/null", O_RDWR);

    dup2(null, 0);
    execve(program->path, program->argv, env);
    return 126;
}

int run_program(const char *path, char *const argv[])
{
    program_t program = {path, argv};

    return in_child(execute, &program);
}

int copy_file(const char *from, const char *to, unsigned mode)
{
    static char buf[65536];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, mode);
    ssize_t n = -1;

    if (in >= 0 && out >= 0) {
        while ((n = read(in, buf, sizeof(buf))) > 0 && write(out, buf, (size_t)n) == n) {
        }
    }
    if (out >= 0 && n == 0 && fchmod(out, mode) != 0) {
        n = -1;
    }
    close(in);
    close(out);
    return n == 0 ? 0 : -1;
}

int try_open(const char *path, int flags)
{
    int fd = open(path, flags, 0644);

    if (fd >= 0) {
        close(fd);
    }
    return fd;
}

static void write_file(const char *path, const char *a, const char *b, const char *c, const char *d,
                       const char *e)
{
    FILE *f = fopen(path, "w");

    if (f == NULL || fprintf(f, "%s%s%s%s%s", a, b, c, d, e) < 0 || fclose(f) != 0) {
        perror(path);
        exit(3);
    }
}

static const attack_t *find_attack(const char *name)
{
    /* clang-format off */
    const attack_t *const lists[] = {
        file_attacks,      kernel_attacks,  limit_attacks, neighbour_attacks,
        lifecycle_attacks, network_attacks, ipc_attacks,   proc_attacks,
        policy_attacks,
        memory_attacks,    resource_attacks,
    };
    /* clang-format on */

    for (size_t i = 0; i < COUNT(lists); i++) {
        for (const attack_t *a = lists[i]; a->name != NULL; a++) {
            if (strcmp(a->name, name) == 0) {
                return a;
            }
        }
    }
    return NULL;
}

/* What a copy of the probe does where it must not run: leave an artifact. */
static int leave_mark(const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), FILES "/executed-%s", name);
    return try_open(path, O_WRONLY | O_CREAT) >= 0 ? 0 : 1;
}

static void hold(long ms)
{
    const struct timespec longest = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    sigset_t seen;

    sigemptyset(&seen);
    sigaddset(&seen, SIGUSR1);
    sigprocmask(SIG_BLOCK, &seen, NULL); /* before the name, which says that it may be sent */
    prctl(PR_SET_NAME, "holding");
    while (sigtimedwait(&seen, NULL, &longest) < 0 && errno == EINTR) {
    }
}

int main(int argc, char **argv)
{
    const attack_t *attack;

    if (argc == 3 && strcmp(argv[1], "mark") == 0) {
        return leave_mark(argv[2]);
    }
    if (argc < 4 || (attack = find_attack(argv[3])) == NULL) {
        fprintf(stderr, "usage: probe NONCE HOLD_MS ATTACK [ARGUMENT ...]\n");
        return 2;
    }
    write_file(FILES "/nonce", argv[1], "", "", "", "");
    attack->run(argc - 4, argv + 4);
    write_file("/sandbox/out/output.json", "{\"tries\":[", tries, "],\"notes\":{", notes, "}}");
    if (atoi(argv[2]) > 0) {
        hold(atoi(argv[2]));
    }
    return 0;
}
