/*
 * intake_child.c - see intake_child.h.  Runs as pid 1 of its own pid namespace in the
 * packer's empty root.  Holds four descriptors: status socket, the package (read), the
 * staging folder, the answer file.  It confines itself before it looks at the package,
 * and everything it makes lies below the staging folder.  It ends by _exit(2).
 */
#include "intake_child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/err.h"
#include "../libskillbox/multipart.h"
#include "../libskillbox/package.h"
#include "../libskillbox/scan.h"
#include "confine.h"
#include "fault.h"
#include "image.h"
#include "landlock.h"
#include "seal.h"
#include "sys.h"

#define INTAKE_FDS 4

/* Longer instructions are not handed to scripts (one environment string, contract 4). */
#define INSTRUCTIONS_MAX SB_ENV_STRING_MAX

#define REPORT_TEXT_MAX ((int)sizeof(((packer_report_t *)0)->text) - 1)

/* An error answer: up to SB_FINDINGS_MAX findings of some 600 bytes, escaped. */
#define ANSWER_MAX SB_MIB

typedef struct {
    int status, package, staging, answer;
    const stage_request_t *request;
    const stage_config_t *config;
    const unsigned char *body; /* the upload as it came */
    size_t body_len;
    sb_package_t pkg;
    packer_report_t report;
} intake_t;

/* The last words, and the end. */
static void __attribute__((noreturn)) finish(intake_t *in)
{
    in->report.magic = STAGE_MAGIC;
    _exit(sys_send_fds(in->status, &in->report, sizeof(in->report), NULL, 0) == 0 ? 0 : 1);
}

static void __attribute__((noreturn)) broken(intake_t *in, const char *what, int err)
{
    in->report.http_status = 500;
    in->report.answer_len = 0;
    snprintf(in->report.text, sizeof(in->report.text), "%s: %s", what, strerror(err));
    finish(in);
}

static void confine(intake_t *in, const int *given, int ngiven)
{
    /* unpacking makes and fills; it never renames, removes or executes */
    const uint64_t access =
        LL_READ | LL_WRITE_FILE | LL_TRUNCATE | LL_MAKE_DIR | LL_MAKE_REG | LL_MAKE_SYM;
    const char *step = "landlock";
    int fds[INTAKE_FDS];

    if (ngiven != INTAKE_FDS) {
        _exit(125); /* main and packer do not speak the same words */
    }
    memcpy(fds, given, sizeof(fds));
    in->status = given[0];
    if (confine_child(PACKER_INTAKE, fds, INTAKE_FDS, &step) != 0) {
        in->status = fds[0]; /* it has moved */
        broken(in, step, errno);
    }
    in->status = fds[0];
    in->package = fds[1];
    in->staging = fds[2];
    in->answer = fds[3];
    if (confine_paths(&in->staging, 1, access) != 0) {
        broken(in, "landlock", errno);
    }
    if (confine_syscalls(PACKER_INTAKE) != 0) {
        broken(in, "seccomp", errno);
    }
}

/* main holds the only other descriptor of the file and is done with it: it can't shrink under us.
 */
static void map_body(intake_t *in)
{
    struct stat st;
    void *map;

    if (fstat(in->package, &st) != 0 || st.st_size < 0) {
        broken(in, "package file", errno);
    }
    in->body = (const unsigned char *)"";
    in->body_len = (size_t)st.st_size;
    if (in->body_len == 0) {
        return;
    }
    map = mmap(NULL, in->body_len, PROT_READ, MAP_PRIVATE, in->package, 0);
    if (map == MAP_FAILED) {
        broken(in, "package file", errno);
    }
    in->body = map;
}

static int make_tree(intake_t *in)
{
    int fd = -1;

    if (mkdirat(in->staging, "tree", 0700) == 0) {
        fd = sys_openat2(in->staging, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0,
                         SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS);
    }
    if (fd < 0) {
        broken(in, "staging folder", errno);
    }
    return fd;
}

static int number_of(const char *lang)
{
    static const char *const langs[STAGE_LANGS] = {"python", "node", "bash"};

    for (int i = 0; lang != NULL && i < STAGE_LANGS; i++) {
        if (strcmp(langs[i], lang) == 0) {
            return i;
        }
    }
    return -1;
}

/* sb_manifest_limits_t.of: the operator's words for the runtime that will run the package. */
static bool limits_of(const void *ctx, const char *image, const char *lang,
                      sb_manifest_limits_t *limits)
{
    const stage_config_t *config = ctx;
    int number = number_of(lang);
    int own = number < 0 ? STAGE_PYTHON : number;
    int runtime = own;

    if (image[0] != '\0') {
        runtime = image_find(config->images, config->nimages, image, number, NULL);
    }
    const stage_limits_t *l = &config->runtimes[runtime < 0 ? own : runtime].limits;

    limits->timeout_default_ms = l->timeout_default_ms;
    limits->timeout_max_ms = l->timeout_max_ms;
    limits->memory_default = l->memory_default;
    limits->memory_max = l->memory_max;
    limits->cpu_default_milli = (int32_t)l->cpu_default_milli;
    limits->cpu_max_milli = (int32_t)l->cpu_max_milli;
    return runtime >= 0;
}

