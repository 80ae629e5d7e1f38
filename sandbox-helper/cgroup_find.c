/*
 * cgroup_find.c - see cgroup.h: where the groups are, whether they are ours to
 * use, and what dead helpers left there.  Runs once at start, as root when the
 * helper was started as root, in the main process.
 */
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cgroup_text.h"

#define LEAVES_MAX     4096 /* looked at in one sweep */
#define SWEEP_TRIES    100
#define SWEEP_PAUSE_MS 20

static const char *const controllers[CG_CONTROLLERS] = {"memory", "pids", "cpu"};

/* ---- our place in a hierarchy ---- */

/* The folder of our own group, as we see it; controller NULL: v2. */
static bool own_folder(const char *controller, char out[PATH_MAX])
{
    char group[PATH_MAX];
    bool found = false;
    FILE *f = fopen("/proc/self/cgroup", "re");

    if (f == NULL)
        return false;
    found = cgroup_own_path(f, controller, group, sizeof group);
    fclose(f);
    f = found ? fopen("/proc/self/mountinfo", "re") : NULL;
    if (f == NULL)
        return false;
    found = cgroup_folder(f, controller, group, out, PATH_MAX);
    fclose(f);
    return found;
}

static bool read_text(const char *folder, const char *file, char *out, size_t outlen)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, out, outlen - 1);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n >= 0;
}

static int write_text(const char *folder, const char *file, const char *text)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    int saved = errno;
    close(fd);
    errno = saved;
    return n < 0 ? -1 : 0;
}

/* Gives a group to the user: the folder, to make groups in, and the files that moving into them
 * takes.  Nothing when we are that user already. */
static int give(const config_t *c, const char *folder)
{
    static const char *const files[] = {"", "/cgroup.procs", "/cgroup.subtree_control",
                                        "/cgroup.threads", "/tasks"};
    char path[PATH_MAX + 64];

    if (geteuid() != 0)
        return 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s%s", folder, files[i]);
        if (chown(path, c->uid, c->gid) != 0 && (i == 0 || errno != ENOENT))
            return -1;
    }
    return 0;
}

static int open_base(cgroups_t *cg, int which, const char *folder)
{
    cg->base[which] = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(cg->path[which], sizeof cg->path[which], "%s", folder);
    return cg->base[which] < 0 ? -1 : 0;
}

static bool refuse(cgroups_t *cg, const char *what, const char *folder)
{
    snprintf(cg->why, sizeof cg->why, "%s: %.120s: %s", what, folder, strerror(errno));
    return false;
}

/* Of the user who will run us: below a hierarchy's own groups. */
static bool group_name(const config_t *c, char *out, size_t outlen)
{
    uid_t uid = geteuid() == 0 ? c->uid : geteuid();
    struct passwd *pw = getpwuid(uid);
    int n = pw ? snprintf(out, outlen, "skillbox-%s", pw->pw_name)
               : snprintf(out, outlen, "skillbox-%u", (unsigned)uid);

    return n > 0 && n < (int)outlen && strchr(out, '/') == NULL;
}

/* ---- version 2 ---- */

/* Started into <delegated>/helper (systemd's DelegateSubgroup=helper): runs go beside it. */
static bool strip_helper(char *folder)
{
    char *slash = strrchr(folder, '/');

    if (slash == NULL || strcmp(slash, "/helper") != 0)
        return false;
    *slash = '\0';
    return true;
}

/* A group with processes of its own cannot have children with limits: we may be the only one. */
static bool alone(const char *folder)
{
    char text[64], self[24];

    snprintf(self, sizeof self, "%d\n", (int)getpid());
    return read_text(folder, "cgroup.procs", text, sizeof text) && strcmp(text, self) == 0;
}

/* The root of the whole hierarchy: the one group without a type, where others may live, too. */
static bool is_root(const char *folder)
{
    char type[16];

    return !read_text(folder, "cgroup.type", type, sizeof type) && errno == ENOENT;
}

/*
 * No service manager has put us anywhere: as root a group of our own is made there.  The root
 * itself is never given away, who may write it can move every process of the host.
 */
