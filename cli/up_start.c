/*
 * up_start.c - starting and stopping the gateway of a state folder; see up.h.
 * Starts nginx and sandbox-helper; as root both give root up for their work
 * themselves (nginx's `user`, the helper's `user`).
 */
#include "up.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "key.h"
#include "output.h"
#include "templates.h"

#define READY_WAIT_MS  20000
#define READY_STEP_MS  50
#define READY_CALL_MS  2000
#define CONFIG_MAX     65536
#define LOG_TAIL_LINES 12
#define LOG_TAIL_BYTES 8192
#define KILL_WAIT_MS   5000
#define QUICK_STOP_MS  3000

static void sleep_ms(int ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&ts, NULL);
}

/* ---- port ---- */

/* Binds 127.0.0.1:port (0: any) for a moment; the port, or -1 with errno. */
static int probe_port(int port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, result = -1;

    if (fd < 0) {
        return -1;
    }
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* as nginx will: connections that linger from an earlier gateway don't matter */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 && listen(fd, 1) == 0 &&
        getsockname(fd, (struct sockaddr *)&sin, &len) == 0) {
        result = ntohs(sin.sin_port);
    }
    int e = errno;
    close(fd);
    errno = e;
    return result;
}

static sb_code_t choose_port(int wanted, int used_before, int *port, sb_err_t *err)
{
    if (wanted != 0) {
        *port = probe_port(wanted);
        return *port > 0 ? SB_OK : sb_err_errno(err, errno, "port %d can't be used", wanted);
    }
    if (used_before > 0 && (*port = probe_port(used_before)) > 0) {
        return SB_OK;
    }
    *port = probe_port(0);
    return *port > 0 ? SB_OK : sb_err_errno(err, errno, "no free port");
}

/* ---- files ---- */

static sb_code_t write_sign_key(const char *dir, sb_err_t *err)
{
    char path[SB_STATE_PATH_MAX];
    unsigned char secret[SB_SHA256_LEN];
    char hex[SB_SHA256_HEX + 1];
    sb_code_t code = sb_state_path(dir, "sign.key", path, err);

    if (code != SB_OK || access(path, F_OK) == 0) {
        return code;
    }
    if (getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret)) {
        return sb_err_errno(err, errno, "getrandom");
    }
    sb_hex(secret, sizeof(secret), hex);
    return sb_state_write_file(dir, "sign.key", hex, SB_SHA256_HEX, err);
}

static sb_code_t write_template(const char *dir, const char *name, sb_buf_t *text, sb_err_t *err)
{
    sb_code_t code = sb_buf_ok(text) ? sb_state_write_file(dir, name, text->data, text->len, err)
                                     : sb_err_set(err, SB_EINTERNAL, "%s is too long", name);

    sb_buf_free(text);
    return code;
}

static sb_code_t write_config(const sb_layout_t *l, const sb_install_t *install, int port,
                              sb_err_t *err)
{
    char path[SB_STATE_PATH_MAX];
    sb_buf_t text = SB_BUF_INIT(CONFIG_MAX);
    sb_code_t code = write_sign_key(l->dir, err);

    if (code == SB_OK) {
        sb_template_nginx(&text, l, install, port);
        code = write_template(l->dir, "nginx.conf", &text, err);
    }
    if (code == SB_OK) {
        sb_template_helper(&text, l);
        code = write_template(l->dir, "helper.yaml", &text, err);
    }
    /* the helper may read its file after it gave root up */
    if (code == SB_OK && (code = sb_state_path(l->dir, "helper.yaml", path, err)) == SB_OK &&
        l->root && chmod(path, 0644) != 0) {
        code = sb_err_errno(err, errno, "%s", path);
    }
    return code;
}

/* ---- processes ---- */

static sb_code_t start_helper(const sb_layout_t *l, const sb_install_t *install, sb_state_t *state,
                              sb_err_t *err)
{
    char config[SB_STATE_PATH_MAX], log[SB_STATE_PATH_MAX];
    char *argv[] = {(char *)install->helper, "-c", config, NULL};
    sb_code_t code = sb_state_path(l->dir, "helper.yaml", config, err);

    if (code == SB_OK) {
        code = sb_state_path(l->dir, "logs/helper.log", log, err);
    }
    return code == SB_OK ? sb_proc_spawn(argv, l->dir, log, &state->helper, err) : code;
}

static sb_code_t start_nginx(const sb_layout_t *l, const sb_install_t *install, sb_state_t *state,
                             sb_err_t *err)
{
    char config[SB_STATE_PATH_MAX], log[SB_STATE_PATH_MAX], socket_path[SB_STATE_PATH_MAX];
    char *argv[] = {(char *)install->nginx, "-p", (char *)l->dir, "-e", log, "-c", config, NULL};
    sb_code_t code = sb_state_path(l->dir, "nginx.conf", config, err);

    if (code == SB_OK) {
        code = sb_state_path(l->dir, "logs/error.log", log, err);
    }
    /* nginx does not start over a socket that one left which was killed */
    if (code == SB_OK) {
        code = sb_state_path(l->dir, SB_DONE_NAME, socket_path, err);
    }
    if (code == SB_OK && unlink(socket_path) != 0 && errno != ENOENT) {
        code = sb_err_errno(err, errno, "%s", socket_path);
    }
    return code == SB_OK ? sb_proc_spawn(argv, l->dir, log, &state->nginx, err) : code;
}

