/*
 * stage_main.c - sandbox-stage: the template that runs are born from.
 *
 * Started by sandbox-helper's main process as an ordinary user with an empty
 * environment and one socket.  It enters the template (template.h), compiles the
 * system call filter, tries a whole sandbox once, gives up what it does not need, and
 * then makes a child a request (nursery.h).  It never sees a run: that goes from main to
 * the child itself; it has no capability outside its own user namespace, and no network.
 * Told to be a zygote (zygote.h), it becomes an interpreter instead of serving.
 */
#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nursery.h"
#include "policy_print.h"
#include "privileges.h"
#include "report.h"
#include "sandbox.h"
#include "sys.h"
#include "template.h"
#include "zygote.h"

static stage_t stage;

static int find_landlock(stage_hello_t *hello)
{
    stage.landlock_abi = sys_landlock_abi();
    hello->landlock_abi = stage.landlock_abi;
    hello->missing |= landlock_missing(stage.landlock_abi);
    if (stage.landlock_abi > 0 || stage.config.allow_no_landlock)
        return 0;
    return report_hello(hello, "landlock", ENOSYS);
}

/* Before the capabilities go: then no_new_privs is not what this depends on. */
static int load_filter(stage_hello_t *hello)
{
    const enum filter_variant variant =
        stage.config.memory_cgroup ? FILTER_MEMORY_CGROUP : FILTER_NO_MEMORY_CGROUP;
    filter_t first;

    if (filter_compile(variant, &first) != 0 ||
        filter_compile_second(variant, &stage.second) != 0 || filter_load(&first) != 0)
        return report_hello(hello, "seccomp filter", errno);
    free(first.code);
    (void)malloc_trim(0); /* what libseccomp used would be copied by each fork's page tables */
    return 0;
}

/* Containers and services with a masked /proc refuse a new one: the operator may live without. */
static int probe(stage_hello_t *hello)
{
    const char *step = sandbox_probe(&stage);

    if (step != NULL && strcmp(step, STEP_PROC) == 0 && stage.config.allow_no_proc) {
        stage.no_proc = true;
        hello->missing |= STAGE_NO_PROC;
        step = sandbox_probe(&stage);
    }
    return step == NULL ? 0 : report_hello(hello, step, errno);
}

/* The capabilities over its own namespaces have done their work; children get their own. */
static int give_up(stage_hello_t *hello)
{
    if (privileges_drop_caps() != 0)
        return report_hello(hello, "stage capabilities", errno);
    if (privileges_dumpable(false) != 0)
        return report_hello(hello, "stage not dumpable", errno);
    return 0;
}

/* Returns only when it can't. */
static int become_zygote(stage_hello_t *hello)
{
    (void)zygote_start(&stage, hello);
    return report_hello(hello, "zygote", errno);
}

static int prepare(const stage_config_t *config, stage_hello_t *hello)
{
    const char *step;

    stage.config = *config;
    if (config->zygote > STAGE_RUNTIMES || (config->zygote != 0 && zygote_open(config) != 0))
        return report_hello(hello, "zygote program", errno);
    if (privileges_no_new() != 0)
        return report_hello(hello, "no_new_privs", errno);
    /* inherited by all runs: when the host is out of memory they go before anything of the host */
    if (sys_write_text(AT_FDCWD, "/proc/self/oom_score_adj", "1000") != 0)
        return report_hello(hello, "oom_score_adj", errno);
    if (find_landlock(hello) != 0)
        return -1;
    /* else each run would open /dev/urandom for it; a job can only slow down itself */
    json_object_seed(0);
    if (template_enter(&stage.config, &step) != 0)
        return report_hello(hello, step, errno);
    if (sandbox_prepare_rules(&stage) != 0)
        return report_hello(hello, "rules", errno);
    if (load_filter(hello) != 0 || give_up(hello) != 0 || probe(hello) != 0)
        return -1;
    return config->zygote != 0 ? become_zygote(hello) : 0;
}

static uint64_t clone_flags(const stage_request_t *request)
{
    return sandbox_clone_flags();
}

static void __attribute__((noreturn))
child(const stage_request_t *request, const int *fds, int nfds)
{
    sandbox_run(&stage, request, fds, nfds);
}

/* Asked for by `sandbox-helper --print-policy`, by people: not linked with libseccomp itself. */
static int print_policy(void)
{
    if (policy_print(stdout, 0) == 0)
        return 0;
    perror("sandbox-stage: --print-policy");
    return 1;
}

int main(int argc, char **argv)
{
    static const nursery_ops_t ops = {
        .name = "sandbox-stage",
        .prepare = prepare,
        .clone_flags = clone_flags,
        .child = child,
    };

    if (argc == 2 && strcmp(argv[1], STAGE_PRINT_POLICY) == 0)
        return print_policy();
    _exit(nursery_run(&ops)); /* not dumpable, so that no leak check at exit could look at it */
}
