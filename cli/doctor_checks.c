/*
 * doctor_checks.c - the checks of `skillbox doctor`, one function each; see doctor.h.
 * They read, connect and start sandbox-helper --check; they change nothing but the
 * process's own user (the store is opened as its owner).
 */
#include "doctor.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "../libskillbox/store.h"
#include "../libskillbox/units.h"
#include "cli.h"
#include "client.h"
#include "output.h"
#include "runtime.h"

#define CALL_MS   5000
#define SOON_MS   (7 * 86400000LL)
#define FREE_WARN (2 * SB_GIB)
#define FREE_FAIL (256 * SB_MIB)

#define SYSTEM_FOLDER "/var/lib/skillbox/"

/* ---- host ---- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s != NULL ? s : "";
}

/* "HOST-USER-NAMESPACES" of "user namespaces". */
static void host_code(const char *what, char out[40])
{
    size_t n = (size_t)snprintf(out, 40, "HOST-");

    for (; *what != '\0' && n < 39; what++) {
        out[n++] = isalnum((unsigned char)*what) ? (char)toupper((unsigned char)*what) : '-';
    }
    out[n] = '\0';
}

void sb_doctor_host(sb_doctor_t *d)
{
    json_t *report, *line;
    size_t i;

    fflush(stdout);
    report = sb_runtime_report(d->args);
    if (report == NULL) {
        sb_doctor_say(d, DOCTOR_ERROR, "HOST-CHECK", "sandbox-helper -c helper.yaml --check",
                      "the host could not be checked, the message is above");
        return;
    }
    json_array_foreach(json_object_get(report, "checks"), i, line)
    {
        long long verdict = (long long)json_integer_value(json_object_get(line, "verdict"));
        const char *fix = text_of(line, "remedy");
        char code[40];

        host_code(text_of(line, "what"), code);
        sb_doctor_say(d,
                      verdict <= 0   ? DOCTOR_OK
                      : verdict == 1 ? DOCTOR_WARNING
                                     : DOCTOR_ERROR,
                      code, fix[0] != '\0' ? fix : NULL, "%s: %s", text_of(line, "what"),
                      text_of(line, "found"));
    }
    json_decref(report);
}

/* ---- files ---- */

/* Must not give others more than `allowed`. */
static void check_mode(sb_doctor_t *d, const char *path, mode_t allowed, const char *code)
{
    char fix[SB_STATE_PATH_MAX + 40];
    struct stat st;

    if (lstat(path, &st) != 0) {
        return; /* not there, or closed to us: fine both */
    }
    if ((st.st_mode & 07777 & ~(allowed | S_ISGID)) == 0) {
        sb_doctor_say(d, DOCTOR_OK, code, NULL, "%s has mode %04o", path,
                      (unsigned)st.st_mode & 07777);
        return;
    }
    snprintf(fix, sizeof(fix), "chmod %04o %s", (unsigned)(st.st_mode & allowed), path);
    sb_doctor_say(d, DOCTOR_ERROR, code, fix, "%s has mode %04o: others can get at it", path,
                  (unsigned)st.st_mode & 07777);
}

void sb_doctor_files(sb_doctor_t *d)
{
    static const struct {
        const char *name, *system, *code;
        mode_t allowed;
    } files[] = {
        {"api-key", NULL, "FILE-API-KEY", 0600},
        {"sign.key", "/etc/nginx/skillbox.key", "FILE-SIGN-KEY", 0600},
        {"helper.yaml", "/etc/skillbox/helper.yaml", "FILE-HELPER-YAML", 0644},
        {"helper", "/var/lib/skillbox/helper", "FILE-HELPER-STATE", 0700},
    };
    char path[SB_STATE_PATH_MAX];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (d->have_state &&
            sb_state_path(sb_state_folder(d->args), files[i].name, path, NULL) == SB_OK) {
            check_mode(d, path, files[i].allowed, files[i].code);
        } else if (!d->have_state && files[i].system != NULL) {
            check_mode(d, files[i].system, files[i].allowed, files[i].code);
        }
    }
    if (d->store[0] != '\0') {
        check_mode(d, d->store, 0700, "FILE-STORE");
    }
}

