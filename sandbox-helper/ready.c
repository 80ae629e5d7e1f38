/*
 * ready.c - see ready.h.  In pid 2; ahead(), the process that will be the interpreter.
 */
#include "ready.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "launch.h"
#include "report.h"
#include "sys.h"

#define START_MS 30000 /* from execve(2) to the word that it waits; many times what is needed */
#define WORD     'r'

/* What node takes for its main module until it is told; see node_ready.cjs. */
#define NO_SCRIPT "/dev/null/ready"
#define PRELOAD   "--require=" READY_NODE

/* ---- the interpreter ---- */

/* The operator's options stay in front: those of a run's own node, too. */
static char *node_options(const char *own)
{
    char *variable;

    if (own == NULL)
        return strdup("NODE_OPTIONS=" PRELOAD);
    return asprintf(&variable, "%s " PRELOAD, own) < 0 ? NULL : variable;
}

/* The variables that every run of this runtime has, in their order: they need not be changed then.
 */
static char **make_env(const run_t *run)
{
    char **own = launch_interpreter_env(run->stage, run->interpreter - 1);
    const char *options = NULL;
    size_t n = 0, count = 0;
    char **env;

    if (own == NULL)
        return NULL;
    while (own[count] != NULL)
        count++;
    env = calloc(count + 2, sizeof(*env));
    if (env == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(own[i], "NODE_OPTIONS=", strlen("NODE_OPTIONS=")) == 0)
            options = own[i];
        else
            env[n++] = own[i];
    }
    env[n] = node_options(options);
    return env[n] == NULL ? NULL : env;
}

/* The highest number a run may have: the others stay those that node would have without it. */
static int place_control(const run_t *run, int control, char *text, size_t size)
{
    int fd = (int)run->stage->config.nofile - 1;

    snprintf(text, size, "%d", fd);
    if (fd <= FD_FREE) {
        errno = EMFILE;
        return -1;
    }
    return dup2(control, fd);
}

static int place_stdio(void)
{
    int in = open("/sandbox/input.json", O_RDONLY | O_CLOEXEC);

    if (in < 0)
        return -1;
    if (dup2(in, 0) < 0 || dup2(FD_STDOUT, 1) < 0 || dup2(FD_STDERR, 2) < 0)
        return -1;
    return close(in);
}

/* Says why it can't be had, by its end or over the socket: WORD is all that is expected there. */
static void __attribute__((noreturn)) ahead(run_t *run, int control)
{
    static char number[16];
    char *const node = (char *)run->stage->config.runtimes[run->interpreter - 1].interpreter;
    char *argv[] = {node, (char *)NO_SCRIPT, number, NULL};
    char **env = make_env(run);
    int fd;

    umask(022);
    if (env == NULL || setsid() < 0 || place_stdio() != 0)
        _exit(EXIT_SETUP);
    fd = place_control(run, control, number, sizeof(number));
    if (fd < 0 || sys_close_range(FD_STATUS, (unsigned)fd - 1, 0) != 0 ||
        sys_close_range((unsigned)fd + 1, ~0u, 0) != 0 || sandbox_confine_ahead(run) != NULL)
        _exit(EXIT_SETUP);
    SB_FAULT_POINT("interpreter to be executed ahead");
    execve(node, argv, env);
    _exit(EXIT_SETUP);
}

/* ---- pid 2 ---- */

static int await_word(int fd)
{
    struct pollfd word = {.fd = fd, .events = POLLIN};
    char c = 0;

    if (poll(&word, 1, START_MS) == 1 && read(fd, &c, 1) == 1 && c == WORD)
        return 0;
    errno = ECHILD; /* it ended, or is a version that does not come to where it should wait */
    return -1;
}

int ready_start(run_t *run)
{
    const run_report_t report = {.magic = STAGE_MAGIC, .kind = RUN_WAITING};
    int pair[2];

    if (run->interpreter > STAGE_RUNTIMES ||
        run->stage->config.runtimes[run->interpreter - 1].interpreter[0] == '\0') {
        errno = ENOENT;
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    /* pid 1's child, as a script is that needs no pid 2 any more */
    run->ready_pid = sys_clone_sibling();
    if (run->ready_pid < 0)
        return -1;
    if (run->ready_pid == 0)
        ahead(run, pair[1]);
    close(pair[1]);
    run->ready = pair[0];
    if (await_word(run->ready) != 0)
        return -1;
    SB_FAULT_POINT("interpreter waits");
    return sys_send_fds(FD_STATUS, &report, sizeof(report), NULL, 0);
}

int ready_await_run(const run_t *run)
{
    struct pollfd fds[] = {{.fd = FD_STATUS, .events = POLLIN},
                           {.fd = run->ready, .events = POLLIN | POLLRDHUP}};

    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return -1;
    if (fds[0].revents != 0)
        return 0;
    errno = ECHILD;
    return -1;
}

bool ready_waits(const run_t *run)
{
    struct pollfd control = {.fd = run->ready, .events = POLLIN | POLLRDHUP};

    return run->ready >= 0 && poll(&control, 1, 0) == 0;
}

bool ready_too_late_for(const char *name)
{
    static const char *const begins[] = {
        "GLIBC_TUNABLES", "ICU_", "LANG", "LC_", "LOCPATH", "MALLOC_",
        "OPENSSL",        "SSL_", "TZ",   "UV_", "V8_"};

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        if (strncmp(name, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

/* ---- the words ---- */

/* A node that has died takes nothing: its death is the script's then. */
static bool put(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static size_t count(char *const words[])
{
    size_t n = 0;

    while (words[n] != NULL)
        n++;
    return n;
}

static bool put_all(int fd, char *const words[])
{
    for (size_t i = 0; words[i] != NULL; i++)
        if (!put(fd, words[i], strlen(words[i]) + 1))
            return false;
    return true;
}

void ready_become(const run_t *run, char *const argv[], char *const env[])
{
    char head[64 + PATH_MAX], cwd[PATH_MAX];
    int len;

    if (getcwd(cwd, sizeof(cwd)) == NULL)
        _exit(EXIT_SETUP);
    len = snprintf(head, sizeof(head), "%zu%c%zu%c%s", count(argv + 1), 0, count(env), 0, cwd);
    if (put(run->ready, head, (size_t)len + 1) && put_all(run->ready, argv + 1) &&
        put_all(run->ready, env))
        (void)put(run->ready, "end", sizeof("end"));
    _exit(0);
}
