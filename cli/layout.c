/*
 * layout.c - see layout.h.  Makes folders, and as root gives them to the service
 * users; every folder is opened without following links before it is changed.
 */
#include "layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Quotes, backslash and $ mean something in nginx.conf and YAML, ':' inside unix:... */
static sb_code_t check_characters(const char *dir, sb_err_t *err)
{
    for (const char *p = dir; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f || strchr("\"'\\$:{};", *p) != NULL) {
            return sb_err_set(err, SB_EINVAL,
                              "the state folder's path may not hold quotes, backslashes, control "
                              "characters or any of $ : ; { }: %s",
                              dir);
        }
    }
    return SB_OK;
}

static sb_code_t check_path(const char *dir, sb_err_t *err)
{
    struct sockaddr_un *un = NULL;
    size_t max = sizeof(un->sun_path) - sizeof("/" SB_SOCKET_NAME);

    if (strlen(dir) > max) {
        return sb_err_set(err, SB_EINVAL,
                          "the state folder's path has %zu bytes, %zu are possible because of the "
                          "socket in it; choose a shorter one with --state",
                          strlen(dir), max);
    }
    return check_characters(dir, err);
}

static sb_code_t check_owner(const char *dir, sb_err_t *err)
{
    struct stat st;

    if (lstat(dir, &st) != 0) {
        return sb_err_errno(err, errno, "%s", dir);
    }
    if (!S_ISDIR(st.st_mode)) {
        return sb_err_set(err, SB_EINVAL, "%s is not a folder", dir);
    }
    if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return sb_err_set(err, SB_EFORBIDDEN,
                          "%s must belong to the user that runs `skillbox up`, and nobody else may "
                          "write to it",
                          dir);
    }
    return SB_OK;
}

/* Nothing in it, or what an earlier `up` put there: then it is ours to change. */
static sb_code_t check_ours(const char *dir, sb_err_t *err)
{
    char lock[SB_STATE_PATH_MAX];
    sb_code_t code = sb_state_path(dir, SB_STATE_LOCK, lock, err);
    struct dirent *e;
    bool empty = true;

    if (code != SB_OK || access(lock, F_OK) == 0) {
        return code;
    }
    DIR *d = opendir(dir);
    if (d == NULL) {
        return sb_err_errno(err, errno, "%s", dir);
    }
    while (empty && (e = readdir(d)) != NULL) {
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    }
    closedir(d);
    if (!empty) {
        return sb_err_set(err, SB_EINVAL, "%s holds other things; name an empty or a new folder",
                          dir);
    }
    return SB_OK;
}

sb_code_t sb_layout_open(const char *dir, sb_layout_t *layout, sb_err_t *err)
{
    memset(layout, 0, sizeof(*layout));
    layout->root = geteuid() == 0;
    if (mkdir(dir, layout->root ? 0755 : 0700) != 0 && errno != EEXIST) {
        return sb_err_errno(err, errno, "can't make %s", dir);
    }
    char *real = realpath(dir, NULL);
    if (real == NULL) {
        return sb_err_errno(err, errno, "%s", dir);
    }
    sb_code_t code = check_path(real, err);
    if (code == SB_OK) {
        strcpy(layout->dir, real); /* check_path bounds it */
        code = check_owner(real, err);
    }
    if (code == SB_OK) {
        code = check_ours(real, err);
    }
    /* as root the service users must get through; what they may read has modes of its own */
    if (code == SB_OK && chmod(real, layout->root ? 0755 : 0700) != 0) {
        code = sb_err_errno(err, errno, "%s", real);
    }
    free(real);
    return code;
}

/* ---- users ---- */

/* The first of the names (NULL-terminated) that exists. */
static sb_code_t choose_user(const char *const *names, sb_user_t *user, sb_err_t *err)
{
    for (; *names != NULL; names++) {
        const struct passwd *pw = getpwnam(*names);

        if (pw != NULL && pw->pw_uid != 0) {
            snprintf(user->name, sizeof(user->name), "%s", *names);
            user->uid = pw->pw_uid;
            user->gid = pw->pw_gid;
            return SB_OK;
        }
    }
    return sb_err_set(err, SB_ENOTFOUND, "there is no user to run the services as");
}

static sb_code_t choose_users(sb_layout_t *l, sb_err_t *err)
{
    static const char *const workers[] = {"www-data", "nginx", "nobody", NULL};
    static const char *const helpers[] = {"skillbox", "nobody", NULL};
    sb_code_t code;

    if (!l->root) {
        l->worker.uid = l->helper.uid = geteuid();
        l->worker.gid = l->helper.gid = getegid();
        return SB_OK;
    }
    code = choose_user(workers, &l->worker, err);
    if (code == SB_OK) {
        code = choose_user(helpers, &l->helper, err);
    }
    if (code == SB_OK && l->worker.uid == l->helper.uid) {
        return sb_err_set(err, SB_EINVAL,
                          "nginx's workers and the helper would both run as %s; add a user "
                          "`skillbox` for the helper",
                          l->helper.name);
    }
    return code;
}

/* ---- folders ---- */

