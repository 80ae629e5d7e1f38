/*
 * doctor.c - `skillbox doctor`: looks at everything a gateway needs, and says for
 * each fault what ends it.  The checks are in doctor_checks.c.
 */
#include "doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "output.h"

#define SYSTEM_STORE "/var/lib/skillbox/store"

static const char *const words[] = {"ok", "warning", "error"};

void sb_doctor_say(sb_doctor_t *d, sb_doctor_level_t severity, const char *code, const char *fix,
                   const char *fmt, ...)
{
    char text[600];
    json_t *o;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (severity > d->worst) {
        d->worst = severity;
    }
    o = json_pack("{s:s, s:s}", "code", code, "severity", words[severity]);
    json_object_set_new(o, "message", json_stringn_nocheck(text, strlen(text)));
    if (fix != NULL) {
        json_object_set_new(o, "fix", json_string(fix));
    }
    json_array_append_new(d->findings, o);
    if (d->quiet) {
        return;
    }
    printf("%-8s%-18s", words[severity], code);
    sb_print_safe(stdout, text, strlen(text), false);
    putchar('\n');
    if (fix != NULL) {
        printf("        fix: ");
        sb_print_safe(stdout, fix, strlen(fix), false);
        putchar('\n');
    }
}

/* --store, else that of the state folder, else the system's. */
static void find_store(sb_doctor_t *d)
{
    const char *given = sb_args_get(d->args, "store");

    if (given != NULL) {
        snprintf(d->store, sizeof(d->store), "%s", given);
    } else if (d->have_state) {
        if (sb_state_path(sb_state_folder(d->args), "store", d->store, NULL) != SB_OK) {
            d->store[0] = '\0';
        }
    } else if (access(SYSTEM_STORE, F_OK) == 0) {
        strcpy(d->store, SYSTEM_STORE);
    }
}

static const sb_option_t doctor_options[] = {
    {"config", "FILE", "helper.yaml (default: the state folder's, else\n/etc/skillbox/helper.yaml)",
     false},
    {"store", "PATH",
     "the store's folder (default: that of the state folder, else\n" SYSTEM_STORE ")", false},
    {"json", NULL, "print {\"worst\",\"findings\":[{\"code\",\"severity\",\"message\",\"fix\"}]}",
     false},
    {NULL, NULL, NULL, false},
};

static int run_doctor(const sb_args_t *args)
{
    sb_doctor_t d = {.args = args, .quiet = sb_args_flag(args, "json")};

    d.findings = json_array();
    d.have_state = sb_state_load(sb_state_folder(args), &d.state, NULL) == SB_OK;
    find_store(&d);
    sb_doctor_host(&d);
    sb_doctor_files(&d);
    sb_doctor_disk(&d);
    sb_doctor_clock(&d);
    sb_doctor_exposure(&d);
    sb_doctor_gateway(&d);
    sb_doctor_store(&d);
    if (d.quiet) {
        json_t *o = json_pack("{s:s, s:O}", "worst", words[d.worst], "findings", d.findings);
        sb_print_json(stdout, o);
        json_decref(o);
    } else {
        puts(d.worst == DOCTOR_OK        ? "All is well."
             : d.worst == DOCTOR_WARNING ? "It works, but see the warnings."
                                         : "Something is wrong, see the errors.");
    }
    json_decref(d.findings);
    if (d.unreachable) {
        return EXIT_UNREACHABLE;
    }
    return d.worst == DOCTOR_OK ? EXIT_OK : EXIT_FAILED;
}

const sb_command_t cmd_doctor = {
    .name = "doctor",
    .operands = "",
    .summary = "look for what is wrong with a gateway and its host",
    .details =
        "Looks at the host (as sandbox-helper --check does), at the files that hold secrets, the\n"
        "store, the disk, the clock, the addresses it listens on, and asks the gateway.  Each "
        "finding\n"
        "has a code and, when something is to be done, what.  Nothing is changed.  Exit status 0: "
        "all\n"
        "is well; 1: there are warnings or errors; 4: the gateway gave no answer.",
    .options = doctor_options,
    .remote = true,
    .examples = "skillbox doctor\n"
                "skillbox doctor --json\n"
                "sudo skillbox doctor --server https://skills.example.com",
    .run = run_doctor,
};
