/*
 * check.c - see check.h.  Reads /proc and /sys, starts the real sandbox-stage and
 * sandbox-packer and runs a line of each runtime's language in a sandbox: what they say is what
 * counts.
 */
#include "check.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../libskillbox/buf.h"
#include "identity.h"
#include "remedy.h"
#include "sys.h"
#include "trial.h"

#define REPORT_MAX     (4 * SB_MIB)
#define SCM_RIGHTS_MAX 253 /* the kernel's SCM_MAX_FD: descriptors in one message */

/* The packer, then a stage for each root, the host's first. */
enum { PACKER, SANDBOX, PROGRAMS = SANDBOX + ROOTS_MAX };

/* What one of the programs said of itself. */
typedef struct {
    int severity;
    char found[PATH_MAX];
    const char *remedy;
} verdict_t;

typedef struct {
    helper_t *h;
    int worst;
    char packages[64]; /* an empty folder of ours, for the stage to show */
    size_t answered;   /* programs that came up or went down */
    verdict_t verdicts[PROGRAMS];
    trial_t trials[STAGE_RUNTIMES];
    bool tried[STAGE_RUNTIMES];
    size_t trying;
    bool json;
    sb_buf_t lines; /* of the JSON report */
} check_t;

static void line(check_t *c, int severity, const char *what, const char *found, const char *remedy)
{
    static const char *const marks[] = {"ok  ", "warn", "FAIL"};

    if (severity > c->worst)
        c->worst = severity;
    if (c->json) {
        sb_buf_str(&c->lines, c->lines.len > 0 ? ",{" : "{");
        sb_json_key_str(&c->lines, "what", what);
        sb_json_key_int(&c->lines, "verdict", severity);
        sb_json_key_str(&c->lines, "found", found);
        sb_json_key_str(&c->lines, "remedy", remedy);
        sb_buf_char(&c->lines, '}');
        return;
    }
    printf("%s  %-16s %s\n", marks[severity], what, found);
    if (remedy != NULL && remedy[0] != '\0')
        printf("      %-16s -> %s\n", "", remedy);
}

/* ---- facts of the host ---- */

/* The first line of a file; false: there is no such file. */
static bool first_line(const char *path, char *out, size_t len)
{
    FILE *f = fopen(path, "re");

    out[0] = '\0';
    if (f == NULL)
        return false;
    if (fgets(out, (int)len, f) == NULL)
        out[0] = '\0';
    fclose(f);
    out[strcspn(out, "\n")] = '\0';
    return true;
}

static void check_kernel(check_t *c)
{
    struct utsname u;

    if (uname(&u) == 0)
        line(c, CHECK_OK, "kernel", u.release, NULL);
}

/* The switches that turn user namespaces off; no harm where sandboxes can be made all the same (an
 * AppArmor profile of their own). */
static void check_namespaces(check_t *c)
{
    static const struct {
        const char *path, *off, *remedy;
    } switches[] = {
        {"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
        {"/proc/sys/user/max_net_namespaces", "0", "sysctl user.max_net_namespaces=10000"},
        {"/proc/sys/kernel/unprivileged_userns_clone", "0",
         "sysctl kernel.unprivileged_userns_clone=1"},
        {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
         "load the AppArmor profile of docs/operations.md"},
    };
    char value[64], found[160];

    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        if (!first_line(switches[i].path, value, sizeof value))
            continue;
        bool off =
            strcmp(value, switches[i].off) == 0 && c->verdicts[SANDBOX].severity == CHECK_UNUSABLE;
        snprintf(found, sizeof found, "%s = %s", switches[i].path, value);
        line(c, off ? CHECK_DEGRADED : CHECK_OK, "user namespaces", found,
             off ? switches[i].remedy : NULL);
    }
}

