/*
 * test_confine.c - the cage of sandbox-packer's children, tried from inside: a
 * nursery of the real parts whose children attack instead of working.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../sandbox-helper/confine.h"
#include "../../sandbox-helper/landlock.h"
#include "../../sandbox-helper/sys.h"
#include "packer_peer.h"

/* The attacks; a request's lang says which, its mode the role. */
enum {
    A_NOTHING,    /* control: the child runs and answers */
    A_OPEN_CWD,   /* openat(AT_FDCWD) */
    A_OPEN_ROOT,  /* openat2 of "/" and what it lists */
    A_OPEN_ABOVE, /* openat2 of ".." of the folder, unconfined by RESOLVE_* */
    A_OPEN_HOST,  /* openat2 of an absolute host path */
    A_CREATE,     /* a file in the folder */
    A_UNLINK,
    A_CHMOD,
    A_MKNOD,
    A_EXEC,
    A_FEXEC,
    A_FORK,
    A_THREAD,
    A_SOCKET_INET,
    A_SOCKET_UNIX,
    A_SOCKETPAIR,
    A_UNSHARE,
    A_MOUNT,
    A_CHROOT,
    A_KILL,
    A_PTRACE,
    A_IOCTL,
    A_MMAP_EXEC,
    A_MPROTECT_EXEC,
    A_MEMFD,
    A_SETRLIMIT,
    A_PRCTL,
    A_KEYCTL,
    A_BPF,
    A_URING,
    A_INT80,
    A_MEMORY, /* more than the data limit */
    A_FDS,    /* how many descriptors there are */
    A_COUNT,
};

typedef struct {
    int32_t result; /* of the call; -1 and error on refusal */
    int32_t error;
} verdict_t;

static verdict_t verdict(long rc)
{
    return (verdict_t){.result = (int32_t)rc, .error = rc < 0 ? errno : 0};
}

static long raw_openat2(int dirfd, const char *path, uint64_t flags)
{
    return sys_openat2(dirfd, path, flags, flags & O_CREAT ? 0600 : 0, 0);
}

/* Entries of "/", as far as they can be read at all. */
static verdict_t list_root(int dirfd)
{
    char buf[1024];
    long fd = raw_openat2(dirfd, "/", O_RDONLY | O_DIRECTORY);
    long n;

    if (fd < 0) {
        return verdict(fd);
    }
    n = syscall(SYS_getdents64, (int)fd, buf, sizeof(buf));
    close((int)fd);
    return verdict(n);
}

static verdict_t use_memory(void)
{
    size_t len = 512U << 20;
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return verdict(p == MAP_FAILED ? -1 : 0);
}

static verdict_t count_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 4096; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) {
            n++;
        }
    }
    return verdict(n);
}

static verdict_t map_executable(bool later)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | (later ? 0 : PROT_EXEC),
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        return verdict(-1);
    }
    return verdict(later ? mprotect(p, 4096, PROT_READ | PROT_EXEC) : 0);
}

static verdict_t attack_files(uint32_t what, int dirfd)
{
    switch (what) {
    case A_OPEN_CWD:
        return verdict(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0));
    case A_OPEN_ROOT:
        return list_root(dirfd);
    case A_OPEN_ABOVE:
        return verdict(raw_openat2(dirfd, "../beside", O_RDONLY));
    case A_OPEN_HOST:
        return verdict(raw_openat2(dirfd, "/etc/passwd", O_RDONLY));
    case A_CREATE:
        return verdict(raw_openat2(dirfd, "made", O_WRONLY | O_CREAT));
    case A_UNLINK:
        return verdict(unlinkat(dirfd, "kept", 0));
    case A_CHMOD:
        return verdict(fchmod(dirfd, 0777));
    default:
        return verdict(mknodat(dirfd, "fifo", S_IFIFO | 0600, 0));
    }
}