static sb_code_t make_folder(const sb_layout_t *l, const char *name, uid_t uid, gid_t gid,
                             mode_t mode, sb_err_t *err)
{
    char path[SB_STATE_PATH_MAX];
    sb_code_t code = sb_state_path(l->dir, name, path, err);

    if (code != SB_OK) {
        return code;
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return sb_err_errno(err, errno, "can't make %s", path);
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* chown clears the setgid bit: mode last */
    if (fd < 0 || (l->root && fchown(fd, uid, gid) != 0) ||
        fchmod(fd, l->root ? mode : 0700) != 0) {
        code = sb_err_errno(err, errno, "%s", path);
    }
    if (fd >= 0) {
        close(fd);
    }
    return code;
}

static sb_code_t make_folders(const sb_layout_t *l, sb_err_t *err)
{
    const struct {
        const char *name;
        uid_t uid;
        gid_t gid;
        mode_t mode;
    } folders[] = {
        {"logs", 0, 0, 0755},
        {"tmp", 0, 0, 0755},
        {"store", l->worker.uid, l->worker.gid, 0700},
        {"helper", l->helper.uid, l->helper.gid, 0700},
        {"artifacts", l->helper.uid, l->worker.gid, 02750},
        {"run", l->helper.uid, l->worker.gid, 02750},
        {"runtimes", l->helper.uid, l->helper.gid, 0755},
    };

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        sb_code_t code =
            make_folder(l, folders[i].name, folders[i].uid, folders[i].gid, folders[i].mode, err);
        if (code != SB_OK) {
            return code;
        }
    }
    return SB_OK;
}

/* ---- can the service users get there? ---- */

static bool try_access(void *path, int out_fd)
{
    (void)out_fd;
    return access(path, X_OK) == 0;
}

static bool user_reaches(const sb_user_t *user, char *path)
{
    char none[1];

    return sb_proc_call_as(user->uid, user->gid, try_access, path, none, sizeof(none));
}

sb_code_t sb_layout_make(sb_layout_t *l, sb_err_t *err)
{
    sb_code_t code = choose_users(l, err);

    if (code == SB_OK) {
        code = make_folders(l, err);
    }
    if (code != SB_OK || !l->root) {
        return code;
    }
    const sb_user_t *users[] = {&l->worker, &l->helper};
    for (size_t i = 0; i < 2; i++) {
        if (!user_reaches(users[i], l->dir)) {
            return sb_err_set(err, SB_EFORBIDDEN,
                              "user %s can't enter %s because a folder above is closed to others; "
                              "choose another place with --state, e.g. /var/lib/skillbox",
                              users[i]->name, l->dir);
        }
    }
    return SB_OK;
}

/* ---- the helper's programs ---- */

static sb_code_t copy_bytes(int from, int to, const char *path, sb_err_t *err)
{
    ssize_t n;

    while ((n = sendfile(to, from, NULL, 1 << 20)) > 0) {
    }
    return n == 0 ? SB_OK : sb_err_errno(err, errno, "%s", path);
}

static sb_code_t copy_program(const char *from, const char *to, sb_err_t *err)
{
    sb_code_t code;
    int out = -1;
    int in = open(from, O_RDONLY | O_CLOEXEC);

    if (in < 0) {
        return sb_err_errno(err, errno, "%s", from);
    }
    if (unlink(to) != 0 && errno != ENOENT) { /* it may be running: never written in place */
        code = sb_err_errno(err, errno, "%s", to);
        goto done;
    }
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    if (out < 0) {
        code = sb_err_errno(err, errno, "%s", to);
        goto done;
    }
    code = copy_bytes(in, out, to, err);
    if (code == SB_OK && fchmod(out, 0755) != 0) {
        code = sb_err_errno(err, errno, "%s", to);
    }
done:
    close(in);
    if (out >= 0) {
        close(out);
    }
    return code;
}

static sb_code_t path_beside(const char *program, const char *name, char out[SB_STATE_PATH_MAX],
                             sb_err_t *err)
{
    int folder = (int)(strrchr(program, '/') - program);

    if (snprintf(out, SB_STATE_PATH_MAX, "%.*s/%s", folder, program, name) >= SB_STATE_PATH_MAX) {
        return sb_err_set(err, SB_EINVAL, "the path of %s is too long", program);
    }
    return SB_OK;
}

/* Can the helper's user run all of the programs where they are? */
static sb_code_t all_reachable(const sb_layout_t *l, const sb_install_t *install, bool *yes,
                               sb_err_t *err)
{
    char path[SB_STATE_PATH_MAX];

    *yes = true;
    for (const char *const *name = sb_helper_programs; *name != NULL; name++) {
        sb_code_t code = path_beside(install->helper, *name, path, err);

        if (code != SB_OK) {
            return code;
        }
        *yes = *yes && user_reaches(&l->helper, path);
    }
    return SB_OK;
}

sb_code_t sb_layout_place_helper(const sb_layout_t *l, sb_install_t *install, sb_err_t *err)
{
    char from[SB_STATE_PATH_MAX], to[SB_STATE_PATH_MAX];
    bool reachable;
    sb_code_t code;

    if (!l->root) {
        return SB_OK;
    }
    code = all_reachable(l, install, &reachable, err);
    if (code != SB_OK || reachable) {
        return code;
    }
    code = make_folder(l, "bin", 0, 0, 0755, err);
    for (const char *const *name = sb_helper_programs; code == SB_OK && *name != NULL; name++) {
        if ((code = path_beside(install->helper, *name, from, err)) == SB_OK &&
            snprintf(to, sizeof(to), "%s/bin/%s", l->dir, *name) < (int)sizeof(to)) {
            code = copy_program(from, to, err);
        }
    }
    if (code == SB_OK) {
        snprintf(install->helper, sizeof(install->helper), "%.*s/bin/%s", 200, l->dir,
                 sb_helper_programs[0]);
    }
    return code;
}