static void check_seccomp(check_t *c)
{
    char actions[256];
    bool there = first_line("/proc/sys/kernel/seccomp/actions_avail", actions, sizeof actions) &&
                 strstr(actions, "errno") != NULL;

    line(c, there ? CHECK_OK : CHECK_UNUSABLE, "seccomp",
         there ? "filters available" : "no filters in this kernel",
         there ? NULL : "a kernel with CONFIG_SECCOMP_FILTER");
}

static void check_landlock(check_t *c)
{
    int abi = sys_landlock_abi();
    char found[96];

    if (abi == 0) {
        line(c, c->h->config.allow_no_landlock ? CHECK_DEGRADED : CHECK_UNUSABLE, "landlock",
             "not enabled", remedy_for("landlock", 0));
        return;
    }
    snprintf(found, sizeof found, "ABI %d%s%s", abi, abi < 4 ? ", no network rules" : "",
             abi < 6 ? ", no scopes" : "");
    line(c, CHECK_OK, "landlock", found, NULL);
}

static void check_cgroups(check_t *c)
{
    const cgroups_t *cg = &c->h->cgroups;
    char found[PATH_MAX + 64];

    if (cg->version == 0 && c->h->config.allow_no_cgroup) {
        line(c, CHECK_OK, "control groups", cg->why, NULL);
        return;
    }
    if (cg->version == 0) {
        line(c, CHECK_DEGRADED, "control groups", cg->why,
             "systemd: Delegate=yes in the unit, or start as root with `user`; to do without, add "
             "no_cgroup to `allow`");
        return;
    }
    snprintf(found, sizeof found, "v%d: memory, pids%s below %s", cg->version,
             cg->cpu ? ", cpu" : "", cg->path[CG_MEMORY]);
    line(c, CHECK_OK, "control groups", found, NULL);
}

static void check_identity(check_t *c)
{
    int extra = identity_extra_groups();
    char found[96];

    snprintf(found, sizeof found, "uid %d, gid %d, %d supplementary groups", (int)geteuid(),
             (int)getegid(), extra);
    line(c, extra > 0 ? CHECK_DEGRADED : CHECK_OK, "identity", found,
         extra > 0 ? "give the helper a user without supplementary groups: what those may read, a "
                     "sandbox may read where it is visible"
                   : NULL);
}

/*
 * The kernel counts descriptors under way in sockets per user, and looks at the count before a
 * message is whole: each process of a run can have one full message more than its limit allows.
 * The helper's own limit must be beyond what one run can reach.
 */
static void check_descriptors(check_t *c)
{
    const config_t *config = &c->h->config;
    const uint64_t run = (uint64_t)config->nofile + (uint64_t)config->nproc * SCM_RIGHTS_MAX;
    struct rlimit r = {0};
    char found[128];

    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return;
    snprintf(found, sizeof found, "%ju; a run can have %ju under way", (uintmax_t)r.rlim_max,
             (uintmax_t)run);
    line(c, r.rlim_max > run ? CHECK_OK : CHECK_DEGRADED, "descriptors", found,
         r.rlim_max > run ? NULL
                          : "a hard limit of open files beyond that (systemd: LimitNOFILE=), or a "
                            "lower limits.nproc: else one run can keep others from starting");
}

/* ---- runtimes ---- */

static const char *remedy_of_runtime(const check_t *c, size_t runtime)
{
    const helper_t *h = c->h;

    if (!runtime_offered(&h->runtimes[runtime]))
        return "install it, or set runtimes: in helper.yaml (off, if not wanted)";
    return c->verdicts[SANDBOX + h->roots.of[runtime]].remedy;
}

/* What is to be told of a runtime: its version, or why it can't be used.  True: it works. */
static bool judge_runtime(const check_t *c, size_t runtime, const char **found)
{
    const helper_t *h = c->h;
    const trial_t *t = &c->trials[runtime];

    if (!runtime_offered(&h->runtimes[runtime]))
        *found = h->runtimes[runtime].reason;
    else if (!c->tried[runtime])
        *found = c->verdicts[SANDBOX + h->roots.of[runtime]].found;
    else
        *found = t->text;
    return c->tried[runtime] && t->works;
}