/* Why the gateway is not ready, in a sentence of the server's own words. */
static void not_ready_reason(const sb_reply_t *reply, char *out, size_t size)
{
    const char *text = reply->body.data != NULL ? reply->body.data : "";
    json_t *root = json_loadb(text, reply->body.len, 0, NULL);
    json_t *checks = json_object_get(root, "checks"), *v;
    const char *name;
    size_t used = 0;

    snprintf(out, size, "/ready answered HTTP %ld", reply->status);
    json_object_foreach(checks, name, v)
    {
        const char *s = json_string_value(v);

        if (s != NULL && strcmp(s, "ok") != 0 && used < size) {
            used += (size_t)snprintf(out + used, size - used, "%s%s: %s", used > 0 ? "; " : "",
                                     name, s);
        }
    }
    json_decref(root);
}

static bool is_ready(const sb_state_t *state, char *reason, size_t size)
{
    sb_server_t server = {.key = NULL};
    sb_call_t call = SB_CALL("GET", "/ready");
    sb_reply_t reply;
    sb_err_t err;

    snprintf(server.url, sizeof(server.url), "%s", state->url);
    call.timeout_ms = READY_CALL_MS;
    bool ready = false;
    if (sb_call(&server, &call, &reply, &err) != SB_OK) {
        snprintf(reason, size, "%s", err.message);
    } else if (reply.status == 200) {
        ready = true;
    } else {
        not_ready_reason(&reply, reason, size);
    }
    sb_reply_free(&reply);
    return ready;
}

static bool try_connect(void *ctx, int out_fd)
{
    const sb_layout_t *l = ctx;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)out_fd;
    snprintf(un.sun_path, sizeof(un.sun_path), "%.*s/" SB_SOCKET_NAME,
             (int)(sizeof(un.sun_path) - sizeof("/" SB_SOCKET_NAME)), l->dir);
    return fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0;
}

/*
 * The helper listens when it can work.  nginx is started after that: its workers would
 * remember a helper that is not there for a moment, each for itself.
 */
static bool helper_listens(const sb_layout_t *l, const sb_state_t *state, char *reason, size_t size)
{
    char none[1];

    (void)state;
    snprintf(reason, size, "the helper does not listen");
    return sb_proc_call_as(l->worker.uid, l->worker.gid, try_connect, (void *)l, none,
                           sizeof(none));
}

static bool gateway_is_ready(const sb_layout_t *l, const sb_state_t *state, char *reason,
                             size_t size)
{
    (void)l;
    return is_ready(state, reason, size);
}

typedef bool (*ready_fn)(const sb_layout_t *l, const sb_state_t *state, char *reason, size_t size);

