/*
 * state.c - see state.h.  Touches files below the state folder only.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#define STATE_FILE_MAX 8192
#define LOCK_WAIT_MS   60000
#define LOCK_STEP_MS   50

const char *sb_state_folder(const sb_args_t *args)
{
    const char *dir = sb_args_get(args, "state");

    if (dir == NULL) {
        dir = getenv("SKILLBOX_STATE");
    }
    return dir != NULL && dir[0] != '\0' ? dir : ".skillbox";
}

sb_code_t sb_state_path(const char *dir, const char *name, char out[SB_STATE_PATH_MAX],
                        sb_err_t *err)
{
    if (snprintf(out, SB_STATE_PATH_MAX, "%s/%s", dir, name) >= SB_STATE_PATH_MAX) {
        return sb_err_set(err, SB_EINVAL, "the state folder's path is too long: %s", dir);
    }
    return SB_OK;
}

/* Reads a small file of ours; SB_EFORBIDDEN when it is neither the caller's nor root's. */
static sb_code_t read_own_file(const char *dir, const char *name, char *buf, size_t size,
                               sb_err_t *err)
{
    char path[SB_STATE_PATH_MAX];
    sb_code_t code = sb_state_path(dir, name, path, err);
    struct stat st;
    ssize_t n;

    if (code != SB_OK) {
        return code;
    }
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return sb_err_set(err, SB_ENOTFOUND, "no gateway was started in %s", dir);
    }
    if (fd < 0 && errno == EACCES) {
        return sb_err_set(err, SB_EFORBIDDEN, "%s can be read by its owner only", path);
    }
    if (fd < 0) {
        return sb_err_errno(err, errno, "%s", path);
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != 0)) {
        close(fd);
        return sb_err_set(err, SB_EFORBIDDEN, "%s belongs to another user and is not trusted",
                          path);
    }
    n = read(fd, buf, size - 1);
    close(fd);
    if (n < 0) {
        return sb_err_errno(err, errno, "%s", path);
    }
    buf[n] = '\0';
    return SB_OK;
}

static void proc_from_json(const json_t *root, const char *name, sb_proc_t *p)
{
    const json_t *o = json_object_get(root, name);
    const char *boot = json_string_value(json_object_get(o, "boot"));

    p->pid = (pid_t)json_integer_value(json_object_get(o, "pid"));
    p->start = (uint64_t)json_integer_value(json_object_get(o, "start"));
    snprintf(p->boot, sizeof(p->boot), "%s", boot != NULL ? boot : "");
}

sb_code_t sb_state_load(const char *dir, sb_state_t *state, sb_err_t *err)
{
    char text[STATE_FILE_MAX];
    sb_code_t code = read_own_file(dir, "state.json", text, sizeof(text), err);

    if (code != SB_OK) {
        return code;
    }
    json_t *root = json_loads(text, 0, NULL);
    const char *url = json_string_value(json_object_get(root, "url"));

    if (url == NULL) {
        json_decref(root);
        return sb_err_set(err, SB_EINVAL, "%s/state.json is damaged; remove it", dir);
    }
    snprintf(state->url, sizeof(state->url), "%s", url);
    state->port = (int)json_integer_value(json_object_get(root, "port"));
    proc_from_json(root, "nginx", &state->nginx);
    proc_from_json(root, "helper", &state->helper);
    json_decref(root);
    return SB_OK;
}

static json_t *proc_to_json(const sb_proc_t *p)
{
    return json_pack("{s:i, s:I, s:s}", "pid", (int)p->pid, "start", (json_int_t)p->start, "boot",
                     p->boot);
}

sb_code_t sb_state_save(const char *dir, const sb_state_t *state, sb_err_t *err)
{
    json_t *root =
        json_pack("{s:s, s:i, s:o, s:o}", "url", state->url, "port", state->port, "nginx",
                  proc_to_json(&state->nginx), "helper", proc_to_json(&state->helper));
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    sb_code_t code;

    if (text == NULL) {
        code = sb_err_errno(err, ENOMEM, "state.json");
    } else {
        code = sb_state_write_file(dir, "state.json", text, strlen(text), err);
    }
    free(text);
    json_decref(root);
    return code;
}

bool sb_state_running(const sb_state_t *state)
{
    return sb_proc_alive(&state->nginx) && sb_proc_alive(&state->helper);
}

void sb_state_key_load(const char *dir, char key[SB_APIKEY_LEN + 1])
{
    char text[128];

    key[0] = '\0';
    if (read_own_file(dir, "api-key", text, sizeof(text), NULL) != SB_OK) {
        return;
    }
    text[strcspn(text, "\n")] = '\0';
    if (sb_apikey_wellformed(text, strlen(text))) {
        memcpy(key, text, SB_APIKEY_LEN + 1);
    }
}

static sb_code_t write_and_sync(int fd, const char *path, const void *data, size_t len,
                                sb_err_t *err)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return sb_err_errno(err, errno, "%s", path);
        }
        p += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? SB_OK : sb_err_errno(err, errno, "%s", path);
}

sb_code_t sb_state_write_file(const char *dir, const char *name, const void *data, size_t len,
                              sb_err_t *err)
{
    char path[SB_STATE_PATH_MAX], temp[SB_STATE_PATH_MAX + 8];
    sb_code_t code = sb_state_path(dir, name, path, err);

    if (code != SB_OK) {
        return code;
    }
    snprintf(temp, sizeof(temp), "%s.new", path);
    unlink(temp); /* of an earlier crash; the lock is held */
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return sb_err_errno(err, errno, "%s", temp);
    }
    code = write_and_sync(fd, temp, data, len, err);
    close(fd);
    if (code == SB_OK && rename(temp, path) != 0) {
        code = sb_err_errno(err, errno, "%s", path);
    }
    if (code != SB_OK) {
        unlink(temp);
    }
    return code;
}

int sb_state_lock(const char *dir, sb_err_t *err)
{
    char path[SB_STATE_PATH_MAX];
    struct timespec step = {.tv_nsec = LOCK_STEP_MS * 1000000L};

    if (sb_state_path(dir, SB_STATE_LOCK, path, err) != SB_OK) {
        return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        sb_err_errno(err, errno, "%s", path);
        return -1;
    }
    for (int waited = 0; waited < LOCK_WAIT_MS; waited += LOCK_STEP_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return fd;
        }
        nanosleep(&step, NULL);
    }
    close(fd);
    sb_err_set(err, SB_EBUSY, "another `skillbox up` or `down` works on %s", dir);
    return -1;
}