static bool switched_off(const check_t *c, size_t runtime)
{
    return strcmp(c->h->config.runtimes[runtime].interpreter, "off") == 0;
}

static void check_runtimes(check_t *c)
{
    char found[2 * STAGE_PATH_LEN + 192], name[STAGE_IMAGE_MAX + 16];
    const helper_t *h = c->h;
    const char *what;

    for (size_t i = 0; i < h->config.nruntimes; i++) {
        const config_runtime_t *rt = &h->config.runtimes[i];
        bool good = judge_runtime(c, i, &what) || switched_off(c, i);

        snprintf(name, sizeof name, i < STAGE_LANGS ? "%s" : "%s (%s)", rt->name,
                 config_lang_name(rt->lang));
        snprintf(found, sizeof found, "%s%s%s%s%.160s", h->runtimes[i].path,
                 rt->root[0] != '\0' ? " in " : "", rt->root,
                 runtime_offered(&h->runtimes[i]) || rt->root[0] != '\0' ? ": " : "", what);
        line(c, good ? CHECK_OK : CHECK_DEGRADED, name, found,
             good ? NULL : remedy_of_runtime(c, i));
    }
}

static void runtime_json(const check_t *c, size_t i, sb_buf_t *out)
{
    const config_runtime_t *rt = &c->h->config.runtimes[i];
    const char *found;
    bool good = judge_runtime(c, i, &found);

    sb_buf_str(out, i > 0 ? ",{" : "{");
    sb_json_key_str(out, "name", rt->name);
    sb_json_key_bool(out, "own", i < STAGE_LANGS);
    sb_json_key_str(out, "lang", config_lang_name(rt->lang));
    sb_json_key_str(out, "root", rt->root[0] != '\0' ? rt->root : "host");
    sb_json_key_str(out, "interpreter", c->h->runtimes[i].path);
    sb_json_key_str(out, "version", good ? found : "");
    sb_json_key_str(out, "status", good ? "ok" : switched_off(c, i) ? "off" : found);
    sb_buf_char(out, '}');
}

/* {"verdict","summary","checks":[...],"runtimes":[...]} */
static void print_json(check_t *c, const char *summary)
{
    sb_buf_t out = SB_BUF_INIT(REPORT_MAX);

    sb_buf_char(&out, '{');
    sb_json_key_int(&out, "verdict", c->worst);
    sb_json_key_str(&out, "summary", summary);
    sb_json_key(&out, "checks");
    sb_buf_char(&out, '[');
    sb_buf_add(&out, c->lines.data, c->lines.len);
    sb_buf_str(&out, "]");
    sb_json_key(&out, "runtimes");
    sb_buf_char(&out, '[');
    for (size_t i = 0; i < c->h->config.nruntimes; i++)
        runtime_json(c, i, &out);
    sb_buf_str(&out, "]}");
    if (sb_buf_ok(&out) && sb_buf_ok(&c->lines))
        puts(out.data);
    sb_buf_free(&out);
    sb_buf_free(&c->lines);
}

/* ---- the sandbox itself ---- */

static void on_tried(void *ctx)
{
    check_t *c = ctx;

    if (--c->trying == 0)
        loop_stop(&c->h->loop);
}

/* All programs have said whether they work: now each runtime whose stage does. */
static void try_runtimes(check_t *c)
{
    helper_t *h = c->h;

    for (size_t i = 0; i < h->config.nruntimes; i++) {
        if (!runtime_offered(&h->runtimes[i]) ||
            h->roots.root[h->roots.of[i]].stage.state != LINK_READY)
            continue;
        c->tried[i] = true;
        c->trying++;
        trial_start(&c->trials[i], h, i, on_tried, c);
    }
    if (c->trying == 0)
        loop_stop(&h->loop);
}

static void judge(check_t *c, size_t program, int severity, const char *found, const char *remedy)
{
    verdict_t *v = &c->verdicts[program];

    v->severity = severity;
    v->remedy = remedy;
    snprintf(v->found, sizeof v->found, "%s", found);
}