static sb_code_t unpack(intake_t *in, int tree, sb_err_t *err)
{
    const stage_request_t *rq = in->request;
    const sb_package_limits_t limits = {
        .unpacked_max = (int64_t)rq->package_max,
        .manifest = {.of = limits_of, .ctx = in->config},
    };
    const unsigned char *zip = in->body;
    size_t len = in->body_len;

    if (sb_multipart_is(rq->content_type)) {
        sb_code_t code =
            sb_multipart_file(rq->content_type, in->body, in->body_len, &zip, &len, err);

        if (code != SB_OK) {
            return code;
        }
    }
    return sb_package_unpack(zip, len, tree, &limits, &in->pkg, err);
}

/* What the stage puts into SKILL_INSTRUCTIONS. */
static void write_instructions(intake_t *in)
{
    const sb_manifest_t *m = &in->pkg.manifest;
    size_t len = m->instructions_len <= INSTRUCTIONS_MAX ? m->instructions_len : 0;
    int fd = sys_openat2(in->staging, "instructions", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600,
                         SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS);

    if (fd < 0 || (len > 0 && sys_write_all(fd, m->instructions, len) != 0) ||
        fchmod(fd, 0444) != 0 || fsync(fd) != 0) {
        broken(in, "instructions file", errno);
    }
    close(fd);
}

static void write_answer(intake_t *in, const char *text, size_t len)
{
    if (sys_write_all(in->answer, text, len) != 0) {
        broken(in, "answer file", errno);
    }
    in->report.answer_len = len;
}

static void answer_accepted(intake_t *in)
{
    json_t *json = sb_package_to_json(&in->pkg);
    /* 15 digits: what a double holds and a person wrote; 17 would make 2.1 2.1000000000000001 */
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;

    if (text == NULL) {
        broken(in, "answer", ENOMEM);
    }
    write_answer(in, text, strlen(text));
    in->report.http_status = 200;
    memcpy(in->report.digest, in->pkg.digest, sizeof(in->report.digest));
}

static void add_details(sb_buf_t *b, const sb_findings_t *findings)
{
    json_t *list = findings->count > 0 ? sb_findings_to_json(findings) : NULL;
    char *text = list != NULL ? json_dumps(list, JSON_COMPACT) : NULL;

    if (text != NULL) {
        sb_json_key(b, "details");
        sb_buf_str(b, text);
    }
    free(text);
    json_decref(list);
}

static void answer_error(intake_t *in, int status, const char *slug, const char *message,
                         const sb_findings_t *findings)
{
    sb_buf_t b = SB_BUF_INIT(ANSWER_MAX);

    in->report.http_status = status;
    sb_buf_char(&b, '{');
    sb_json_key_str(&b, "error", slug);
    sb_json_key_str(&b, "message", message);
    add_details(&b, findings);
    sb_buf_char(&b, '}');
    if (!sb_buf_ok(&b)) {
        broken(in, "answer", ENOMEM);
    }
    write_answer(in, b.data, b.len);
}

static void answer_refused(intake_t *in, const sb_err_t *err)
{
    int status = sb_code_status(err->code);

    if (status >= 500) {
        snprintf(in->report.text, sizeof(in->report.text), "%.*s", REPORT_TEXT_MAX, err->message);
    }
    answer_error(in, status, sb_code_slug(err->code), err->message, &in->pkg.findings);
}

/* Fills in pkg.security; false: it is refused for that, and the answer written. */
static bool scan(intake_t *in, int tree)
{
    const sb_findings_t *security = &in->pkg.security;
    sb_err_t err = {.code = SB_OK};
    bool alarm = false;

    if (sb_scan_package(tree, &in->pkg, &err) != SB_OK) {
        broken(in, err.message, err.sys_errno);
    }
    for (size_t i = 0; i < security->count; i++) {
        alarm |= security->items[i].severity != SB_FINDING_NOTE;
    }
    if (!alarm || in->request->scan != STAGE_SCAN_BLOCK) {
        return true;
    }
    answer_error(in, 422, "security_scan_failed",
                 "the security scan found what is not allowed here, see the details", security);
    return false;
}

void intake_child(const stage_config_t *config, const stage_request_t *request, const int *fds,
                  int nfds)
{
    static intake_t in; /* static: zero, and off the stack */
    sb_err_t err = {.code = SB_OK};
    int tree;

    in.config = config;
    in.request = request;
    confine(&in, fds, nfds);
    SB_FAULT_POINT("intake confined");
    map_body(&in);
    tree = make_tree(&in);
    if (unpack(&in, tree, &err) != SB_OK) {
        answer_refused(&in, &err);
        finish(&in);
    }
    SB_FAULT_POINT("package unpacked");
    if (request->scan != STAGE_SCAN_OFF && !scan(&in, tree)) {
        finish(&in);
    }
    if (request->check_only) {
        answer_accepted(&in);
        finish(&in);
    }
    write_instructions(&in);
    if (seal_tree(in.staging, tree, &in.pkg) != 0) {
        broken(&in, "making the package read-only and durable", errno);
    }
    SB_FAULT_POINT("package sealed");
    answer_accepted(&in);
    finish(&in);
}
