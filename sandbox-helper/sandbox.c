/*
 * sandbox.c - see sandbox.h.  The lists at the end are the set-up: read them first.
 *
 * The first two run in the new child, pid 1 of its namespaces; the others in pid 2, which it
 * forks to become the script, so that a process, and with a zygote a whole interpreter, is there
 * before the run is.  Both have all capabilities over the namespaces and none outside, until
 * "capabilities" takes those away.  Each step is fatal.
 */
#include "sandbox.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "idmap.h"
#include "init.h"
#include "jobfile.h"
#include "keeper.h"
#include "landlock.h"
#include "launch.h"
#include "mounts.h"
#include "privileges.h"
#include "ready.h"
#include "report.h"
#include "rlimits.h"
#include "template.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PAGE         4096ull

uint64_t sandbox_clone_flags(void)
{
    return CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
}

/* ---- control groups ---- */

static bool groups_make_sense(const run_t *run)
{
    switch (run->cgroup) {
    case 0:
        return run->ncgroups == 0;
    case 1:
        return run->ncgroups > 0;
    case 2:
        return run->ncgroups <= 1; /* 0: born in it */
    default:
        return false;
    }
}

/*
 * First of all: what is made from here on is charged to the run, and moving a process that
 * serves somebody already would make him wait.  v2: only where the stage may not use clone3.
 */
