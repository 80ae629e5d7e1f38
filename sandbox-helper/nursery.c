/*
 * nursery.c - see nursery.h.  Runs as the whole of sandbox-stage or sandbox-packer
 * between two requests.  Holds the control socket, a signalfd, a pidfd of itself and
 * whatever the program's prepare() keeps; a request's descriptors only while its
 * child is being made.  Trusts main for the meaning of requests, checks their form.
 */
#include "nursery.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "sys.h"

/* Children alive at once; far above any sensible `concurrency`. */
#define NURSERY_CHILDREN 1024

typedef struct {
    pid_t pid; /* 0 = free */
    uint64_t seq;
} nursery_child_t;

typedef struct {
    const nursery_ops_t *ops;
    int signal_fd;
    int self_fd; /* pidfd of the nursery: how a child sees that it died early */
    nursery_child_t children[NURSERY_CHILDREN];
} nursery_t;

static void complain(const nursery_t *nu, const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", nu->ops->name, what, strerror(errno));
}

/*
 * What main ignored or blocked must not reach the scripts: both survive execve(2).  Asked of the
 * kernel: the C library refuses the two numbers it keeps for itself, and programs that start others
 * (GNU make 4.3) leave just those ignored.
 */
static int default_signals(void)
{
    static const uint64_t by_default[4]; /* struct sigaction as the kernel has it: SIG_DFL is 0 */
    sigset_t set;

    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            (void)syscall(SYS_rt_sigaction, sig, by_default, NULL, sizeof(uint64_t));
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return sigprocmask(SIG_SETMASK, &set, NULL);
}

static int open_descriptors(nursery_t *nu)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    nu->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    nu->self_fd = sys_pidfd_open(getpid());
    if (nu->signal_fd < 0 || nu->self_fd < 0)
        return -1;
    return fcntl(SB_STAGE_FD, F_SETFD, FD_CLOEXEC);
}

static int receive_config(stage_config_t *config)
{
    int nfds;
    ssize_t n = sys_recv_fds(SB_STAGE_FD, config, sizeof(*config), NULL, 0, &nfds);

    if (n < 0)
        return -1;
    if (n != (ssize_t)sizeof(*config) || config->magic != STAGE_MAGIC ||
        config->size != sizeof(*config)) {
        errno = EPROTO;
        return -1;
    }
    return 0;
}

static int prepare(nursery_t *nu)
{
    static stage_config_t config; /* large; its memory is not needed on the stack of each child */
    stage_hello_t hello = {.magic = STAGE_MAGIC};

    if (receive_config(&config) != 0) {
        complain(nu, "configuration");
        return -1;
    }
    hello.ok = nu->ops->prepare(&config, &hello) == 0;
    if (sys_send_fds(SB_STAGE_FD, &hello, sizeof(hello), NULL, 0) != 0) {
        complain(nu, "hello");
        return -1;
    }
    return hello.ok ? 0 : -1;
}

static int send_event(stage_event_t *event, int fd)
{
    event->magic = STAGE_MAGIC;
    return sys_send_fds(SB_STAGE_FD, event, sizeof(*event), &fd, fd >= 0 ? 1 : 0);
}

static int send_failure(uint64_t seq, const char *step, int err)
{
    stage_event_t event = {.kind = STAGE_FAILED, .seq = seq, .failed_errno = err};

    snprintf(event.failed_step, sizeof(event.failed_step), "%s", step);
    return send_event(&event, -1);
}

static nursery_child_t *find_child(nursery_t *nu, pid_t pid)
{
    for (size_t i = 0; i < NURSERY_CHILDREN; i++)
        if (nu->children[i].pid == pid)
            return &nu->children[i];
    return NULL;
}

/* Where a child starts: nothing of the nursery is open when ops->child takes over. */
static void __attribute__((noreturn))
child_begin(const nursery_t *nu, const stage_request_t *request, const int *fds, int nfds)
{
    struct pollfd parent = {.fd = nu->self_fd, .events = POLLIN};
    sigset_t none;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        _exit(125);
    /* it may have died before the line above; getppid(2) is 0 in a new pid namespace either way */
    if (poll(&parent, 1, 0) != 0)
        _exit(125);
    SB_FAULT_POINT("child begins");
    close(SB_STAGE_FD);
    close(nu->signal_fd);
    close(nu->self_fd);
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        _exit(125);
    nu->ops->child(request, fds, nfds);
}

static int without_folder(int *fds, int nfds)
{
    close(fds[RUN_FOLDER_FD]);
    memmove(fds + RUN_FOLDER_FD, fds + RUN_FOLDER_FD + 1,
            (size_t)(nfds - RUN_FOLDER_FD - 1) * sizeof(*fds));
    return nfds - 1;
}

/*
 * A child that is born in its control group never has to move there, which would take the
 * kernel's lock over all thread groups.  Where clone3 is forbidden (containers) it moves itself.
 */
static pid_t clone_child(const nursery_t *nu, const stage_request_t *request, int *fds, int *nfds,
                         int *pidfd)
{
    uint64_t flags = nu->ops->clone_flags(request);

    if (request->kind == STAGE_RUN && request->cgroup == 2 && *nfds > RUN_FOLDER_FD) {
        pid_t pid = sys_clone(flags, fds[RUN_FOLDER_FD], pidfd);

        if (pid == 0)
            *nfds = without_folder(fds, *nfds); /* it need not enter */
        if (pid >= 0 || errno != ENOSYS)
            return pid;
    }
    return sys_clone(flags, -1, pidfd);
}