/* ---- disk ---- */

static void check_space(sb_doctor_t *d, const char *path, const char *code)
{
    char room[32];
    struct statvfs fs;

    if (statvfs(path, &fs) != 0) {
        return;
    }
    int64_t bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    sb_bytes_format(bytes, room);
    if (bytes < FREE_FAIL || (fs.f_files > 0 && fs.f_favail < 1000)) {
        sb_doctor_say(d, DOCTOR_ERROR, code, "make room, or move it to a larger file system",
                      "%s has %s and %llu files left", path, room, (unsigned long long)fs.f_favail);
    } else if (bytes < FREE_WARN) {
        sb_doctor_say(d, DOCTOR_WARNING, code, "make room, or move it to a larger file system",
                      "%s has %s left", path, room);
    } else {
        sb_doctor_say(d, DOCTOR_OK, code, NULL, "%s has %s left", path, room);
    }
}

/* A folder beside the store, when it is on another file system. */
static void check_other(sb_doctor_t *d, const char *name, const char *code)
{
    char path[SB_STATE_PATH_MAX];
    struct stat st, store;

    if (!d->have_state) {
        snprintf(path, sizeof(path), SYSTEM_FOLDER "%s", name);
    } else if (sb_state_path(sb_state_folder(d->args), name, path, NULL) != SB_OK) {
        return;
    }
    if (stat(path, &st) == 0 &&
        (d->store[0] == '\0' || stat(d->store, &store) != 0 || st.st_dev != store.st_dev)) {
        check_space(d, path, code);
    }
}

void sb_doctor_disk(sb_doctor_t *d)
{
    if (d->store[0] != '\0') {
        check_space(d, d->store, "DISK-STORE");
    }
    check_other(d, "artifacts", "DISK-ARTIFACTS");
    check_other(d, "helper", "DISK-HELPER");
    check_space(d, "/tmp", "DISK-TMP");
}

/* ---- clock ---- */

void sb_doctor_clock(sb_doctor_t *d)
{
    struct timex t = {.modes = 0};
    int state = adjtimex(&t);

    if (sb_time_now_ms() < 1735689600000) { /* 2025 */
        sb_doctor_say(d, DOCTOR_ERROR, "CLOCK", "timedatectl set-ntp true",
                      "the clock is years behind: keys expire and links work too late");
    } else if (state == TIME_ERROR || (t.status & STA_UNSYNC) != 0) {
        sb_doctor_say(d, DOCTOR_WARNING, "CLOCK", "timedatectl set-ntp true",
                      "the kernel does not know the clock to be synchronized");
    } else {
        sb_doctor_say(d, DOCTOR_OK, "CLOCK", NULL, "the clock is synchronized");
    }
}

/* ---- listeners ---- */

/* Does a line of /proc/net/tcp{,6} listen on that port for others than this host? */
static bool is_exposed(const char *line, int port, bool v6, char text[INET6_ADDRSTRLEN])
{
    unsigned local_port, state;
    uint32_t a[4] = {0};
    char hex[40];

    if (sscanf(line, " %*d: %32[0-9A-F]:%x %*[0-9A-F]:%*x %x", hex, &local_port, &state) != 3 ||
        state != 0x0a || (int)local_port != port) {
        return false;
    }
    for (int i = 0; i < (v6 ? 4 : 1); i++) {
        char part[9] = "";

        memcpy(part, hex + 8 * i, 8);
        a[i] = (uint32_t)strtoul(part, NULL, 16); /* as it lies in memory */
    }
    inet_ntop(v6 ? AF_INET6 : AF_INET, a, text, INET6_ADDRSTRLEN);
    return v6 ? strcmp(text, "::1") != 0 && strncmp(text, "::ffff:127.", 11) != 0
              : strncmp(text, "127.", 4) != 0;
}

static bool find_exposed(const char *table, int port, bool v6, char text[INET6_ADDRSTRLEN])
{
    FILE *f = fopen(table, "re");
    char line[512];
    bool found = false;

    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
        found = is_exposed(line, port, v6, text);
    }
    if (f != NULL) {
        fclose(f);
    }
    return found;
}