/* Asks until it is so; gives up when a process that was started ends, or after READY_WAIT_MS. */
static sb_code_t wait_until(ready_fn ready, const sb_layout_t *l, const sb_state_t *state,
                            sb_err_t *err)
{
    char reason[512] = "";
    struct timespec begin, now;
    sb_progress_t progress;
    bool helper, nginx, done;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    sb_progress_start(&progress);
    do {
        done = ready(l, state, reason, sizeof(reason));
        if (!done) {
            sb_progress_show(&progress, "starting", 0, 0);
            sleep_ms(READY_STEP_MS);
        }
        helper = sb_proc_alive(&state->helper);
        nginx = state->nginx.pid == 0 || sb_proc_alive(&state->nginx);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (!done && helper && nginx && (now.tv_sec - begin.tv_sec) * 1000 < READY_WAIT_MS);
    sb_progress_end(&progress);
    if (!helper || !nginx) {
        return sb_err_set(err, SB_ESYSTEM, "%s ended while it was starting",
                          helper ? "nginx" : "sandbox-helper");
    }
    return done ? SB_OK
                : sb_err_set(err, SB_ETIMEOUT, "not ready after %d s: %s", READY_WAIT_MS / 1000,
                             reason);
}

/* Prints the last lines of a log below the state folder. */
static void print_tail(const char *dir, const char *name)
{
    char path[SB_STATE_PATH_MAX], text[LOG_TAIL_BYTES];

    if (sb_state_path(dir, name, path, NULL) != SB_OK) {
        return;
    }
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    off_t end = lseek(fd, 0, SEEK_END);
    ssize_t n = pread(fd, text, sizeof(text), end > LOG_TAIL_BYTES ? end - LOG_TAIL_BYTES : 0);
    close(fd);
    if (n <= 0) {
        return;
    }
    ssize_t from = n - 1;
    for (int lines = 0; from > 0; from--) {
        if (text[from - 1] == '\n' && ++lines == LOG_TAIL_LINES) {
            break;
        }
    }
    sb_say("--- %s", path);
    sb_print_safe(stderr, text + from, (size_t)(n - from), true);
}

static sb_code_t start_both(const sb_layout_t *l, const sb_install_t *install, sb_state_t *state,
                            sb_err_t *err)
{
    sb_code_t code = start_helper(l, install, state, err);

    if (code == SB_OK) {
        code = sb_state_save(l->dir, state, err);
    }
    if (code == SB_OK) {
        code = wait_until(helper_listens, l, state, err);
    }
    if (code == SB_OK) {
        code = start_nginx(l, install, state, err);
    }
    if (code == SB_OK) {
        code = sb_state_save(l->dir, state, err);
    }
    return code == SB_OK ? wait_until(gateway_is_ready, l, state, err) : code;
}

bool sb_up_start(const sb_layout_t *l, sb_install_t *install, int port, sb_state_t *state)
{
    sb_err_t err;
    int used_before = state->port;
    sb_code_t code = choose_port(port, used_before, &state->port, &err);

    snprintf(state->url, sizeof(state->url), "http://127.0.0.1:%d", state->port);
    if (code != SB_OK || write_config(l, install, state->port, &err) != SB_OK) {
        sb_say_err(&err);
        return false;
    }
    if (start_both(l, install, state, &err) == SB_OK) {
        return true;
    }
    sb_say_error("the gateway did not start: %s", err.message);
    print_tail(l->dir, "logs/helper.log");
    print_tail(l->dir, "logs/error.log");
    sb_up_stop(l->dir, state, QUICK_STOP_MS);
    return false;
}

bool sb_up_stop(const char *dir, sb_state_t *state, int grace_ms)
{
    sb_err_t err;
    bool gone;

    /* nginx first, so that nothing new reaches the helper: requests in flight, then at once, then
     * by force */
    if (!sb_proc_signal_wait(&state->nginx, SIGQUIT, grace_ms)) {
        sb_proc_signal_wait(&state->nginx, SIGTERM, KILL_WAIT_MS);
    }
    gone = sb_proc_kill_session(&state->nginx, dir, KILL_WAIT_MS);
    if (!sb_proc_signal_wait(&state->helper, SIGTERM, grace_ms)) {
        gone = sb_proc_signal_wait(&state->helper, SIGKILL, KILL_WAIT_MS) && gone;
    }
    if (!gone) {
        sb_say_error("some processes of %s could not be stopped", dir);
        return false;
    }
    memset(&state->nginx, 0, sizeof(state->nginx));
    memset(&state->helper, 0, sizeof(state->helper));
    if (sb_state_save(dir, state, &err) != SB_OK) {
        sb_say_err(&err);
        return false;
    }
    return true;
}

/* ---- the key ---- */

static bool key_works(const sb_state_t *state, const char *key)
{
    sb_server_t server = {.key = key};
    sb_call_t call = SB_CALL("GET", "/v1/skills");
    sb_reply_t reply;
    sb_err_t err;
    bool works;

    snprintf(server.url, sizeof(server.url), "%s", state->url);
    call.timeout_ms = READY_CALL_MS;
    works = sb_call(&server, &call, &reply, &err) == SB_OK && reply.status == 200;
    sb_reply_free(&reply);
    return works;
}

/* In a child that is the store's owner: writes "+<key>", or "-<what went wrong>". */
static bool make_key_child(void *ctx, int out_fd)
{
    const sb_layout_t *l = ctx;
    char store[SB_STATE_PATH_MAX], secret[SB_APIKEY_LEN + 1], text[600];
    sb_key_t key = {
        .tenant = "default", .name = "skillbox up", .role = SB_ROLE_ADMIN, .service = true};
    sb_err_t err;
    int n;

    if (sb_state_path(l->dir, "store", store, &err) == SB_OK &&
        sb_key_make(store, &key, secret, &err) == SB_OK) {
        n = snprintf(text, sizeof(text), "+%s", secret);
    } else {
        n = snprintf(text, sizeof(text), "-%s", err.message);
    }
    return write(out_fd, text, (size_t)n) == n;
}

sb_code_t sb_up_ensure_key(const sb_layout_t *l, const sb_state_t *state,
                           char key[SB_APIKEY_LEN + 1], sb_err_t *err)
{
    char text[640];

    sb_state_key_load(l->dir, key);
    if (key[0] != '\0' && key_works(state, key)) {
        return SB_OK;
    }
    if (!sb_proc_call_as(l->worker.uid, l->worker.gid, make_key_child, (void *)l, text,
                         sizeof(text))) {
        return sb_err_set(err, SB_ESYSTEM, "the process that makes the admin key failed");
    }
    if (text[0] != '+' || !sb_apikey_wellformed(text + 1, strlen(text + 1))) {
        return sb_err_set(err, SB_ESYSTEM, "can't make the admin key: %s", text + 1);
    }
    memcpy(key, text + 1, SB_APIKEY_LEN + 1);
    text[SB_APIKEY_LEN + 1] = '\n';
    return sb_state_write_file(l->dir, "api-key", text + 1, SB_APIKEY_LEN + 1, err);
}