static pid_t make_child(const nursery_t *nu, const stage_request_t *request, int *fds, int *nfds,
                        int *pidfd)
{
    pid_t pid;

    if (nu->ops->before_fork != NULL)
        nu->ops->before_fork();
    pid = clone_child(nu, request, fds, nfds, pidfd);
    if (pid != 0 && nu->ops->after_fork != NULL)
        nu->ops->after_fork();
    return pid;
}

static int spawn(nursery_t *nu, const stage_request_t *request, int *fds, int nfds)
{
    nursery_child_t *slot = find_child(nu, 0);
    stage_event_t event = {.kind = STAGE_SPAWNED, .seq = request->seq};
    int pidfd = -1, rc;
    pid_t pid;

    if (slot == NULL)
        return send_failure(request->seq, "children", EAGAIN);
    SB_FAULT_POINT("child to be made");
    pid = make_child(nu, request, fds, &nfds, &pidfd);
    if (pid < 0)
        return send_failure(request->seq, "clone", errno);
    if (pid == 0)
        child_begin(nu, request, fds, nfds);
    SB_FAULT_POINT("child made");
    slot->pid = pid;
    slot->seq = request->seq;
    event.pid = pid;
    rc = send_event(&event, pidfd);
    if (rc != 0 && errno == ETOOMANYREFS) { /* a run's doing: no reason to end all the others */
        (void)sys_pidfd_kill(pidfd, SIGKILL);
        rc = send_failure(request->seq, "descriptors", ETOOMANYREFS);
    }
    close(pidfd);
    return rc;
}

/* 1: served, 0: main has gone, -1: main can't be understood or answered. */
static int serve_request(nursery_t *nu)
{
    static stage_request_t request;
    int fds[STAGE_FDS_MAX], nfds, rc;
    ssize_t n = sys_recv_fds(SB_STAGE_FD, &request, sizeof(request), fds, STAGE_FDS_MAX, &nfds);

    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return 0;
    if (n < 0)
        return -1;
    if (n == (ssize_t)sizeof(request) && request.magic == STAGE_MAGIC) {
        rc = spawn(nu, &request, fds, nfds);
    } else {
        errno = EPROTO;
        rc = -1;
    }
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
    return rc == 0 ? 1 : -1;
}

static uint64_t microseconds(struct timeval tv)
{
    return (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
}

static int report_death(nursery_t *nu, pid_t pid, int wstatus, const struct rusage *usage)
{
    nursery_child_t *child = find_child(nu, pid);
    stage_event_t event = {
        .kind = STAGE_EXITED,
        .pid = pid,
        .wstatus = wstatus,
        .cpu_usec = microseconds(usage->ru_utime) + microseconds(usage->ru_stime),
        .maxrss = (uint64_t)usage->ru_maxrss * 1024,
    };

    if (child == NULL) /* made by prepare(), which waits for its own */
        return 0;
    SB_FAULT_POINT("child dead");
    event.seq = child->seq;
    child->pid = 0;
    return send_event(&event, -1);
}

static int reap(nursery_t *nu)
{
    struct signalfd_siginfo info;
    struct rusage usage;
    int wstatus;
    pid_t pid;

    while (read(nu->signal_fd, &info, sizeof(info)) > 0)
        ; /* SIGCHLD is not queued: wait4 tells who */
    while ((pid = wait4(-1, &wstatus, WNOHANG, &usage)) > 0)
        if (report_death(nu, pid, wstatus, &usage) != 0)
            return -1;
    return 0;
}

static int serve(nursery_t *nu)
{
    struct pollfd fds[2] = {
        {.fd = SB_STAGE_FD, .events = POLLIN},
        {.fd = nu->signal_fd, .events = POLLIN},
    };

    for (;;) {
        int rc;

        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (fds[1].revents != 0 && reap(nu) != 0)
            return -1;
        if (fds[0].revents == 0)
            continue;
        rc = serve_request(nu);
        if (rc <= 0)
            return rc;
    }
}

static int serve_to_the_end(nursery_t *nu)
{
    if (serve(nu) != 0 && errno != EPIPE) {
        complain(nu, "control socket");
        return 1;
    }
    return 0;
}

int nursery_run(const nursery_ops_t *ops)
{
    static nursery_t nu;

    nu.ops = ops;
    if (default_signals() != 0 || open_descriptors(&nu) != 0) {
        complain(&nu, "start");
        return 1;
    }
    return prepare(&nu) == 0 ? serve_to_the_end(&nu) : 1;
}

int nursery_serve(const nursery_ops_t *ops, const stage_hello_t *hello)
{
    static nursery_t nu;

    nu.ops = ops;
    if (open_descriptors(&nu) != 0 ||
        sys_send_fds(SB_STAGE_FD, hello, sizeof(*hello), NULL, 0) != 0) {
        complain(&nu, "start");
        return 1;
    }
    return serve_to_the_end(&nu);
}
