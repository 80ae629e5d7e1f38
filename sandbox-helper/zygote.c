/*
 * zygote.c - see zygote.h: the part that runs in sandbox-stage, once, before the interpreter.
 */
#include "zygote.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch.h"
#include "sys.h"

/* Room for a run's own command line (zygote_python.c), in blanks. */
#define BLANKS_8   "        "
#define BLANKS_64  BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8
#define BLANKS_512 BLANKS_64 BLANKS_64 BLANKS_64 BLANKS_64 BLANKS_64 BLANKS_64 BLANKS_64 BLANKS_64

/* An expression: the namespace of __main__ stays as the interpreter makes it. */
static const char boot_code[] =
    "__import__('_imp').create_dynamic(__import__('_frozen_importlib').ModuleSpec("
    "'_skillbox_zygote', None, origin='/proc/self/fd/4'))" BLANKS_512;

_Static_assert(ZYGOTE_FD_PROGRAM == 4, "boot_code names it");

/* Made while memfd_create(2) may be called. */
static struct {
    int program, boot, input;
} files = {-1, -1, -1};

/* A copy in memory: no path of the host, and nothing to be found in a run's root. */
int zygote_open(const stage_config_t *config)
{
    int from = open(config->zygote_program, O_RDONLY | O_CLOEXEC);
    int to = memfd_create("python", MFD_CLOEXEC);
    struct stat st;
    int rc = -1;

    if (from >= 0 && to >= 0 && fstat(from, &st) == 0)
        rc = 0;
    for (off_t left = rc == 0 ? st.st_size : 0; rc == 0 && left > 0;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)left);

        if (n <= 0)
            rc = -1;
        left -= n;
    }
    if (from >= 0)
        close(from);
    files.program = to;
    files.boot = memfd_create("boot", MFD_CLOEXEC);
    files.input = memfd_create("input", MFD_CLOEXEC);
    return files.boot < 0 || files.input < 0 ? -1 : rc;
}

/* What a run of this runtime may know: other runtimes' variables and the host's paths are not
 * among it. */
static void scrub(stage_config_t *config)
{
    const uint32_t own = config->zygote - 1;

    for (size_t i = 0; i < STAGE_RUNTIMES; i++) {
        memset(&config->runtimes[i].limits, 0, sizeof(config->runtimes[i].limits));
        if (i != own)
            memset(config->runtimes[i].env, 0, sizeof(config->runtimes[i].env));
    }
    memset(config->images, 0, sizeof(config->images));
    memset(config->packages, 0, sizeof(config->packages));
    memset(config->zygote_program, 0, sizeof(config->zygote_program));
    if (config->root[0] != '\0') /* that there is one is all that matters from here on */
        memcpy(memset(config->root, 0, sizeof(config->root)), "/", 1);
}

static int write_boot(const stage_t *stage, const stage_hello_t *hello)
{
    static zygote_boot_t boot;
    const int fd = files.boot;
    int rc;

    boot = (zygote_boot_t){
        .magic = STAGE_MAGIC,
        .landlock_abi = stage->landlock_abi,
        .missing = hello->missing,
        .no_proc = stage->no_proc,
        .config = stage->config,
    };
    scrub(&boot.config);
    boot.second_len = stage->second.len;
    rc = sys_write_all(fd, &boot, sizeof(boot));
    if (rc == 0)
        rc = sys_write_all(fd, stage->second.code, stage->second.len * sizeof(*stage->second.code));
    return rc == 0 && lseek(fd, 0, SEEK_SET) == 0 ? fd : -1;
}

/* dup2, but also when it is there already: the copy has no close-on-exec flag. */
static int place(int fd, int at)
{
    return fd == at ? fcntl(fd, F_SETFD, 0) : dup2(fd, at);
}

static int place_all(int boot)
{
    enum { AWAY = 64 };
    int fds[] = {fcntl(files.input, F_DUPFD_CLOEXEC, AWAY),
                 fcntl(files.program, F_DUPFD_CLOEXEC, AWAY), fcntl(boot, F_DUPFD_CLOEXEC, AWAY)};
    int out[2];

    if (fds[0] < 0 || fds[1] < 0 || fds[2] < 0 || pipe2(out, O_CLOEXEC) != 0)
        return -1;
    if (place(fds[0], 0) < 0 || place(out[1], 1) < 0 || place(out[1], 2) < 0 ||
        place(SB_STAGE_FD, SB_STAGE_FD) < 0 || place(fds[1], ZYGOTE_FD_PROGRAM) < 0 ||
        place(fds[2], ZYGOTE_FD_BOOT) < 0)
        return -1;
    return sys_close_range(ZYGOTE_FD_AFTER, ~0u, CLOSE_RANGE_CLOEXEC);
}

int zygote_start(const stage_t *stage, const stage_hello_t *hello)
{
    const stage_runtime_t *runtime = &stage->config.runtimes[stage->config.zygote - 1];
    char *const argv[] = {(char *)runtime->interpreter, (char *)"-c", (char *)boot_code, NULL};
    char **env = launch_interpreter_env(stage, stage->config.zygote - 1);
    int boot = env == NULL ? -1 : write_boot(stage, hello);
    sigset_t none;

    sigemptyset(&none);
    if (boot < 0 || place_all(boot) != 0 || sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        return -1;
    execve(argv[0], argv, env);
    return -1;
}