static bool leave_root(cgroups_t *cg, const config_t *c, char folder[PATH_MAX], const char *wanted)
{
    char name[64];
    size_t len = strlen(folder);

    errno = EPERM;
    if (geteuid() != 0 || !group_name(c, name, sizeof name))
        return refuse(cg, "cgroup v2 is not delegated to this user", folder);
    if (write_text(folder, "cgroup.subtree_control", wanted) != 0)
        return refuse(cg, "cgroup v2: no controllers below", folder);
    snprintf(folder + len, PATH_MAX - len, "/%s", name);
    if (mkdir(folder, 0755) != 0 && errno != EEXIST)
        return refuse(cg, "cgroup v2 cannot be written", folder);
    return true;
}

static bool enter_helper_group(cgroups_t *cg, const char *folder)
{
    char helper[PATH_MAX + 16];

    snprintf(helper, sizeof helper, "%s/helper", folder);
    if (mkdir(helper, 0755) != 0 && errno != EEXIST)
        return refuse(cg, "cgroup v2 is not delegated", folder);
    if (write_text(helper, "cgroup.procs", "0") != 0)
        return refuse(cg, "cgroup v2: the helper cannot move to a group of its own", helper);
    return true;
}

/* Makes the folder ready for runs; it may become one of ours below the root. */
static bool occupy_v2(cgroups_t *cg, const config_t *c, char folder[PATH_MAX], bool moved)
{
    const char *wanted = cg->cpu ? "+memory +pids +cpu" : "+memory +pids";

    if (is_root(folder) && !leave_root(cg, c, folder, wanted))
        return false;
    if (!moved && !enter_helper_group(cg, folder))
        return false;
    if (write_text(folder, "cgroup.subtree_control", wanted) != 0)
        return refuse(cg, "cgroup v2: a controller is not delegated", folder);
    if (give(c, folder) != 0)
        return refuse(cg, "cgroup v2 cannot be given to the user", folder);
    return true;
}

static bool try_v2(cgroups_t *cg, const config_t *c, bool probe)
{
    char folder[PATH_MAX], list[512];

    if (!own_folder(NULL, folder))
        return false;
    bool moved = strip_helper(folder);
    if (!read_text(folder, "cgroup.controllers", list, sizeof list) ||
        !cgroup_has_word(list, "memory") || !cgroup_has_word(list, "pids"))
        return false;
    cg->cpu = cgroup_has_word(list, "cpu");
    if (access(folder, W_OK) != 0)
        return refuse(cg, "cgroup v2 is not delegated to this user", folder);
    if (!moved && !is_root(folder) && !alone(folder)) {
        errno = EBUSY;
        return refuse(cg, "cgroup v2: other processes share the helper's group", folder);
    }
    if (!probe && !occupy_v2(cg, c, folder, moved))
        return false;
    if (open_base(cg, 0, folder) != 0)
        return refuse(cg, "cgroup v2", folder);
    cg->version = 2;
    return true;
}

/* ---- version 1 ---- */

static bool try_v1_controller(cgroups_t *cg, const config_t *c, int which, bool probe)
{
    char folder[PATH_MAX], name[64];
    size_t len;

    if (!own_folder(controllers[which], folder) || !group_name(c, name, sizeof name)) {
        if (cg->why[0] == '\0') /* what v2 lacks says more */
            snprintf(cg->why, sizeof cg->why,
                     "no %s controller, neither of v1 nor of v2, is mounted", controllers[which]);
        return false;
    }
    if (probe) {
        if (access(folder, W_OK) != 0)
            return refuse(cg, "cgroup v1 cannot be written", folder);
        return open_base(cg, which, folder) == 0;
    }
    len = strlen(folder);
    snprintf(folder + len, sizeof folder - len, "/%s", name);
    if (mkdir(folder, 0755) != 0 && errno != EEXIST)
        return refuse(cg, "cgroup v1 cannot be written", folder);
    if (give(c, folder) != 0)
        return refuse(cg, "cgroup v1 cannot be given to the user", folder);
    if (access(folder, W_OK) != 0 || open_base(cg, which, folder) != 0)
        return refuse(cg, "cgroup v1 cannot be written", folder);
    return true;
}