static void on_link(void *ctx, stagelink_t *link)
{
    check_t *c = ctx;
    const root_t *root = helper_root_of(c->h, link);
    size_t program = root == NULL ? PACKER : SANDBOX + (size_t)(root - c->h->roots.root);
    char tier[64], found[160];

    if (link->closing)
        return;
    if (link->state == LINK_READY) {
        helper_tier(c->h, tier, sizeof tier);
        snprintf(found, sizeof found, root != NULL ? "can be made: %s" : "can be confined", tier);
        bool weakened =
            program == SANDBOX && (link->hello.missing & (STAGE_NO_PROC | STAGE_NO_LANDLOCK));
        judge(c, program, weakened ? CHECK_DEGRADED : CHECK_OK, found, NULL);
    } else {
        judge(c, program, CHECK_UNUSABLE, link->down_reason,
              remedy_for(link->hello.failed_step, link->hello.failed_errno));
    }
    link->closing = true; /* one word of each is enough */
    if (++c->answered == 1 + c->h->roots.count)
        try_runtimes(c);
}

/* Starts both programs as serving would, and ends them again. */
static void try_sandbox(check_t *c)
{
    helper_t *h = c->h;
    sb_err_t err = {0};

    snprintf(c->packages, sizeof c->packages, "/tmp/sandbox-helper-check.XXXXXX");
    int errnum = mkdtemp(c->packages) != NULL ? 0 : errno;
    helper_find_runtimes(h, c->packages);
    for (size_t i = 0; i < h->roots.count; i++)
        h->roots.root[i].config.memory_cgroup =
            0; /* a check looks at control groups and makes none */
    if (errnum != 0) {
        judge(c, SANDBOX, CHECK_UNUSABLE, strerror(errnum), "a writable /tmp");
        return;
    }
    if (helper_init_programs(h, on_link, c, &err) != SB_OK) {
        judge(c, SANDBOX, CHECK_UNUSABLE, err.message, "install all three programs");
        rmdir(c->packages);
        return;
    }
    if (trial_prepare(c->packages) != 0) {
        judge(c, SANDBOX, CHECK_UNUSABLE, strerror(errno), "a writable /tmp");
    } else {
        helper_start_programs(h);
        loop_run(&h->loop);
    }
    for (size_t i = 0; i < h->roots.count; i++)
        stagelink_close(&h->roots.root[i].stage);
    stagelink_close(&h->packer);
    trial_remove(c->packages);
    rmdir(c->packages);
}

static void check_sandbox(check_t *c)
{
    static const char *const names[] = {[PACKER] = "packer", [SANDBOX] = "sandbox"};

    for (int i = SANDBOX; i >= PACKER; i--) {
        const verdict_t *v = &c->verdicts[i];
        if (v->found[0] != '\0')
            line(c, v->severity, names[i], v->found, v->remedy);
    }
}

int check_run(helper_t *h, bool json)
{
    static const char *const words[] = {"This host can run skills.",
                                        "This host can run skills, with less than it could have.",
                                        "This host can't run skills as it is configured."};
    static check_t c;

    c.h = h;
    c.json = json;
    sb_buf_init(&c.lines, REPORT_MAX);
    setvbuf(stdout, NULL, _IOLBF, 0); /* stdout must be empty when we fork */
    signal(SIGPIPE, SIG_IGN);
    try_sandbox(&c);
    check_kernel(&c);
    check_identity(&c);
    check_descriptors(&c);
    check_namespaces(&c);
    check_seccomp(&c);
    check_landlock(&c);
    check_cgroups(&c);
    check_runtimes(&c);
    check_sandbox(&c);
    cgroups_close(&h->cgroups);
    loop_free(&h->loop);
    if (json)
        print_json(&c, words[c.worst]);
    else
        puts(words[c.worst]);
    return c.worst;
}
