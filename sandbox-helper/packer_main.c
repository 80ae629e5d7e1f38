/*
 * packer_main.c - sandbox-packer: takes packages apart and packs results, each in a
 * confined, single-use child.  Started by sandbox-helper with its control socket at
 * SB_STAGE_FD and nothing else; see stage.h for the words.
 *
 * The nursery (this process) makes the children and looks at no byte of theirs.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collect_child.h"
#include "confine.h"
#include "extract_child.h"
#include "import_child.h"
#include "intake_child.h"
#include "nursery.h"
#include "read_child.h"
#include "report.h"
#include "sys.h"
#include "warmup.h"

static const stage_config_t *config;

/*
 * A pid namespace, so that there is nobody to signal or trace, and the user namespace
 * that an unprivileged nursery needs to make one.  Its ids stay unmapped: the kernel
 * goes by the outer id, which owns the staging folder and what runs leave behind.
 */
static uint64_t clone_flags(const stage_request_t *request)
{
    return CLONE_NEWUSER | CLONE_NEWPID;
}

/* What an intake child does before it looks at anything.  0, or the errno. */
static int try_child(void)
{
    const char *step;

    if (confine_child(PACKER_INTAKE, NULL, 0, &step) != 0 || confine_syscalls(PACKER_INTAKE) != 0) {
        return errno;
    }
    /* EBADF: the call is there */
    (void)sys_openat2(-1, "x", O_RDONLY, 0, SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS);
    return errno == EBADF ? 0 : errno;
}

/* A service's limits and filters may let the nursery come up and no child of it. */
static int probe(stage_hello_t *hello)
{
    int pidfd, wstatus;
    pid_t pid = sys_clone(clone_flags(NULL), -1, &pidfd);

    if (pid == 0) {
        _exit(try_child());
    }
    if (pid < 0) {
        return report_hello(hello, "clone", errno);
    }
    close(pidfd);
    if (waitpid(pid, &wstatus, 0) != pid || !WIFEXITED(wstatus)) {
        return report_hello(hello, "packer child", ECHILD);
    }
    return WEXITSTATUS(wstatus) == 0 ? 0
                                     : report_hello(hello, "packer child", WEXITSTATUS(wstatus));
}

/* Whatever the libraries load or seed at first use must come before the root is empty. */
static int prepare(const stage_config_t *given, stage_hello_t *hello)
{
    const char *failed = warm_up();

    config = given; /* it stays where it is */
    if (failed != NULL) {
        return report_hello(hello, failed, 0);
    }
    return confine_nursery(given, hello) == 0 ? probe(hello) : -1;
}

static void __attribute__((noreturn))
child(const stage_request_t *request, const int *fds, int nfds)
{
    switch (request->kind) {
    case STAGE_INTAKE:
        intake_child(config, request, fds, nfds);
    case STAGE_READ:
        read_child(request, fds, nfds);
    case STAGE_EXTRACT:
        extract_child(request, fds, nfds);
    case STAGE_COLLECT:
        collect_child(fds, nfds);
    case STAGE_IMPORT:
        import_child(request, fds, nfds);
    default:
        _exit(125);
    }
}

int main(void)
{
    static const nursery_ops_t ops = {
        .name = "sandbox-packer",
        .prepare = prepare,
        .clone_flags = clone_flags,
        .child = child,
    };

    /* no exit handlers: what libraries would tidy up or look at is not in this root */
    _exit(nursery_run(&ops));
}