/* The port of an http:// URL; 0 for https, which may be listened to by everyone. */
static int plain_port(const char *url)
{
    const char *colon;

    if (strncmp(url, "http://", 7) != 0) {
        return 0;
    }
    colon = strrchr(url + 7, ':');
    return colon != NULL && strchr(colon, ']') == NULL ? atoi(colon + 1) : 80;
}

void sb_doctor_exposure(sb_doctor_t *d)
{
    char text[INET6_ADDRSTRLEN];
    sb_server_t server;

    if (sb_server_find(d->args, &server, NULL) != SB_OK) {
        return;
    }
    int port = plain_port(server.url);
    if (port == 0) {
        sb_doctor_say(d, DOCTOR_OK, "LISTEN", NULL, "%s is encrypted", server.url);
    } else if (find_exposed("/proc/net/tcp", port, false, text) ||
               find_exposed("/proc/net/tcp6", port, true, text)) {
        sb_doctor_say(d, DOCTOR_WARNING, "LISTEN",
                      "listen on 127.0.0.1, or with ssl (conf/nginx.conf.example)",
                      "port %d is open to others (%s) without encryption: API keys can be read on "
                      "the way",
                      port, text);
    } else {
        sb_doctor_say(d, DOCTOR_OK, "LISTEN", NULL, "port %d is for this host alone", port);
    }
}

/* ---- the gateway ---- */

static void judge_ready(sb_doctor_t *d, const json_t *answer, long status)
{
    const json_t *checks = json_object_get(answer, "checks");
    const char *store = text_of(checks, "store"), *helper = text_of(checks, "helper");
    const char *tier = text_of(json_object_get(answer, "helper"), "tier");

    if (status == 200) {
        sb_doctor_say(d, DOCTOR_OK, "GATEWAY", NULL, "the gateway is ready, sandboxes: %s", tier);
        return;
    }
    if (strcmp(store, "ok") != 0) {
        sb_doctor_say(d, DOCTOR_ERROR, "GATEWAY-STORE",
                      "see nginx's error log; nginx -s reload once it is mended", "store: %s",
                      store);
    }
    if (strcmp(helper, "ok") != 0) {
        sb_doctor_say(d, DOCTOR_ERROR, "GATEWAY-HELPER",
                      d->have_state ? "skillbox up" : "systemctl restart sandbox-helper",
                      "helper: %s", helper);
    }
}

void sb_doctor_gateway(sb_doctor_t *d)
{
    sb_call_t call = SB_CALL("GET", "/ready");
    sb_server_t server;
    sb_reply_t reply;
    sb_err_t err;
    json_t *answer;

    if (sb_server_find(d->args, &server, &err) != SB_OK) {
        sb_doctor_say(d, DOCTOR_WARNING, "GATEWAY", "skillbox doctor --server URL",
                      "no gateway was asked: %s", err.message);
        return;
    }
    call.timeout_ms = CALL_MS;
    server.key = NULL;
    if (sb_call(&server, &call, &reply, &err) != SB_OK) {
        sb_doctor_say(d, DOCTOR_ERROR, "GATEWAY",
                      d->have_state ? "skillbox up" : "nginx -t && systemctl start nginx", "%s",
                      err.message);
        d->unreachable = true;
    } else {
        answer =
            json_loadb(reply.body.data != NULL ? reply.body.data : "", reply.body.len, 0, NULL);
        if (answer == NULL) {
            sb_doctor_say(d, DOCTOR_ERROR, "GATEWAY", "skillbox_json_errors on; skillbox on;",
                          "%s answers /ready with something that is not Skillbox's (status %ld)",
                          server.url, reply.status);
        } else {
            judge_ready(d, answer, reply.status);
        }
        json_decref(answer);
    }
    sb_reply_free(&reply);
}

/* ---- the store ---- */

typedef struct {
    int admins, expired, soon;
    int64_t now;
} keys_t;

