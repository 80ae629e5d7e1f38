/*
 * report.c - see report.h.
 */
#include "report.h"

#include <stdio.h>

#include "fault.h"
#include "sys.h"

const char *steps_run(const step_t *steps, size_t nsteps, void *ctx)
{
    for (size_t i = 0; i < nsteps; i++) {
        SB_FAULT_POINT(steps[i].name);
        if (steps[i].run(ctx) != 0)
            return steps[i].name;
    }
    return NULL;
}

int report_hello(stage_hello_t *hello, const char *step, int err)
{
    hello->failed_errno = err;
    snprintf(hello->failed_step, sizeof(hello->failed_step), "%s", step);
    return -1;
}

void report_run_failed(int sock, const char *step, int err, const char *text)
{
    run_report_t report = {.magic = STAGE_MAGIC, .kind = RUN_SETUP_FAILED, .failed_errno = err};

    snprintf(report.failed_step, sizeof(report.failed_step), "%s", step);
    if (text != NULL)
        snprintf(report.text, sizeof(report.text), "%s", text);
    /* nobody is left to tell when this fails: main sees the child die without a word */
    (void)sys_send_fds(sock, &report, sizeof(report), NULL, 0);
}