static int step_cgroups(void *ctx)
{
    run_t *run = ctx;

    if (!groups_make_sense(run)) {
        errno = EPROTO;
        return -1;
    }
    for (int i = 0; i < run->ncgroups; i++) {
        int fd = run->cgroups[i];

        if (run->cgroup == 2)
            fd = openat(fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
            return -1;
    }
    return 0; /* step_descriptors closes them */
}

/* Inside the groups: its root is then the run's own. */
static int step_cgroup_namespace(void *ctx)
{
    return unshare(CLONE_NEWCGROUP);
}

/* ---- descriptors ---- */

/*
 * Before any other process can be there to see them: the status socket, and an interpreter's log
 * pipes, to their places, nothing else open.  The run's own come later; their places are kept for
 * them.
 */
static int step_descriptors(void *ctx)
{
    enum { AWAY = 64 };
    run_t *run = ctx;
    const int first_log = run->interpreter != 0 ? FD_STDOUT : FD_FREE;
    int away[FD_FREE];

    for (int place = FD_STATUS; place < FD_FREE; place++) {
        int fd = place < first_log ? run->status : run->logs[place - first_log];

        away[place] = fcntl(fd, F_DUPFD_CLOEXEC, AWAY);
        if (away[place] < 0)
            return -1;
    }
    for (int place = FD_STATUS; place < FD_FREE; place++)
        if (dup3(away[place], place, O_CLOEXEC) < 0)
            return -1;
    run->status = FD_STATUS;
    return sys_close_range(FD_FREE, ~0u, 0);
}

/* ---- the run: here a sandbox made ahead waits ---- */

/*
 * pid 1 says that nothing can be had from it any more.  Waited for ahead: a script never meets a
 * pid 1 with a capability.
 */
static int step_init_confined(void *ctx)
{
    const run_t *run = ctx;
    char word;

    if (read(run->to_init, &word, 1) == 1)
        return 0;
    _exit(EXIT_SETUP); /* it has told main why, or was killed */
}

/* Not while its run waits already: that takes what it needs, and no more (decision 94). */
static int step_warm_up(void *ctx)
{
    const script_form_t *form = ((run_t *)ctx)->stage->form;
    struct pollfd run = {.fd = FD_STATUS, .events = POLLIN};

    if (form != NULL && poll(&run, 1, 0) == 0)
        form->warm_up();
    return 0;
}

/* Nor then; and not for what is executed, which has another memory. */
static int step_keeper(void *ctx)
{
    run_t *run = ctx;
    struct pollfd word = {.fd = FD_STATUS, .events = POLLIN};

    if (run->last_pid < 0)
        return 0;
    close(run->last_pid);
    if (poll(&word, 1, 0) == 0)
        run->keeper = keeper_make(&run->stage->config);
    return run->keeper < 0 ? -1 : 0;
}

static int step_interpreter(void *ctx)
{
    run_t *run = ctx;

    return run->interpreter == 0 ? 0 : ready_start(run);
}

static int step_interpreter_waits(void *ctx)
{
    const run_t *run = ctx;

    return run->ready < 0 ? 0 : ready_await_run(run);
}

/* The struct is main's word; the bytes behind its descriptors are the caller's and stay unread. */
static int step_request(void *ctx)
{
    static stage_request_t request;
    run_t *run = ctx;
    int fds[STAGE_FDS_MAX], nfds;
    ssize_t n = sys_recv_fds(FD_STATUS, &request, sizeof(request), fds, STAGE_FDS_MAX, &nfds);

    if (n == 0)
        _exit(0); /* main has no use for this one, or is gone */
    if (n < 0)
        return -1;
    if (n != (ssize_t)sizeof(request) || request.magic != STAGE_MAGIC ||
        request.kind != STAGE_RUN || request.runtime >= STAGE_RUNTIMES ||
        request.cgroup != run->cgroup || request.interpreter != run->interpreter ||
        nfds != (run->interpreter != 0 ? RUN_FDS - RUN_LOGS : RUN_FDS) ||
        /* the template counts on it: see its /dev/zero */
        (run->stage->config.memory_cgroup && request.cgroup == 0)) {
        errno = EPROTO;
        return -1;
    }
    for (int i = 0; i < nfds; i++) {
        if (dup3(fds[i], FD_JOB + i, O_CLOEXEC) < 0)
            return -1;
        close(fds[i]);
    }
    run->request = &request;
    return 0;
}

/* ---- building: ids, names, mounts ---- */

static int step_idmap(void *ctx)
{
    /* the stage is not dumpable, which would make the map files root's */
    if (privileges_dumpable(true) != 0)
        return -1;
    return idmap_write(SB_INNER_ID, SB_INNER_ID, NULL);
}

static int step_hostname(void *ctx)
{
    return sethostname("sandbox", strlen("sandbox"));
}

/* 127.0.0.1 and ::1 work, and there is nothing else. */
static int step_loopback(void *ctx)
{
    struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc;

    if (sock < 0)
        return -1;
    rc = ioctl(sock, SIOCSIFFLAGS, &ifr);
    close(sock);
    return rc;
}

/* The template's empty folder for /tmp, while nothing is mounted there: a file system of its own
 * would be one more to make and to end for each run. */
static int step_cover(void *ctx)
{
    run_t *run = ctx;

    run->cover = sys_open_tree(AT_FDCWD, "/tmp", OPEN_TREE_CLONE);
    if (run->cover < 0)
        return -1;
    return sys_mount_set(run->cover, "", AT_EMPTY_PATH,
                         MOUNTS_BASE | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY);
}

static uint64_t writable_attr(const run_t *run)
{
    return MOUNTS_BASE | (run->stage->config.exec_writable ? 0 : MOUNT_ATTR_NOEXEC);
}

static int mount_writable(const run_t *run, const char *at, uint64_t bytes, unsigned mode)
{
    mounts_tmpfs_t spec = {bytes, run->stage->config.inodes, mode, writable_attr(run)};

    return mounts_tmpfs_at(&spec, at);
}

static int step_tmp(void *ctx)
{
    run_t *run = ctx;
    int tmp = mount_writable(run, "/tmp", run->stage->config.tmp_bytes, 01777);
    int shm = tmp < 0 ? -1 : mount_writable(run, "/dev/shm", run->stage->config.shm_bytes, 01777);

    if (shm < 0)
        return -1;
    close(tmp);
    close(shm);
    return 0;
}

/* Holds input.json, the input files and mount points; read-only once input.json is there. */
static int step_sandbox_folder(void *ctx)
{
    static const char *const dirs[] = {"input", "out", "work", "scripts"};
    run_t *run = ctx;
    /* decoded, the files of a job are smaller than the job; each may waste a page's end */
    const uint64_t files = SB_JOB_FILES_MAX + SB_INPUT_FILES_MAX;
    const uint64_t bytes = RUN_STDIN_MAX + (files * 2 + 64) * PAGE;
    mounts_tmpfs_t spec = {bytes, files * 33 + 64, 0755, MOUNTS_BASE | MOUNT_ATTR_NOEXEC};

    run->sandbox = mounts_tmpfs_at(&spec, "/sandbox");
    if (run->sandbox < 0)
        return -1;
    for (size_t i = 0; i < COUNT(dirs); i++)
        if (mkdirat(run->sandbox, dirs[i], 0755) != 0)
            return -1;
    run->input = openat(run->sandbox, "input.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    return run->input < 0 ? -1 : 0;
}

static int step_out(void *ctx)
{
    run_t *run = ctx;

    run->out = mount_writable(run, "/sandbox/out", run->stage->config.out_bytes, 0755);
    return run->out < 0 ? -1 : mkdirat(run->out, "files", 0755);
}

static int step_work(void *ctx)
{
    run_t *run = ctx;

    run->work = mount_writable(run, "/sandbox/work", run->stage->config.work_bytes, 0755);
    return run->work < 0 ? -1 : 0;
}

/* The kernel's knobs of this user namespace, through the host's procfs: the run's own may not show
 * them. */
static int step_sysctl(void *ctx)
{
    run_t *run = ctx;

    run->sysctl = open("/proc/sys/user", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return run->sysctl < 0 ? -1 : 0;
}

/* The same for pid 1, which has to see its keeper, too.  Without a group the keeper would be one of
 * the script's own processes for RLIMIT_NPROC, and its memory would count twice (memwatch.h). */
static int step_last_pid(void *ctx)
{
    run_t *run = ctx;

    if (run->stage->form != NULL && run->cgroup != 0 && !run->stage->no_proc)
        run->last_pid = open(KEEPER_LAST_PID, O_RDONLY | O_CLOEXEC);
    return 0;
}

/*
 * A namespace of these kinds can't be made in this user namespace any more, by no one, whatever a
 * filter might miss.
 */
static int limit_namespaces(const run_t *run, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (sys_write_text(run->sysctl, names[i], "0") == 0)
            continue;
        /* a container that hides parts of /proc has /proc/sys read-only: who waived the one has
           waived this, and the filter stands alone */
        if (run->stage->no_proc && errno == EROFS)
            break;
        return -1;
    }
    return 0;
}

static int step_namespaces_ahead(void *ctx)
{
    static const char *const names[] = {
        "max_user_namespaces", "max_pid_namespaces",    "max_net_namespaces", "max_ipc_namespaces",
        "max_uts_namespaces",  "max_cgroup_namespaces", "max_time_namespaces"};

    return limit_namespaces(ctx, names, COUNT(names));
}

/* All rules but the package's, which is mounted last. */
static int step_landlock_rules(void *ctx)
{
    run_t *run = ctx;
    const stage_t *stage = run->stage;

    if (stage->landlock_abi == 0) /* the operator's word: stage_main refuses otherwise */
        return 0;
    run->ruleset = landlock_begin(stage->landlock_abi, 0, stage->rules, stage->nrules - 1);
    return run->ruleset < 0 ? -1 : 0;
}

static int step_proc(void *ctx)
{
    run_t *run = ctx;

    if (run->stage->no_proc)
        return mounts_hide("/proc"); /* the host's must not stay visible */
    return mounts_proc(run->stage->config.proc_full != 0);
}

/* ---- filling: the run's own content ---- */

/* Copies the input behind the job in the memfd; the bytes are not looked at. */
static int step_input(void *ctx)
{
    run_t *run = ctx;
    off_t from = (off_t)run->request->job_len;
    uint64_t left = run->request->input_len;

    while (left > 0) {
        ssize_t n = sendfile(run->input, FD_JOB, &from, left);

        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
        left -= (uint64_t)n;
    }
    return close(run->input);
}

/*
 * The input files are in the job, which only the confined process may parse, when
 * nothing can be mounted any more.  So it gets a second, writable view of the folder
 * that is in no namespace: gone with its descriptor, before the script starts.  The kernel ends
 * such a mount with a grace period that the script would wait for (decision 94), so only a job that
 * is long enough to bring files, and not into the work folder, gets one.
 */
static int step_seal(void *ctx)
{
    run_t *run = ctx;

    if (run->request->mode == STAGE_ENTRYPOINT && run->request->job_len >= JOB_WITH_FILES_MIN) {
        run->input_view = sys_open_tree(run->sandbox, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
        if (run->input_view < 0)
            return -1;
    }
    return sys_mount_set(run->sandbox, "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY);
}

static bool digest_valid(const char *digest)
{
    return strspn(digest, "0123456789abcdef") == 64 && digest[64] == '\0';
}

/*
 * A clone has its source's flags, and those are locked.  Read-only is set all the same: the
 * package's files are the helper's user's, as the script is, so modes and owners do not
 * protect them, and neither Landlock nor the filter keeps an owner from chmod.
 */
static int bind_package(int tree, const char *to)
{
    int mnt = sys_open_tree(tree, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
    int rc;

    if (mnt < 0)
        return -1;
    rc = sys_mount_set(mnt, "", AT_EMPTY_PATH, MOUNTS_BASE | MOUNT_ATTR_RDONLY);
    if (rc == 0)
        rc = sys_move_mount(mnt, AT_FDCWD, to);
    close(mnt);
    return rc;
}

static int step_package(void *ctx)
{
    run_t *run = ctx;
    char path[sizeof(TEMPLATE_PACKAGES) + 64 + sizeof("/instructions")];
    int tree, rc;

    if (!digest_valid(run->request->digest)) {
        errno = EINVAL;
        return -1;
    }
    snprintf(path, sizeof(path), TEMPLATE_PACKAGES "/%s/tree", run->request->digest);
    tree = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (tree < 0)
        return -1;
    rc = bind_package(tree, "/sandbox/scripts"); /* /skill is a link to it */
    close(tree);
    if (rc != 0)
        return -1;
    snprintf(path, sizeof(path), TEMPLATE_PACKAGES "/%s/instructions", run->request->digest);
    run->instructions = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return run->instructions < 0 && errno != ENOENT ? -1 : 0; /* a package may be without words */
}

/* The other packages may be other tenants'. */
static int step_hide_packages(void *ctx)
{
    const run_t *run = ctx;
    int rc = sys_move_mount(run->cover, AT_FDCWD, TEMPLATE_PACKAGES);

    return close(run->cover) != 0 ? -1 : rc;
}

/*
 * The folders that will hold the results, for main to keep: they outlive the namespaces.  Sent
 * before the limits: the kernel counts descriptors under way per user of the host, all runs
 * together, and compares with the sender's RLIMIT_NOFILE.  A run that keeps its own limit's worth
 * under way would stop every other run here.
 */
static int step_ready(void *ctx)
{
    run_t *run = ctx;
    run_report_t report = {.magic = STAGE_MAGIC, .kind = RUN_READY};
    int dirs[2] = {openat(run->out, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                   openat(run->work, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};

    if (dirs[0] < 0 || dirs[1] < 0 ||
        sys_send_fds(FD_STATUS, &report, sizeof(report), dirs, 2) != 0)
        return -1;
    close(dirs[0]);
    close(dirs[1]);
    return 0;
}

/* ---- confining ---- */

static void add_rule(stage_t *stage, const char *path, uint64_t access)
{
    landlock_rule_t *rule = &stage->rules[stage->nrules++];

    rule->path = path;
    rule->access = access;
}

static int add_host_rules(stage_t *stage)
{
    static const char *const system_dirs[] = {"/bin",   "/sbin",  "/lib",
                                              "/lib32", "/lib64", "/libx32"};
    struct stat st;

    add_rule(stage, "/usr", LL_READ | LL_EXECUTE);
    for (size_t i = 0; i < COUNT(system_dirs); i++)
        if (lstat(system_dirs[i], &st) == 0 && S_ISDIR(st.st_mode))
            add_rule(stage, system_dirs[i], LL_READ | LL_EXECUTE);
    return 0;
}

/* The folders right below the root that are not ours: template_image_folders() has put them there
 * and counted them. */
static int add_image_rules(stage_t *stage)
{
    static char paths[TEMPLATE_IMAGE_DIRS][NAME_MAX + 2];
    DIR *root = opendir("/");
    const struct dirent *e;
    size_t n = 0;

    if (root == NULL)
        return -1;
    while ((e = readdir(root)) != NULL && n < TEMPLATE_IMAGE_DIRS) {
        if (e->d_type != DT_DIR || !template_image_shows(e->d_name))
            continue;
        snprintf(paths[n], sizeof(paths[n]), "/%s", e->d_name);
        add_rule(stage, paths[n++], LL_READ | LL_EXECUTE);
    }
    closedir(root);
    if (access("/" TEMPLATE_IMAGE_ETC, F_OK) == 0)
        add_rule(stage, "/" TEMPLATE_IMAGE_ETC, LL_READ);
    return 0;
}

int sandbox_prepare_rules(stage_t *stage)
{
    const uint64_t own = LL_READ | LL_WRITE | (stage->config.exec_writable ? LL_EXECUTE : 0);
    const uint64_t device = LL_READ_FILE | LL_WRITE_FILE | LL_TRUNCATE;

    add_rule(stage, "/", LL_READ_DIR); /* names only */
    if ((stage->config.root[0] != '\0' ? add_image_rules(stage) : add_host_rules(stage)) != 0)
        return -1;
    for (size_t i = 0; i < STAGE_PATHS; i++)
        if (stage->config.readonly[i][0] != '\0')
            add_rule(stage, stage->config.readonly[i], LL_READ | LL_EXECUTE);
    add_rule(stage, "/etc", LL_READ);
    add_rule(stage, READY_FOLDER, LL_READ);
    add_rule(stage, "/proc", LL_READ);
    add_rule(stage, "/dev/null", device | LL_IOCTL_DEV); /* isatty(3) must hear ENOTTY */
    add_rule(stage, "/dev/zero", device | LL_IOCTL_DEV);
    add_rule(stage, "/dev/full", device | LL_IOCTL_DEV);
    add_rule(stage, "/dev/random", device);
    add_rule(stage, "/dev/urandom", device);
    add_rule(stage, "/dev/shm", own);
    add_rule(stage, "/tmp", own);
    add_rule(stage, "/sandbox", LL_READ);
    /* for input files, through a view that the script does not have; its own is read-only */
    add_rule(stage, "/sandbox/input", LL_READ | LL_WRITE_FILE | LL_MAKE_DIR | LL_MAKE_REG);
    add_rule(stage, "/sandbox/out", own);
    add_rule(stage, "/sandbox/work", own);
    add_rule(stage, "/sandbox/scripts", LL_READ | LL_EXECUTE); /* last: see step_landlock_rules */
    return 0;
}

/* After the mounts: the kernel counts each detached mount as a namespace. */
static int step_namespace_limits(void *ctx)
{
    static const char *const names[] = {"max_mnt_namespaces"};
    run_t *run = ctx;

    return limit_namespaces(run, names, COUNT(names)) != 0 ? -1 : close(run->sysctl);
}

/* Before the capabilities go: the process is one's own, but let nothing depend on that. */
static int step_ready_rlimits(void *ctx)
{
    const run_t *run = ctx;

    return run->ready < 0 ? 0 : rlimits_complete(run->ready_pid, run->request);
}

static int step_rlimits_ahead(void *ctx)
{
    const run_t *run = ctx;

    return rlimits_apply_ahead(&run->stage->config, run->cgroup != 0);
}

static int step_init_rlimits(void *ctx)
{
    return rlimits_apply_init(&((run_t *)ctx)->stage->config);
}

static int step_rlimits(void *ctx)
{
    run_t *run = ctx;

    return rlimits_apply(&run->stage->config, run->request);
}

/* Once for both processes, and not while a run waits. */
static int step_bounding_set(void *ctx)
{
    return privileges_drop_bounding();
}

static int step_capabilities(void *ctx)
{
    return privileges_drop_caps();
}

static int step_no_new_privs(void *ctx)
{
    return privileges_no_new();
}

/* pid 1 stays so: its memory is not the script's to read or write.  pid 2 becomes readable to its
 * like when it is the script: by execve, or by its form's word. */
static int step_not_dumpable(void *ctx)
{
    return privileges_dumpable(false);
}

static int step_landlock(void *ctx)
{
    const run_t *run = ctx;
    const stage_t *stage = run->stage;

    if (stage->landlock_abi == 0)
        return 0;
    return landlock_finish(run->ruleset, stage->landlock_abi, &stage->rules[stage->nrules - 1], 1);
}

/*
 * The kernel asks for rules on a file's way up through its mount, and goes on above the folder that
 * is mounted over: a package that will come is allowed by a rule on the folder that holds its mount
 * point.
 */
static int step_landlock_ahead(void *ctx)
{
    static landlock_rule_t rules[STAGE_RULES_MAX];
    const stage_t *stage = ((run_t *)ctx)->stage;

    if (stage->landlock_abi == 0)
        return 0;
    memcpy(rules, stage->rules, sizeof(rules));
    for (size_t i = 0; i < stage->nrules; i++)
        if (rules[i].path != NULL && strcmp(rules[i].path, "/sandbox") == 0)
            rules[i].access |= LL_EXECUTE;
    return landlock_apply(stage->landlock_abi, 0, rules, stage->nrules);
}

static int step_seccomp(void *ctx)
{
    return filter_load_second(&((run_t *)ctx)->stage->second);
}

/* From here on the process may read what the caller made: main is out of its reach. */
static int step_leave_main(void *ctx)
{
    return close(FD_STATUS);
}

/* ---- the lists ---- */

/* clang-format off: one step a line */
static const step_t opening[] = {
    {"cgroup", step_cgroups},
    {"cgroup namespace", step_cgroup_namespace},
    {"descriptors", step_descriptors},
};

/* Needs no job: done ahead. */
static const step_t building[] = {
    {"run id map", step_idmap},
    {"hostname", step_hostname},
    {"loopback", step_loopback},
    {"cover", step_cover}, /* before there is a /tmp */
    {"mount tmp", step_tmp},
    {"mount sandbox", step_sandbox_folder},
    {"mount out", step_out},
    {"mount work", step_work},
    {"sysctl", step_sysctl},
    {"last pid", step_last_pid},
    {STEP_PROC, step_proc},
    {"namespace limits ahead", step_namespaces_ahead},
    {"landlock rules", step_landlock_rules},
    {"bounding set", step_bounding_set},
    {"not dumpable", step_not_dumpable},
};

/*
 * pid 1, once it has its child.  No Landlock: a domain of its own would keep it from ending and
 * measuring the script's processes, and the script's cannot be entered before the package is
 * mounted.
 */
static const step_t retiring[] = {
    {"init rlimits", step_init_rlimits},
    {"init capabilities", step_capabilities},
    {"init no_new_privs", step_no_new_privs},
    {"init seccomp", step_seccomp},
};

/* A process that executes an interpreter before there is a run. */
static const step_t confining_ahead[] = {
    {"rlimits ahead", step_rlimits_ahead},
    {"capabilities", step_capabilities},
    {"no_new_privs", step_no_new_privs},
    {"landlock ahead", step_landlock_ahead},
    {"seccomp", step_seccomp},
};

/* pid 2.  Behind "request" everything is in the way of a run. */
static const step_t entering[] = {
    {"init confined", step_init_confined},
    {"warm up", step_warm_up},
    {"keeper", step_keeper},
    {"interpreter ahead", step_interpreter},
    {"interpreter waits", step_interpreter_waits},
    {"request", step_request},
};

static const step_t filling[] = {
    {"input", step_input},     {"seal sandbox", step_seal},
    {"package", step_package}, {"hide packages", step_hide_packages},
    {"ready", step_ready},
};

/* Capabilities go after all that needs them; Landlock and the filter after all that they forbid. */
static const step_t confining[] = {
    {"namespace limits", step_namespace_limits},
    {"interpreter's rlimits", step_ready_rlimits},
    {"rlimits", step_rlimits},
    {"capabilities", step_capabilities},
    {"no_new_privs", step_no_new_privs},
    {"landlock", step_landlock},
    {"seccomp", step_seccomp},
};

static const step_t leaving[] = {
    {"leave main", step_leave_main},
};
/* clang-format on */

typedef struct {
    const step_t *steps;
    size_t n;
} list_t;

static const char *run_lists(const list_t *lists, size_t n, run_t *run)
{
    const char *failed = NULL;

    for (size_t i = 0; failed == NULL && i < n; i++)
        failed = steps_run(lists[i].steps, lists[i].n, run);
    return failed;
}

static void __attribute__((noreturn)) fail(const run_t *run, const char *step)
{
    report_run_failed(run->status, step, errno, NULL);
    _exit(EXIT_SETUP);
}

void sandbox_run(const stage_t *stage, const stage_request_t *asked, const int *fds, int nfds)
{
    static const list_t lists[] = {{opening, COUNT(opening)}, {building, COUNT(building)}};
    run_t run = {.stage = stage,
                 .cgroup = asked->cgroup,
                 .interpreter = asked->interpreter,
                 .ready = -1,
                 .last_pid = -1,
                 .cgroups = fds + 1,
                 .ncgroups = nfds - 1,
                 .status = nfds > 0 ? fds[0] : -1,
                 .input_view = -1,
                 .instructions = -1};
    const char *step;

    if (run.interpreter != 0) {
        run.ncgroups -= RUN_LOGS;
        run.logs = run.cgroups + run.ncgroups;
    }
    if (nfds < 1 || run.ncgroups < 0)
        _exit(EXIT_SETUP);
    step = run_lists(lists, COUNT(lists), &run);
    if (step != NULL)
        fail(&run, step);
    init_run(&run);
}

const char *sandbox_confine_init(run_t *run)
{
    return steps_run(retiring, COUNT(retiring), run);
}

const char *sandbox_confine_ahead(run_t *run)
{
    return steps_run(confining_ahead, COUNT(confining_ahead), run);
}

void sandbox_script(run_t *run)
{
    static const list_t lists[] = {{entering, COUNT(entering)},
                                   {filling, COUNT(filling)},
                                   {confining, COUNT(confining)},
                                   {leaving, COUNT(leaving)}};
    const char *step;

    if (run->stage->form != NULL)
        run->stage->form->born();
    step = run_lists(lists, COUNT(lists), run);
    if (step != NULL)
        fail(run, step);
    launch_script(run);
}

/* ---- the probe ---- */

/* A run without anything of a job: what it reports goes into a socket pair of ours. */
static void __attribute__((noreturn)) probe_child(const stage_t *stage, int sock)
{
    static const stage_request_t request = {
        .cpu_seconds = 1, .memory_bytes = SB_MEMORY_MIN, .file_bytes = SB_MIB};
    run_t run = {.stage = stage, .request = &request, .ready = -1};
    const char *step = steps_run(building, COUNT(building), &run);

    if (step == NULL)
        step = steps_run(confining, COUNT(confining), &run);
    if (step != NULL)
        report_run_failed(sock, step, errno, NULL);
    _exit(step == NULL ? 0 : EXIT_SETUP);
}

const char *sandbox_probe(const stage_t *stage)
{
    static run_report_t report;
    int socks[2], pidfd, wstatus = 0, nfds;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) != 0)
        return "socketpair";
    pid = sys_clone(sandbox_clone_flags(), -1, &pidfd);
    if (pid == 0)
        probe_child(stage, socks[1]);
    close(socks[1]);
    if (pid < 0) {
        close(socks[0]);
        return "clone";
    }
    close(pidfd);
    if (sys_recv_fds(socks[0], &report, sizeof(report), NULL, 0, &nfds) <= 0) {
        report.failed_errno = ECHILD; /* it died without a word */
        snprintf(report.failed_step, sizeof(report.failed_step), "probe");
    }
    close(socks[0]);
    if (waitpid(pid, &wstatus, 0) == pid && wstatus == 0)
        return NULL;
    errno = report.failed_errno;
    return report.failed_step;
}
