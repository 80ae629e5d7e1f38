/*
 * packer_peer.c - see packer_peer.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../sandbox-helper/sys.h"
#include "packer_peer.h"

#define NOBODY 65534

void peer_drop_root(void)
{
    if (geteuid() != 0) {
        return;
    }
    if (setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) != 0) {
        perror("dropping root");
        exit(1);
    }
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* or /proc/self/uid_map belongs to root */
}

static void __attribute__((noreturn)) become_nursery(int sock, const nursery_ops_t *ops)
{
    static char *const nothing[] = {NULL};
    static char *const argv[] = {"sandbox-packer", NULL};
    const char *bindir = getenv("SB_BINDIR");
    char path[4096];

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (dup2(sock, SB_STAGE_FD) < 0 || sys_close_range(SB_STAGE_FD + 1, ~0U, 0) != 0) {
        _exit(120);
    }
    if (ops != NULL) {
        _exit(nursery_run(ops));
    }
    snprintf(path, sizeof(path), "%s/sandbox-packer", bindir ? bindir : "build/bin");
    execve(path, argv, nothing);
    _exit(121);
}

void peer_start(peer_t *p, const nursery_ops_t *ops)
{
    const stage_config_t config = {.magic = STAGE_MAGIC, .size = sizeof(config)};
    int pair[2];

    memset(p, 0, sizeof(*p));
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        become_nursery(pair[1], ops);
    }
    close(pair[1]);
    p->sock = pair[0];
    peer_send(p->sock, &config, sizeof(config), NULL, 0);
    assert_int_equal(peer_receive(p->sock, &p->hello, sizeof(p->hello)), sizeof(p->hello));
    if (!p->hello.ok) {
        fail_msg("the nursery can't work here: %s: %s", p->hello.failed_step,
                 strerror(p->hello.failed_errno));
    }
}

void peer_stop(peer_t *p)
{
    int wstatus;

    close(p->sock);
    assert_int_equal(waitpid(p->pid, &wstatus, 0), p->pid);
    assert_true(WIFEXITED(wstatus));
    assert_int_equal(WEXITSTATUS(wstatus), 0);
}

static void wait_readable(int sock)
{
    struct pollfd pfd = {.fd = sock, .events = POLLIN};

    assert_int_equal(poll(&pfd, 1, PEER_WAIT_SECONDS * 1000), 1);
}

ssize_t peer_receive(int sock, void *msg, size_t len)
{
    wait_readable(sock);
    return recv(sock, msg, len, 0);
}

void peer_send(int sock, const void *msg, size_t len, const int *fds, int nfds)
{
    assert_int_equal(sys_send_fds(sock, msg, len, fds, nfds), 0);
}

void peer_spawn(peer_t *p, stage_request_t *request, const int *fds, int nfds, peer_child_t *child)
{
    int pair[2], all[STAGE_FDS_MAX], got = 0;
    stage_event_t event;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    all[0] = pair[1];
    for (int i = 0; i < nfds; i++) {
        all[i + 1] = fds[i];
    }
    request->magic = STAGE_MAGIC;
    request->seq = ++p->seq;
    peer_send(p->sock, request, sizeof(*request), all, nfds + 1);
    close(pair[1]);
    wait_readable(p->sock);
    assert_int_equal(sys_recv_fds(p->sock, &event, sizeof(event), &child->pidfd, 1, &got),
                     sizeof(event));
    assert_int_equal(event.kind, STAGE_SPAWNED);
    assert_int_equal(event.seq, request->seq);
    assert_int_equal(got, 1);
    child->status = pair[0];
    child->pid = event.pid;
    child->seq = event.seq;
}

int peer_reap(peer_t *p, peer_child_t *child)
{
    stage_event_t event;

    assert_int_equal(peer_receive(p->sock, &event, sizeof(event)), sizeof(event));
    assert_int_equal(event.kind, STAGE_EXITED);
    assert_int_equal(event.seq, child->seq);
    close(child->status);
    close(child->pidfd);
    return event.wstatus;
}