static verdict_t attack_processes(uint32_t what, int dirfd)
{
    static char *const argv[] = {"true", NULL};

    switch (what) {
    case A_EXEC:
        return verdict(execve("/usr/bin/true", argv, NULL));
    case A_FEXEC:
        return verdict(syscall(SYS_execveat, dirfd, "kept", argv, NULL, 0));
    case A_FORK:
        return verdict(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    case A_THREAD:
        return verdict(syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0, 0, 0, 0));
    case A_UNSHARE:
        return verdict(unshare(CLONE_NEWUSER));
    case A_KILL:
        return verdict(kill(-1, SIGKILL));
    case A_PTRACE:
        return verdict(syscall(SYS_ptrace, 0, 0, 0, 0));
    case A_SETRLIMIT: {
        const struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
        return verdict(setrlimit(RLIMIT_DATA, &more));
    }
    default:
        return verdict(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    }
}

static verdict_t attack_kernel(uint32_t what, int dirfd)
{
    int pair[2];

    switch (what) {
    case A_SOCKET_INET:
        return verdict(socket(AF_INET, SOCK_STREAM, 0));
    case A_SOCKET_UNIX:
        return verdict(socket(AF_UNIX, SOCK_STREAM, 0));
    case A_SOCKETPAIR:
        return verdict(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    case A_MOUNT:
        return verdict(mount("none", "/", "tmpfs", 0, NULL));
    case A_CHROOT:
        return verdict(chroot("/"));
    case A_IOCTL:
        return verdict(syscall(SYS_ioctl, 0, 0x5412, "x"));
    case A_MMAP_EXEC:
        return map_executable(false);
    case A_MPROTECT_EXEC:
        return map_executable(true);
    case A_MEMFD:
        return verdict(memfd_create("x", 0));
    case A_KEYCTL:
        return verdict(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    case A_BPF:
        return verdict(syscall(SYS_bpf, 0, 0, 0));
    default:
        return verdict(syscall(425 /* io_uring_setup */, 1, NULL));
    }
}

static verdict_t attack(uint32_t what, int dirfd)
{
    switch (what) {
    case A_NOTHING:
        return verdict(0);
    case A_INT80:
#if defined(__x86_64__)
    {
        long rc = 20; /* getpid of i386: harmless, if it could be called */
        __asm__ volatile("int $0x80" : "+a"(rc)::"memory");
        return verdict(rc);
    }
#else
        raise(SIGKILL);
        return verdict(0);
#endif
    case A_MEMORY:
        return use_memory();
    case A_FDS:
        return count_fds();
    default:
        break;
    }
    if (what <= A_MKNOD) {
        return attack_files(what, dirfd);
    }
    if (what <= A_THREAD || what == A_UNSHARE || what == A_KILL || what == A_PTRACE ||
        what == A_SETRLIMIT || what == A_PRCTL) {
        return attack_processes(what, dirfd);
    }
    return attack_kernel(what, dirfd);
}

/* fds: status socket, the folder, one that should be closed */
static void __attribute__((noreturn))
hostile_child(const stage_request_t *request, const int *given, int nfds)
{
    enum packer_role role = (enum packer_role)request->mode;
    int fds[2] = {given[0], given[1]};
    const char *step;
    verdict_t v;

    if (confine_child(role, fds, 2, &step) != 0) {
        _exit(101);
    }
    const uint64_t writes = role == PACKER_READ ? 0 : LL_WRITE_FILE | LL_MAKE_REG | LL_MAKE_DIR;
    if (role != PACKER_COLLECT && confine_paths(&fds[1], 1, LL_READ | writes) != 0) {
        _exit(102);
    }
    if (confine_syscalls(role) != 0) {
        _exit(103);
    }
    if (role == PACKER_COLLECT && confine_paths(&fds[1], 1, LL_READ) != 0) {
        _exit(104);
    }
    v = attack(request->lang, fds[1]);
    _exit(sys_send_fds(fds[0], &v, sizeof(v), NULL, 0) == 0 ? 0 : 105);
}

static int prepare(const stage_config_t *config, stage_hello_t *hello)
{
    return confine_nursery(config, hello);
}

static uint64_t clone_flags(const stage_request_t *request)
{
    return CLONE_NEWUSER | CLONE_NEWPID;
}

static const nursery_ops_t ops = {
    .name = "test", .prepare = prepare, .clone_flags = clone_flags, .child = hostile_child};

static peer_t peer;
static char top[64];
static int folder;

static void touch(const char *name)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", top, name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    close(fd);
}

static int set_up(void **state)
{
    char path[128];

    snprintf(top, sizeof(top), "/tmp/sbconfine.XXXXXX");
    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/folder", top);
    assert_int_equal(mkdir(path, 0755), 0);
    folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(folder >= 0);
    touch("beside");
    touch("folder/kept");
    peer_start(&peer, &ops);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"folder/kept", "folder/made", "folder/fifo", "beside"};
    char path[128];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", top, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/folder", top);
    rmdir(path);
    assert_int_equal(rmdir(top), 0);
    peer_stop(&peer);
    return 0;
}

static int run_attack(uint32_t what, enum packer_role role, verdict_t *v)
{
    stage_request_t request = {.kind = STAGE_INTAKE, .lang = what, .mode = role};
    int secret = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    const int fds[] = {folder, secret};
    peer_child_t child;
    ssize_t n;

    assert_true(secret >= 0);
    peer_spawn(&peer, &request, fds, 2, &child);
    close(secret);
    n = peer_receive(child.status, v, sizeof(*v));
    if (n != (ssize_t)sizeof(*v)) {
        *v = (verdict_t){-2, 0};
    }
    return peer_reap(&peer, &child);
}

