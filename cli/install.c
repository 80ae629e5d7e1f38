/*
 * install.c - see install.h.  Only looks at the file system.
 */
#include "install.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../libskillbox/limits.h"

#define MODULE_NAME "ngx_http_skillbox_module.so"

const char *const sb_helper_programs[] = {"sandbox-helper", "sandbox-stage", "sandbox-packer",
                                          NULL};

static bool is_there(const char *path, int mode, char out[SB_STATE_PATH_MAX])
{
    char *real = realpath(path, NULL);
    bool ok = real != NULL && strlen(real) < SB_STATE_PATH_MAX && access(real, mode) == 0;

    if (ok) {
        strcpy(out, real);
    }
    free(real);
    return ok;
}

static bool in_folder(const char *folder, const char *name, int mode, char out[SB_STATE_PATH_MAX])
{
    char path[2 * SB_STATE_PATH_MAX];

    return snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path) &&
           is_there(path, mode, out);
}

static bool in_path(const char *name, char out[SB_STATE_PATH_MAX])
{
    const char *path = getenv("PATH");
    char folder[SB_STATE_PATH_MAX];

    while (path != NULL && *path != '\0') {
        size_t len = strcspn(path, ":");

        /* only absolute folders: what lies in the current one is not ours to run */
        if (len < sizeof(folder) && path[0] == '/') {
            memcpy(folder, path, len);
            folder[len] = '\0';
            if (in_folder(folder, name, X_OK, out)) {
                return true;
            }
        }
        path += len + (path[len] == ':');
    }
    return false;
}

/* First of the folders (NULL-terminated) that has the file. */
static bool in_folders(const char *const *folders, const char *name, int mode,
                       char out[SB_STATE_PATH_MAX])
{
    for (; *folders != NULL; folders++) {
        if (in_folder(*folders, name, mode, out)) {
            return true;
        }
    }
    return false;
}

static bool own_folder(char out[SB_STATE_PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, SB_STATE_PATH_MAX - 1);

    if (n <= 0) {
        return false;
    }
    out[n] = '\0';
    *strrchr(out, '/') = '\0';
    return true;
}

static sb_code_t find_nginx(const char *given, sb_install_t *out, sb_err_t *err)
{
    static const char *const folders[] = {"/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin",
                                          NULL};

    if (given != NULL
            ? is_there(given, X_OK, out->nginx)
            : in_folders(folders, "nginx", X_OK, out->nginx) || in_path("nginx", out->nginx)) {
        return SB_OK;
    }
    if (given != NULL) {
        return sb_err_set(err, SB_EINVAL, "%s is not a program that can be run", given);
    }
    return sb_err_set(err, SB_ENOTFOUND, "nginx was not found; install it, or give --nginx");
}

static sb_code_t find_helper(const char *given, const char *own, sb_install_t *out, sb_err_t *err)
{
    const char *const folders[] = {own, SB_LIBEXECDIR, SB_PREFIX "/sbin", NULL};

    if (given != NULL ? is_there(given, X_OK, out->helper)
                      : in_folders(folders, "sandbox-helper", X_OK, out->helper) ||
                            in_path("sandbox-helper", out->helper)) {
        return SB_OK;
    }
    if (given != NULL) {
        return sb_err_set(err, SB_EINVAL, "%s is not a program that can be run", given);
    }
    return sb_err_set(err, SB_ENOTFOUND,
                      "sandbox-helper was not found beside skillbox nor in %s; give --helper",
                      SB_LIBEXECDIR);
}

static sb_code_t find_module(const char *given, const char *own, sb_install_t *out, sb_err_t *err)
{
    static const char installed[] = SB_PREFIX "/lib/nginx/modules";
    char beside[SB_STATE_PATH_MAX + 16];
    const char *const folders[] = {beside, installed, "/usr/lib/nginx/modules",
                                   "/usr/share/nginx/modules", NULL};

    out->module[0] = '\0';
    if (given != NULL && strcmp(given, "static") == 0) {
        return SB_OK;
    }
    if (given != NULL) {
        return is_there(given, R_OK, out->module)
                   ? SB_OK
                   : sb_err_set(err, SB_EINVAL, "%s can't be read", given);
    }
    snprintf(beside, sizeof(beside), "%s/../nginx", own);
    if (in_folders(folders, MODULE_NAME, R_OK, out->module)) {
        return SB_OK;
    }
    return sb_err_set(err, SB_ENOTFOUND,
                      MODULE_NAME " was not found; build it with `make`, or give --module");
}

sb_code_t sb_install_program(const char *name, char out[SB_STATE_PATH_MAX], sb_err_t *err)
{
    char own[SB_STATE_PATH_MAX];
    const char *const folders[] = {own, SB_LIBEXECDIR, SB_PREFIX "/sbin", NULL};

    if (!own_folder(own)) {
        return sb_err_set(err, SB_ESYSTEM, "can't tell where this program is");
    }
    if (in_folders(folders, name, X_OK, out) || in_path(name, out)) {
        return SB_OK;
    }
    return sb_err_set(err, SB_ENOTFOUND, "%s was not found beside skillbox nor in %s", name,
                      SB_LIBEXECDIR);
}

sb_code_t sb_install_find(const char *nginx, const char *helper, const char *module,
                          sb_install_t *out, sb_err_t *err)
{
    char own[SB_STATE_PATH_MAX];
    sb_code_t code;

    if (!own_folder(own)) {
        return sb_err_set(err, SB_ESYSTEM, "can't tell where this program is");
    }
    code = find_nginx(nginx, out, err);
    if (code == SB_OK) {
        code = find_helper(helper, own, out, err);
    }
    if (code == SB_OK) {
        code = find_module(module, own, out, err);
    }
    return code;
}
