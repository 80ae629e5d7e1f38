/*
 * importer.c - see importer.h.  Speaks stage.h with a sandbox-packer of its own,
 * which dies with this process.
 */
#include "importer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../sandbox-helper/rmtree.h"
#include "../sandbox-helper/stage.h"
#include "../sandbox-helper/sys.h"

#define STAGING    ".import-" /* no runtime's name begins with a dot */
#define HELLO_MS   30000
#define ANSWER_MAX (64 * 1024)

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE  (1 << 1)
#endif

typedef struct {
    const sb_import_t *import;
    char name[32]; /* of the staging folder */
    int staging;
    int answer;
    int control, status; /* our ends */
    int signals;         /* what would end us: cleaned up first */
    pid_t packer;
    bool reported;
    packer_report_t report;
} importer_t;

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

/* ---- the staging folder ---- */

static void remove_staging(int dir, const char *name, int fd)
{
    rmtree_t rt;

    rmtree_begin(&rt, fd);
    while (rmtree_step(&rt, 1000)) {
    }
    rmtree_end(&rt);
    unlinkat(dir, name, AT_REMOVEDIR); /* what is left, the next import tries again */
}

/* What a killed import left: nobody holds its lock. */
static void sweep(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    const struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL) {
        if (strncmp(e->d_name, STAGING, strlen(STAGING)) != 0) {
            continue;
        }
        int fd = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
            remove_staging(dir, e->d_name, fd);
        }
        close_fd(&fd);
    }
    if (d != NULL) {
        closedir(d);
    } else {
        close_fd(&copy);
    }
}

static sb_code_t make_staging(importer_t *im, sb_err_t *err)
{
    static const char *const folders[] = {IMPORT_TREE, IMPORT_TRASH, IMPORT_BLOBS};
    int dir = im->import->dir;

    sweep(dir);
    snprintf(im->name, sizeof(im->name), STAGING "%d-%lx", (int)getpid(), (long)time(NULL));
    if (mkdirat(dir, im->name, 0700) != 0) {
        return sb_err_errno(err, errno, "the folder of runtimes can't be written");
    }
    im->staging = openat(dir, im->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (im->staging < 0 || flock(im->staging, LOCK_EX | LOCK_NB) != 0) {
        return sb_err_errno(err, errno, "staging folder");
    }
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        if (mkdirat(im->staging, folders[i], 0700) != 0) {
            return sb_err_errno(err, errno, "staging folder");
        }
    }
    return SB_OK;
}

/* ---- the packer ---- */

static void __attribute__((noreturn)) run_packer(const importer_t *im, int sock, pid_t parent)
{
    char *const argv[] = {(char *)"sandbox-packer", NULL};
    char *const envp[] = {NULL};
    int program = fcntl(im->import->program, F_DUPFD_CLOEXEC, 64);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || setsid() < 0 ||
        chdir("/") != 0 || program < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0) {
        _exit(127);
    }
    if (sock == SB_STAGE_FD ? fcntl(sock, F_SETFD, 0) < 0 : dup2(sock, SB_STAGE_FD) < 0) {
        _exit(127);
    }
    /* all the others close when the program starts */
    if (sys_close_range(SB_STAGE_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
        _exit(127);
    }
    syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH);
    _exit(127);
}

static sb_code_t start_packer(importer_t *im, sb_err_t *err)
{
    static const stage_config_t config = {.magic = STAGE_MAGIC, .size = sizeof(config)};
    pid_t parent = getpid();
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return sb_err_errno(err, errno, "socketpair");
    }
    im->control = pair[0];
    im->packer = fork();
    if (im->packer == 0) {
        run_packer(im, pair[1], parent);
    }
    close(pair[1]);
    if (im->packer < 0) {
        im->packer = 0;
        return sb_err_errno(err, errno, "fork");
    }
    if (sys_send_fds(im->control, &config, sizeof(config), NULL, 0) != 0) {
        return sb_err_errno(err, errno, "sandbox-packer takes no configuration");
    }
    return SB_OK;
}