static verdict_t judged(uint32_t what, enum packer_role role)
{
    verdict_t v;

    assert_int_equal(run_attack(what, role, &v), 0);
    return v;
}

static void assert_refused(uint32_t what, enum packer_role role, int expected)
{
    verdict_t v = judged(what, role);

    if (v.result != -1 || v.error != expected) {
        fail_msg("attack %u in role %d: result %d, errno %d (%s)", what, role, v.result, v.error,
                 strerror(v.error));
    }
}

static const enum packer_role roles[] = {PACKER_INTAKE, PACKER_COLLECT, PACKER_IMPORT, PACKER_READ};
#define NROLES (sizeof(roles) / sizeof(roles[0]))

static void each_attack_is_refused_in_all_roles(void **state)
{
    static const uint32_t refused[] = {
        A_MKNOD,
        A_EXEC,
        A_FEXEC,
        A_FORK,
        A_THREAD,
        A_SOCKET_INET,
        A_SOCKET_UNIX,
        A_SOCKETPAIR,
        A_UNSHARE,
        A_MOUNT,
        A_CHROOT,
        A_KILL,
        A_PTRACE,
        A_IOCTL,
        A_MMAP_EXEC,
        A_MEMFD,
        A_SETRLIMIT,
        A_KEYCTL,
        A_BPF,
        A_URING,
        A_OPEN_CWD,
        A_MPROTECT_EXEC,
#if !PACKER_SANITIZED
        A_PRCTL,
#endif
    };

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        for (size_t k = 0; k < NROLES; k++) {
            assert_refused(refused[i], roles[k], EPERM);
        }
    }
    /* an import may remove, where Landlock says so: not in this folder */
    assert_refused(A_UNLINK, PACKER_INTAKE, EPERM);
    assert_refused(A_UNLINK, PACKER_COLLECT, EPERM);
    assert_refused(A_UNLINK, PACKER_READ, EPERM);
    assert_refused(A_UNLINK, PACKER_IMPORT, EACCES);
}

static void the_control_child_answers(void **state)
{
    for (size_t k = 0; k < NROLES; k++) {
        assert_int_equal(judged(A_NOTHING, roles[k]).result, 0);
    }
}

static void no_path_leads_out_of_the_folder(void **state)
{
    for (size_t k = 0; k < NROLES; k++) {
        enum packer_role role = roles[k];
        verdict_t root = judged(A_OPEN_ROOT, role), above = judged(A_OPEN_ABOVE, role);

        assert_int_equal(root.result, -1); /* Landlock; the root would be empty anyway */
        assert_int_equal(root.error, EACCES);
        assert_int_equal(above.result, -1);
        assert_int_equal(above.error, EACCES);
        assert_int_equal(judged(A_OPEN_HOST, role).error, ENOENT);
    }
}

static void collect_and_read_can_not_write_where_the_others_can(void **state)
{
    assert_refused(A_CREATE, PACKER_COLLECT, EACCES);
    assert_refused(A_CHMOD, PACKER_COLLECT, EPERM);
    assert_refused(A_CREATE, PACKER_READ, EACCES);
    assert_refused(A_CHMOD, PACKER_READ, EPERM);
    assert_true(judged(A_CREATE, PACKER_INTAKE).result >= 0);
    assert_true(judged(A_CREATE, PACKER_IMPORT).result >= 0);
}

static void only_the_descriptors_it_needs_are_open(void **state)
{
    for (size_t k = 0; k < NROLES; k++) {
        assert_int_equal(judged(A_FDS, roles[k]).result, 3 + 2);
    }
}

static void memory_is_bounded(void **state)
{
#if PACKER_SANITIZED
    skip(); /* shadow memory does not fit below any limit */
#else
    assert_refused(A_MEMORY, PACKER_INTAKE, ENOMEM);
    assert_refused(A_MEMORY, PACKER_COLLECT, ENOMEM);
    assert_refused(A_MEMORY, PACKER_READ, ENOMEM);
#endif
}

static void a_foreign_system_call_table_kills(void **state)
{
#if defined(__x86_64__)
    verdict_t v;
    int wstatus = run_attack(A_INT80, PACKER_COLLECT, &v);

    assert_int_equal(v.result, -2);
    assert_true(WIFSIGNALED(wstatus));
    assert_int_equal(WTERMSIG(wstatus), SIGSYS);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_control_child_answers),
        cmocka_unit_test(each_attack_is_refused_in_all_roles),
        cmocka_unit_test(no_path_leads_out_of_the_folder),
        cmocka_unit_test(collect_and_read_can_not_write_where_the_others_can),
        cmocka_unit_test(only_the_descriptors_it_needs_are_open),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(a_foreign_system_call_table_kills),
    };

    peer_drop_root();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