static sb_code_t count_key(void *ctx, const sb_key_t *key, sb_err_t *err)
{
    keys_t *k = ctx;

    if (key->expires_ms != 0 && key->expires_ms <= k->now) {
        k->expired++;
        return SB_OK;
    }
    k->soon += key->expires_ms != 0 && key->expires_ms < k->now + SOON_MS;
    k->admins += key->role == SB_ROLE_ADMIN;
    return SB_OK;
}

static void judge_keys(sb_doctor_t *d, sb_store_t *store)
{
    keys_t k = {.now = sb_time_now_ms()};

    if (sb_store_key_each(store, count_key, &k, NULL) != SB_OK) {
        return; /* said by the check of all records */
    }
    if (k.admins == 0) {
        sb_doctor_say(d, DOCTOR_WARNING, "KEYS", "skillbox key create --role admin --service",
                      "there is no admin's API key");
    } else if (k.soon > 0) {
        sb_doctor_say(d, DOCTOR_WARNING, "KEYS", "skillbox key list; skillbox key rotate ID",
                      "%d API keys expire within a week", k.soon);
    } else {
        sb_doctor_say(d, DOCTOR_OK, "KEYS", NULL, "%d admin keys, %d keys have expired", k.admins,
                      k.expired);
    }
}

static void judge_usage(sb_doctor_t *d, sb_store_t *store)
{
    sb_store_usage_t usage;
    char used[32], map[32];

    if (sb_store_usage(store, &usage, NULL) != SB_OK) {
        return;
    }
    sb_bytes_format((int64_t)usage.used_bytes, used);
    sb_bytes_format((int64_t)usage.map_bytes, map);
    if (usage.used_bytes > usage.map_bytes / 100 * 85) {
        sb_doctor_say(d, DOCTOR_WARNING, "STORE-MAP",
                      "skillbox backup B; skillbox restore --size 16Gi B NEW-STORE",
                      "the map of the store is nearly full: %s of %s", used, map);
    } else {
        sb_doctor_say(d, DOCTOR_OK, "STORE-MAP", NULL, "%s of the store's map of %s are used", used,
                      map);
    }
}

/* As root: as its owner, so that nothing of root's comes to lie there. */
static bool become_owner(sb_doctor_t *d, const struct stat *st)
{
    sb_err_t err;

    if (geteuid() != 0 || st->st_uid == 0 ||
        sb_proc_become(st->st_uid, st->st_gid, &err) == SB_OK) {
        return true;
    }
    sb_doctor_say(d, DOCTOR_ERROR, "STORE", NULL, "%s", err.message);
    return false;
}

void sb_doctor_store(sb_doctor_t *d)
{
    sb_store_check_t check;
    sb_store_t *store;
    struct stat st;
    sb_err_t err;

    if (d->store[0] == '\0') {
        sb_doctor_say(d, DOCTOR_WARNING, "STORE", "skillbox doctor --store PATH",
                      "no store was found");
        return;
    }
    if (stat(d->store, &st) != 0) {
        sb_doctor_say(d, DOCTOR_ERROR, "STORE", "nginx makes it at its first start", "%s: %s",
                      d->store, strerror(errno));
        return;
    }
    if (!become_owner(d, &st)) {
        return;
    }
    if (sb_store_open(d->store, 0, false, &store, &err) != SB_OK) {
        sb_doctor_say(d, DOCTOR_ERROR, "STORE",
                      err.code == SB_ECONFLICT  ? "use the newer skillbox that wrote it"
                      : err.sys_errno == EACCES ? "run it as root, or as the store's owner"
                                                : "skillbox restore BACKUP NEW-STORE",
                      "%s", err.message);
        return;
    }
    if (sb_store_check(store, &check, &err) != SB_OK) {
        sb_doctor_say(d, DOCTOR_ERROR, "STORE", "skillbox restore BACKUP NEW-STORE", "%s",
                      err.message);
    } else {
        sb_doctor_say(d, DOCTOR_OK, "STORE", NULL, "%llu records and %llu packages can be read",
                      (unsigned long long)check.records, (unsigned long long)check.packages);
    }
    judge_usage(d, store);
    judge_keys(d, store);
    sb_store_close(store);
}