/* Waits for one of the descriptors; SB_EBUSY: told to end. */
static sb_code_t wait_for(const importer_t *im, struct pollfd *fds, nfds_t n, int timeout,
                          sb_err_t *err)
{
    fds[0] = (struct pollfd){.fd = im->signals, .events = POLLIN};
    int rc = poll(fds, n, timeout);

    if (rc < 0 && errno == EINTR) {
        rc = poll(fds, n, timeout);
    }
    if (rc < 0) {
        return sb_err_errno(err, errno, "poll");
    }
    if (rc == 0) {
        return sb_err_set(err, SB_ETIMEOUT, "sandbox-packer does not get ready");
    }
    return fds[0].revents != 0 ? sb_err_set(err, SB_EBUSY, "interrupted") : SB_OK;
}

static sb_code_t take_hello(const importer_t *im, sb_err_t *err)
{
    struct pollfd fds[2] = {[1] = {.fd = im->control, .events = POLLIN}};
    stage_hello_t hello;
    int nfds;
    sb_code_t code = wait_for(im, fds, 2, HELLO_MS, err);

    if (code != SB_OK) {
        return code;
    }
    if (sys_recv_fds(im->control, &hello, sizeof(hello), NULL, 0, &nfds) != sizeof(hello) ||
        hello.magic != STAGE_MAGIC) {
        return sb_err_set(err, SB_ESYSTEM, "sandbox-packer could not be started");
    }
    hello.failed_step[sizeof(hello.failed_step) - 1] = '\0';
    if (!hello.ok) {
        return sb_err_errno(err, hello.failed_errno,
                            "unpacking can't be confined on this host (sandbox-helper --check says "
                            "what to do): %s",
                            hello.failed_step);
    }
    return SB_OK;
}

static sb_code_t send_request(importer_t *im, sb_err_t *err)
{
    stage_request_t request = {
        .magic = STAGE_MAGIC,
        .kind = STAGE_IMPORT,
        .seq = 1,
        .package_max = (uint64_t)im->import->bytes_max,
        .entries_max = (uint64_t)im->import->entries_max,
    };
    int pair[2];

    im->answer = memfd_create("answer", MFD_CLOEXEC);
    if (im->answer < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return sb_err_errno(err, errno, "descriptors");
    }
    im->status = pair[0];
    const int fds[] = {pair[1], im->import->archive, im->staging, im->answer};
    int rc = sys_send_fds(im->control, &request, sizeof(request), fds, 4);
    int saved = errno;
    close(pair[1]);
    return rc == 0 ? SB_OK : sb_err_errno(err, saved, "sandbox-packer takes no request");
}

static void take_report(importer_t *im)
{
    int nfds;
    ssize_t n = sys_recv_fds(im->status, &im->report, sizeof(im->report), NULL, 0, &nfds);

    im->reported = n == (ssize_t)sizeof(im->report) && im->report.magic == STAGE_MAGIC;
    im->report.text[sizeof(im->report.text) - 1] = '\0';
    close_fd(&im->status); /* one word, or none */
}

/* True: the child is dead. */
static bool take_event(const importer_t *im, sb_code_t *code, sb_err_t *err)
{
    stage_event_t event;
    int fds[1] = {-1}, nfds = 0;
    ssize_t n = sys_recv_fds(im->control, &event, sizeof(event), fds, 1, &nfds);

    if (nfds == 1) {
        close(fds[0]);
    }
    if (n != (ssize_t)sizeof(event) || event.kind == STAGE_FAILED) {
        *code = sb_err_set(err, SB_ESYSTEM, "sandbox-packer could not make its child");
        return true;
    }
    return event.kind == STAGE_EXITED;
}

static sb_code_t wait_for_child(importer_t *im, sb_err_t *err)
{
    sb_code_t code = SB_OK;
    bool dead = false;

    while (code == SB_OK && !dead) {
        struct pollfd fds[3] = {[1] = {.fd = im->control, .events = POLLIN},
                                [2] = {.fd = im->status, .events = POLLIN}};

        code = wait_for(im, fds, 3, -1, err);
        if (code == SB_OK && fds[2].revents != 0) {
            take_report(im);
        }
        if (code == SB_OK && fds[1].revents != 0) {
            dead = take_event(im, &code, err);
        }
    }
    if (code == SB_OK && im->status >= 0) {
        take_report(im);
    }
    return code;
}

/* ---- what it says ---- */

