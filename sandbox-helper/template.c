/*
 * template.c - see template.h.  Runs once in sandbox-stage, as an ordinary user, before
 * there is any request; all it reads is the helper's configuration and the host's files.
 * New namespaces come first, then the new root is filled by absolute host paths while
 * it lies on top of "/", then it becomes the root.
 */
#include "template.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/names.h"
#include "idmap.h"
#include "mounts.h"
#include "privileges.h"
#include "ready.h"
#include "report.h"
#include "template_image.h"

#define COUNT(array)  (sizeof(array) / sizeof((array)[0]))
#define ROOT_BYTES    (4 * 1024 * 1024)
#define ROOT_INODES   4096 /* an image's /etc is links: up to 1024 of them */
#define READ_ONLY     (MOUNTS_BASE | MOUNT_ATTR_RDONLY)
#define READ_ONLY_BIN (MOUNTS_BASE | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC)

typedef struct {
    const stage_config_t *config;
    uid_t uid; /* outside */
    gid_t gid;
    int root; /* the new root's mount */
    char step[sizeof(
        ((stage_hello_t *)0)->failed_step)]; /* more exact than the table's name; "" = that is it */
} template_t;

/* ---- small tools ---- */

static int make_file(int dirfd, const char *name, const char *text)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
    int rc, err;

    if (fd < 0)
        return -1;
    rc = sys_write_all(fd, text, strlen(text));
    err = errno;
    close(fd);
    errno = err;
    return rc;
}

static int make_dir(int dirfd, const char *name)
{
    return mkdirat(dirfd, name, 0755);
}

/* An empty mount point of the same kind as `from`, then the bind.  A missing source: 1. */
static int bind_existing(const template_t *t, const char *from, const char *to, uint64_t attr)
{
    struct stat st;
    int rc;

    if (stat(from, &st) != 0)
        return errno == ENOENT ? 1 : -1;
    rc = S_ISDIR(st.st_mode) ? make_dir(t->root, to) : make_file(t->root, to, "");
    if (rc != 0)
        return -1;
    return mounts_bind(from, t->root, to, attr);
}

/* ---- the steps ---- */

static int step_namespaces(void *ctx)
{
    template_t *t = ctx;

    t->uid = geteuid(); /* they read as 65534 until the maps are written */
    t->gid = getegid();
    /* net, ipc, uts: the stage has no use for the host's either */
    return unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
}

static int step_idmap(void *ctx)
{
    template_t *t = ctx;
    const char *step;
    int rc = idmap_write(t->uid, t->gid, &step);

    if (rc != 0)
        snprintf(t->step, sizeof(t->step), "%s", step);
    return rc;
}

/*
 * Runs' network namespaces get a table of TCP connections of their own (Linux 6.1; the setting is
 * inherited from ours): at the end of one without, the kernel searches the host's, megabytes of
 * it.  Where it can't be had runs only take longer.
 */
static int step_tcp_table(void *ctx)
{
    (void)ctx;
    (void)sys_write_text(AT_FDCWD, "/proc/sys/net/ipv4/tcp_child_ehash_entries", "1024");
    return 0;
}

