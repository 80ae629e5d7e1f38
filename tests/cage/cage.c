/*
 * cage.c - runs a command as it would fare on a host that refuses system calls.
 *
 *   cage [--refuse NAME=ERRNO]... [--no-namespaces] [--] COMMAND [ARGUMENT]...
 *
 *   --refuse NAME=ERRNO   that system call fails with that errno (its C name or a number): a kernel
 *                         without Landlock is landlock_create_ruleset=EOPNOTSUPP
 *   --no-namespaces       clone(2) with a CLONE_NEW* flag fails with EPERM, clone3 with ENOSYS,
 *                         unshare, setns, mount and their kin with EPERM: what the default profile
 * of a container engine does
 *
 * A seccomp filter on top of whatever is there, inherited by all descendants; sets no_new_privs.
 * Exit status 125 when the filter can't be made, else the command's.
 */
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { EXIT_CAGE = 125 };

static void __attribute__((noreturn)) fail(const char *what, const char *why)
{
    fprintf(stderr, "cage: %s: %s\n", what, why);
    exit(EXIT_CAGE);
}

static int errno_of(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {{"EPERM", EPERM},   {"EACCES", EACCES},         {"ENOSYS", ENOSYS},
                 {"EINVAL", EINVAL}, {"EOPNOTSUPP", EOPNOTSUPP}, {"ENOSPC", ENOSPC}};
    char *end;
    long number = strtol(name, &end, 10);

    for (size_t i = 0; i < COUNT(known); i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].number;
    if (end == name || *end != '\0' || number < 1 || number > 4095)
        fail(name, "not an errno");
    return (int)number;
}

/* libseccomp is older than some calls: those go by number, the same on all architectures. */
static int call_of(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } newer[] = {{"landlock_create_ruleset", 444}, {"mount_setattr", 442}};
    int nr = seccomp_syscall_resolve_name(name);

    for (size_t i = 0; nr == __NR_SCMP_ERROR && i < COUNT(newer); i++)
        if (strcmp(newer[i].name, name) == 0)
            nr = newer[i].number;
    if (nr < 0)
        fail(name, "no such system call here");
    return nr;
}

static void refuse(scmp_filter_ctx ctx, const char *name, int err)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)err), call_of(name), 0);

    if (rc != 0)
        fail(name, strerror(-rc));
}

static void refuse_word(scmp_filter_ctx ctx, const char *word)
{
    const char *equals = strchr(word, '=');
    char name[64];

    if (equals == NULL || (size_t)(equals - word) >= sizeof(name))
        fail(word, "NAME=ERRNO is expected");
    snprintf(name, sizeof(name), "%.*s", (int)(equals - word), word);
    refuse(ctx, name, errno_of(equals + 1));
}

static void refuse_namespaces(scmp_filter_ctx ctx)
{
    static const char *const calls[] = {"unshare",    "setns",     "mount",      "umount2",
                                        "pivot_root", "open_tree", "move_mount", "fsopen",
                                        "fsconfig",   "fsmount",   "fspick",     "mount_setattr"};
    static const unsigned long flags[] = {CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
                                          CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
                                          CLONE_NEWNET};

    for (size_t i = 0; i < COUNT(calls); i++)
        refuse(ctx, calls[i], EPERM);
    refuse(ctx, "clone3", ENOSYS);
    for (size_t i = 0; i < COUNT(flags); i++) {
        struct scmp_arg_cmp with = SCMP_A0(SCMP_CMP_MASKED_EQ, flags[i], flags[i]);
        int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), call_of("clone"), 1, &with);

        if (rc != 0)
            fail("clone", strerror(-rc));
    }
}

int main(int argc, char **argv)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int i = 1, rc;

    if (ctx == NULL)
        fail("seccomp_init", "out of memory");
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--no-namespaces") == 0)
            refuse_namespaces(ctx);
        else if (strcmp(argv[i], "--refuse") == 0 && i + 1 < argc)
            refuse_word(ctx, argv[++i]);
        else
            fail(argv[i], "unknown option");
    }
    if (i >= argc)
        fail("no command", "see the head of cage.c");
    rc = seccomp_load(ctx);
    if (rc != 0)
        fail("seccomp_load", strerror(-rc));
    seccomp_release(ctx);
    execvp(argv[i], argv + i);
    fail(argv[i], strerror(errno));
}