/* Words that were made near hostile bytes. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        *text = (char)(*text < 0x20 || *text > 0x7e ? '?' : *text);
    }
}

static sb_code_t read_answer(const importer_t *im, json_t **answer, sb_err_t *err)
{
    char *text = NULL;
    size_t len = (size_t)im->report.answer_len;

    if (!im->reported) {
        return sb_err_set(err, SB_ESYSTEM,
                          "the child that unpacks died; the archive needs too much memory or time");
    }
    if (im->report.http_status != 200 && im->report.http_status != 422) {
        sb_err_set(err, SB_ESYSTEM, "unpacking failed: %s", im->report.text);
        make_printable(err->message);
        return SB_ESYSTEM;
    }
    if (im->report.answer_len <= ANSWER_MAX) {
        text = malloc(len + 1);
    }
    if (text != NULL && sys_pread_all(im->answer, text, len, 0) == 0) {
        *answer = json_loadb(text, len, 0, NULL);
    }
    free(text);
    if (*answer == NULL) {
        return sb_err_set(err, SB_ESYSTEM, "the child that unpacks gave no answer");
    }
    if (im->report.http_status == 200) {
        return SB_OK;
    }
    const char *message = json_string_value(json_object_get(*answer, "message"));
    sb_err_set(err, SB_ESKILL, "%s", message != NULL ? message : "the archive is refused");
    make_printable(err->message);
    return SB_ESKILL;
}

/* The tree gets its name.  On disk first: after a crash there is all of it, or none. */
static sb_code_t keep(const importer_t *im, sb_err_t *err)
{
    const sb_import_t *i = im->import;
    int rc;

    if (syncfs(im->staging) != 0) {
        return sb_err_errno(err, errno, "syncing");
    }
    rc = renameat2(im->staging, IMPORT_TREE, i->dir, i->name, RENAME_NOREPLACE);
    if (rc != 0 && errno == EEXIST && i->replace) {
        rc = renameat2(im->staging, IMPORT_TREE, i->dir, i->name, RENAME_EXCHANGE);
    }
    if (rc != 0 && errno == EEXIST) {
        return sb_err_set(err, SB_ECONFLICT, "there is a runtime %s already; --replace replaces it",
                          i->name);
    }
    if (rc != 0 || fsync(i->dir) != 0) {
        return sb_err_errno(err, errno, "the runtime can't be put into its place");
    }
    return SB_OK;
}

/* ---- all of it ---- */

static sb_code_t unpack(importer_t *im, json_t **answer, sb_err_t *err)
{
    sb_code_t code = make_staging(im, err);

    if (code == SB_OK) {
        code = start_packer(im, err);
    }
    if (code == SB_OK) {
        code = take_hello(im, err);
    }
    if (code == SB_OK) {
        code = send_request(im, err);
    }
    if (code == SB_OK) {
        code = wait_for_child(im, err);
    }
    return code == SB_OK ? read_answer(im, answer, err) : code;
}

static void stop_packer(importer_t *im)
{
    if (im->packer == 0) {
        return;
    }
    kill(im->packer, SIGKILL); /* its children die with it */
    while (waitpid(im->packer, NULL, 0) < 0 && errno == EINTR) {
    }
}

sb_code_t sb_import(const sb_import_t *import, json_t **answer, sb_err_t *err)
{
    importer_t im = {.import = import, .staging = -1, .answer = -1, .control = -1, .status = -1};
    struct stat st;
    sigset_t set, before;
    sb_code_t code;

    *answer = NULL;
    if (!import->replace && fstatat(import->dir, import->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        return sb_err_set(err, SB_ECONFLICT, "there is a runtime %s already; --replace replaces it",
                          import->name);
    }
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, &before);
    im.signals = signalfd(-1, &set, SFD_CLOEXEC);
    code = im.signals < 0 ? sb_err_errno(err, errno, "signalfd") : unpack(&im, answer, err);
    stop_packer(&im);
    if (code == SB_OK) {
        code = keep(&im, err);
    }
    if (im.staging >= 0) {
        remove_staging(import->dir, im.name, im.staging);
    }
    int *fds[] = {&im.staging, &im.answer, &im.control, &im.status, &im.signals};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        close_fd(fds[i]);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (code != SB_OK) {
        json_decref(*answer);
        *answer = NULL;
    }
    return code;
}