/* Nothing that is mounted here may appear on the host. */
static int step_private(void *ctx)
{
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* On top of "/": absolute paths go on meaning the host's files, the descriptor the new root. */
static int step_root(void *ctx)
{
    static const mounts_tmpfs_t spec = {ROOT_BYTES, ROOT_INODES, 0755, MOUNTS_BASE};
    template_t *t = ctx;

    t->root = mounts_tmpfs_at(&spec, "/");
    return t->root < 0 ? -1 : 0;
}

static int step_skeleton(void *ctx)
{
    static const char *const dirs[] = {"etc",     "dev", "dev/shm",   "proc",
                                       "sandbox", "tmp", ".packages", READY_FOLDER + 1};
    template_t *t = ctx;

    if (t->config->root[0] == '\0' && make_dir(t->root, "usr") != 0)
        return -1;
    for (size_t i = 0; i < COUNT(dirs); i++)
        if (make_dir(t->root, dirs[i]) != 0)
            return -1;
    if (make_file(t->root, READY_NODE + 1, ready_node_script) != 0)
        return -1;
    return symlinkat("sandbox/scripts", t->root, "skill");
}

/* /bin and its kin are links into /usr on merged systems, folders on others. */
static int add_system_dir(const template_t *t, const char *path)
{
    char target[PATH_MAX];
    struct stat st;
    ssize_t n;

    if (lstat(path, &st) != 0)
        return errno == ENOENT ? 0 : -1;
    if (!S_ISLNK(st.st_mode))
        return bind_existing(t, path, path + 1, READ_ONLY);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return -1;
    target[n] = '\0';
    return symlinkat(target, t->root, path + 1);
}

/* The entry of the image that is to blame, in the step's name. */
static int image_step(template_t *t, int (*step)(const char *, int, char *, size_t))
{
    char entry[32] = "";
    int rc = step(t->config->root, t->root, entry, sizeof(entry));

    if (rc != 0)
        snprintf(t->step, sizeof(t->step), "image%s%s", entry[0] != '\0' ? " entry " : "", entry);
    return rc;
}

static int step_system(void *ctx)
{
    static const char *const dirs[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
    template_t *t = ctx;

    if (t->config->root[0] != '\0')
        return image_step(t, template_image_folders);
    for (size_t i = 0; i < COUNT(dirs); i++)
        if (add_system_dir(t, dirs[i]) != 0)
            return -1;
    return mounts_bind("/usr", t->root, "usr", READ_ONLY);
}

static const struct {
    const char *path;
    const char *text;
} etc_files[] = {
    {"etc/passwd", "root:x:0:0:root:/:/usr/sbin/nologin\n"
                   "sandbox:x:1000:1000:sandbox:/tmp:/bin/sh\n"
                   "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"},
    {"etc/group", "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n"},
    {"etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost ip6-loopback\n"},
    {"etc/hostname", "sandbox\n"},
    {"etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"
                          "services: files\nprotocols: files\n"},
};

/* Of the host's /etc: what the dynamic loader, fonts, TLS and alternatives need, where it exists.
 */
static const char *const etc_binds[] = {
    "/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/ssl/certs", "/etc/localtime",
};

static int step_etc(void *ctx)
{
    template_t *t = ctx;

    for (size_t i = 0; i < COUNT(etc_files); i++)
        if (make_file(t->root, etc_files[i].path, etc_files[i].text) != 0)
            return -1;
    if (t->config->root[0] != '\0')
        return image_step(t, template_image_etc);
    if (make_dir(t->root, "etc/ssl") != 0)
        return -1;
    for (size_t i = 0; i < COUNT(etc_binds); i++)
        if (bind_existing(t, etc_binds[i], etc_binds[i] + 1, READ_ONLY_BIN) < 0)
            return -1;
    return 0;
}

/* Is the same file there already, through a bind made before? */
static bool visible(const template_t *t, const char *path)
{
    struct stat host, inside;
    int fd = sys_openat2(t->root, path, O_PATH, 0, SYS_RESOLVE_IN_ROOT);
    bool same;

    if (fd < 0)
        return false;
    same = fstat(fd, &inside) == 0 && stat(path, &host) == 0 && host.st_dev == inside.st_dev &&
           host.st_ino == inside.st_ino;
    close(fd);
    return same;
}

/* Makes path's parents; each must be on our own tmpfs, not in something bound from the host. */
static int make_parents(const template_t *t, const char *path)
{
    char part[STAGE_PATH_LEN];

    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        int fd;

        snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
        if (make_dir(t->root, part) != 0 && errno != EEXIST)
            return -1;
        fd = sys_openat2(t->root, part, O_PATH | O_DIRECTORY, 0,
                         SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS | SYS_RESOLVE_NO_XDEV);
        if (fd < 0)
            return -1;
        close(fd);
    }
    return 0;
}

/* Places that are a run's own, or the kernel's: an operator's path must not lie in them. */
static bool reserved(const char *path)
{
    static const char *const names[] = {"proc",    "sys",   "dev",      "tmp",
                                        "sandbox", "skill", ".packages"};
    size_t len = strcspn(path, "/");

    for (size_t i = 0; i < COUNT(names); i++)
        if (strlen(names[i]) == len && memcmp(names[i], path, len) == 0)
            return true;
    return false;
}

static int add_readonly(const template_t *t, const char *path)
{
    int rc;

    if (path[0] != '/' || !sb_path_valid(path + 1, strlen(path + 1)) || reserved(path + 1)) {
        errno = EINVAL;
        return -1;
    }
    if (visible(t, path))
        return 0;
    if (make_parents(t, path + 1) != 0)
        return -1;
    rc = bind_existing(t, path, path + 1, READ_ONLY);
    if (rc > 0)
        errno = ENOENT;
    return rc == 0 ? 0 : -1;
}

static int step_readonly(void *ctx)
{
    template_t *t = ctx;

    for (size_t i = 0; i < STAGE_PATHS; i++) {
        const char *path = t->config->readonly[i];

        if (path[0] == '\0' || add_readonly(t, path) == 0)
            continue;
        snprintf(t->step, sizeof(t->step), "read-only path %s", path);
        return -1;
    }
    return 0;
}

/*
 * /dev/zero mapped shared is memory that only a memory cgroup counts, and no filter sees which file
 * is mapped.  Without one /dev/full stands in its place: it reads as zeros, too, and can't be
 * mapped.
 */
static const char *zero_device(const stage_config_t *config)
{
    return config->memory_cgroup ? "/dev/zero" : "/dev/full";
}

/* A folder of our own with five of the host's devices: no tty, no ptmx, nothing to load modules. */
static int step_dev(void *ctx)
{
    template_t *t = ctx;
    const char *const nodes[][2] = {{"/dev/null", "dev/null"},
                                    {zero_device(t->config), "dev/zero"},
                                    {"/dev/full", "dev/full"},
                                    {"/dev/random", "dev/random"},
                                    {"/dev/urandom", "dev/urandom"}};
    static const char *const links[][2] = {
        {"/proc/self/fd", "dev/fd"},
        {"/proc/self/fd/0", "dev/stdin"},
        {"/proc/self/fd/1", "dev/stdout"},
        {"/proc/self/fd/2", "dev/stderr"},
    };

    /* device nodes work on a read-only mount; what they lose is chmod, utime and xattrs */
    for (size_t i = 0; i < COUNT(nodes); i++)
        if (make_file(t->root, nodes[i][1], "") != 0 ||
            mounts_bind(nodes[i][0], t->root, nodes[i][1],
                        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY) != 0)
            return -1;
    for (size_t i = 0; i < COUNT(links); i++)
        if (symlinkat(links[i][0], t->root, links[i][1]) != 0)
            return -1;
    return 0;
}

static int step_proc(void *ctx)
{
    template_t *t = ctx;

    /* not read-only: id maps and user.max_*_namespaces are written through it */
    return mounts_bind("/proc", t->root, "proc", MOUNTS_BASE | MOUNT_ATTR_NOEXEC);
}

static int step_packages(void *ctx)
{
    template_t *t = ctx;

    return mounts_bind(t->config->packages, t->root, ".packages", READ_ONLY);
}

static int step_pivot(void *ctx)
{
    template_t *t = ctx;

    if (fchdir(t->root) != 0 || sys_pivot_root(".", ".") != 0)
        return -1;
    /* the old root now lies on top of the new one: take it off, with all the host's mounts */
    if (umount2(".", MNT_DETACH) != 0)
        return -1;
    return chdir("/");
}

static int step_seal(void *ctx)
{
    template_t *t = ctx;
    int rc = sys_mount_set(t->root, "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY);

    close(t->root);
    return rc;
}

/* An interpreter that main found on the host must be found here as well. */
static int step_interpreters(void *ctx)
{
    template_t *t = ctx;

    for (size_t i = 0; i < STAGE_RUNTIMES; i++) {
        const char *path = t->config->runtimes[i].interpreter;

        if (path[0] == '\0' || access(path, X_OK) == 0)
            continue;
        snprintf(t->step, sizeof(t->step), "interpreter %s", path);
        return -1;
    }
    return 0;
}

/* clang-format off: one step a line */
static const step_t steps[] = {
    {"namespaces", step_namespaces},
    {"id map", step_idmap},
    {"tcp table", step_tcp_table},
    {"private mounts", step_private},
    {"root tmpfs", step_root},
    {"skeleton", step_skeleton},
    {"system folders", step_system},
    {"etc", step_etc},
    {"read-only paths", step_readonly},
    {"dev", step_dev},
    {"proc", step_proc},
    {"packages", step_packages},
    {"pivot_root", step_pivot},
    {"read-only root", step_seal},
    {"interpreters", step_interpreters},
};
/* clang-format on */

int template_enter(const stage_config_t *config, const char **step)
{
    static template_t t;

    t.config = config;
    t.step[0] = '\0';
    *step = steps_run(steps, COUNT(steps), &t);
    if (*step == NULL)
        return 0;
    if (t.step[0] != '\0')
        *step = t.step;
    return -1;
}