static bool try_v1(cgroups_t *cg, const config_t *c, bool probe)
{
    char why[sizeof cg->why];

    if (!try_v1_controller(cg, c, CG_MEMORY, probe) || !try_v1_controller(cg, c, CG_PIDS, probe)) {
        if (cg->base[CG_MEMORY] >= 0)
            close(cg->base[CG_MEMORY]);
        cg->base[CG_MEMORY] = -1;
        return false;
    }
    memcpy(why, cg->why, sizeof why);
    cg->cpu = try_v1_controller(cg, c, CG_CPU, probe);
    memcpy(cg->why, why, sizeof why);
    cg->version = 1;
    return true;
}

/* ---- leftovers ---- */

/* "run-<pid>-<n>" of a helper that lives no more. */
static bool dead_leaf(const char *name)
{
    char *end;

    if (strncmp(name, "run-", 4) != 0)
        return false;
    long pid = strtol(name + 4, &end, 10);
    return *end == '-' && pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

static bool own_leaf(const char *name)
{
    char prefix[24];
    int n = snprintf(prefix, sizeof prefix, "run-%d-", (int)getpid());

    return strncmp(name, prefix, (size_t)n) == 0;
}

/*
 * Whoever is still in it was of that helper's runs, and on its way out.  A pid of 0 is a process
 * that our pid namespace does not show: the helper that seems dead lives beside us, in another
 * container, and the group is its.
 */
static bool kill_leaf(int base, const char *name)
{
    char path[300];
    bool ours = true;
    int pid;

    snprintf(path, sizeof path, "%s/cgroup.procs", name);
    int fd = openat(base, path, O_RDONLY | O_CLOEXEC);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (f == NULL) {
        if (fd >= 0)
            close(fd);
        return true;
    }
    for (int i = 0; ours && i < LEAVES_MAX && fscanf(f, "%d", &pid) == 1; i++) {
        ours = pid > 0;
        if (ours)
            kill(pid, SIGKILL);
    }
    fclose(f);
    return ours;
}

/* Removes the leaves that `which` names; how many of them are busy. */
static int sweep(int base, bool (*which)(const char *name))
{
    int fd = openat(base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int busy = 0;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    for (int i = 0; i < LEAVES_MAX; i++) {
        struct dirent *e = readdir(dir);
        if (e == NULL)
            break;
        if (!which(e->d_name))
            continue;
        if (kill_leaf(base, e->d_name) && unlinkat(base, e->d_name, AT_REMOVEDIR) != 0)
            busy++;
    }
    closedir(dir);
    return busy;
}

/* After a kill -9 or a forced stop groups may be busy for a moment. */
static void remove_leaves(const cgroups_t *cg, bool (*which)(const char *name))
{
    const struct timespec pause = {.tv_nsec = SWEEP_PAUSE_MS * 1000000L};

    for (int i = 0; i < SWEEP_TRIES; i++) {
        int busy = 0;
        for (int c = 0; c < CG_CONTROLLERS; c++)
            busy += cg->base[c] >= 0 ? sweep(cg->base[c], which) : 0;
        if (busy == 0)
            return;
        nanosleep(&pause, NULL);
    }
}

void cgroups_open(cgroups_t *cg, const config_t *c, bool probe)
{
    memset(cg, 0, sizeof *cg);
    for (int i = 0; i < CG_CONTROLLERS; i++)
        cg->base[i] = -1;
    cg->pids = c->nproc;
    if (c->cgroup == CGROUP_OFF) {
        snprintf(cg->why, sizeof cg->why, "switched off in the configuration");
        return;
    }
    if (!try_v2(cg, c, probe) && !try_v1(cg, c, probe))
        return;
    if (!probe)
        remove_leaves(cg, dead_leaf);
}

void cgroups_close(cgroups_t *cg)
{
    if (cg->version != 0)
        remove_leaves(cg, own_leaf);
    for (int i = 0; i < CG_CONTROLLERS; i++) {
        if (cg->base[i] >= 0)
            close(cg->base[i]);
        cg->base[i] = -1;
    }
}
