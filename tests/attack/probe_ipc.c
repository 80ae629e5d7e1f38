/*
 * probe_ipc.c - attacks by way of sockets without a network, shared memory, keyrings and
 * what an earlier run may have left: items 25 to 29 and 31 of the catalogue.
 */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    const char *name;
    int type;
} types[] = {{"stream", SOCK_STREAM}, {"datagram", SOCK_DGRAM}, {"seqpacket", SOCK_SEQPACKET}};

/* abstract: 1, or 0 for a path */
static socklen_t address(struct sockaddr_un *addr, const char *name, int abstract)
{
    size_t len = strlen(name);

    memset(addr, 0, sizeof(*addr));
    addr->sun_family = AF_UNIX;
    if (len + 1 < sizeof(addr->sun_path)) {
        memcpy(addr->sun_path + abstract, name, len);
    }
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + len);
}

static void connect_all(const char *name, int abstract)
{
    struct sockaddr_un addr;
    socklen_t len = address(&addr, name, abstract);

    for (size_t i = 0; i < COUNT(types); i++) {
        int fd = socket(AF_UNIX, types[i].type, 0);

        tried(connect(fd, (struct sockaddr *)&addr, len), "connect %s %s", types[i].name, name);
        if (types[i].type == SOCK_DGRAM) {
            tried(sendto(fd, "knock", 5, MSG_NOSIGNAL, (struct sockaddr *)&addr, len),
                  "datagram to %s", name);
        }
        close(fd);
    }
}

/* ---- 25: abstract sockets ---- */

/* The sockets stay for whoever looks while the probe holds still. */
static void listen_abstract(const char *prefix)
{
    struct sockaddr_un addr;
    char name[96];
    long bound = 0;

    for (size_t i = 0; i < COUNT(types); i++) {
        int fd = socket(AF_UNIX, types[i].type, 0);
        socklen_t len;

        snprintf(name, sizeof(name), "%s-%s", prefix, types[i].name);
        len = address(&addr, name, 1);
        bound += bind(fd, (struct sockaddr *)&addr, len) == 0 &&
                 (types[i].type == SOCK_DGRAM || listen(fd, 4) == 0);
    }
    noted_number("bound", bound);
}

static void attack_abstract_listen(int argc, char **argv)
{
    listen_abstract(argv[0]);
}

/* argv: names.  Control: a name of its own can be bound and reached. */
static void attack_abstract_connect(int argc, char **argv)
{
    struct sockaddr_un addr;
    socklen_t len = address(&addr, "own-stream", 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    listen_abstract("own");
    noted_number("own reached", connect(fd, (struct sockaddr *)&addr, len) == 0);
    for (int i = 0; i < argc; i++) {
        connect_all(argv[i], 1);
    }
}

/* ---- 26: sockets by path; argv: the paths ---- */

static void attack_paths(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        struct stat st;

        tried(lstat(argv[i], &st), "lstat %s", argv[i]);
        tried(try_open(argv[i], O_PATH), "open %s", argv[i]);
        connect_all(argv[i], 0);
    }
}

/* ---- 27: IPC objects; argv: key, name ---- */

static void find_ipc(key_t key, const char *name, int flags)
{
    char path[128];
    int fd;

    tried(shmget(key, 4096, flags | 0666), "shmget");
    tried(semget(key, 1, flags | 0666), "semget");
    tried(msgget(key, flags | 0666), "msgget");
    snprintf(path, sizeof(path), "/%s", name);
    tried(mq_open(path, flags != 0 ? O_RDWR | O_CREAT : O_RDWR, 0666, NULL), "mq_open");
    snprintf(path, sizeof(path), "/dev/shm/%s", name);
    fd = open(path, flags != 0 ? O_RDWR | O_CREAT : O_RDWR, 0666);
    tried(fd, "shm_open");
}

static void attack_ipc_make(int argc, char **argv)
{
    find_ipc((key_t)atoi(argv[0]), argv[1], IPC_CREAT);
}

static void attack_ipc_find(int argc, char **argv)
{
    find_ipc((key_t)atoi(argv[0]), argv[1], 0);
}

/* ---- 28: keyrings; argv: description ---- */

static void attack_keyrings(int argc, char **argv)
{
    static const int rings[] = {-1, -2, -3, -4, -5, -6}; /* KEY_SPEC_*_KEYRING: thread to group */
    static char text[4096];
    const char *what = argv[0];

    for (size_t i = 0; i < COUNT(rings); i++) {
        int ring = rings[i];

        tried(syscall(SYS_request_key, "user", what, NULL, ring), "request_key to %d", ring);
        tried(syscall(SYS_keyctl, 10 /* SEARCH */, ring, "user", what, 0), "search %d", ring);
        tried(syscall(SYS_add_key, "user", what, "secret", 6, ring), "add_key to %d", ring);
        tried(syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, ring, 1), "keyring id %d", ring);
        tried(syscall(SYS_keyctl, 6 /* DESCRIBE */, ring, text, sizeof(text)), "describe %d", ring);
        tried(syscall(SYS_keyctl, 11 /* READ */, ring, text, sizeof(text)), "read %d", ring);
        tried(syscall(SYS_keyctl, 22 /* GET_PERSISTENT */, -1, ring), "persistent %d", ring);
    }
    tried(syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, what), "join a session keyring");
}

/* ---- 29: what an earlier run left; argv: this run's name ---- */

static void attack_residue(int argc, char **argv)
{
    static const char *const places[] = {"/tmp",         "/dev/shm",           "/sandbox/work",
                                         "/sandbox/out", "/sandbox/out/files", "/sandbox/input"};
    static const char *const own[] = {".", "..", "files", "nonce"};
    char path[128], found[300];

    for (size_t i = 0; i < COUNT(places); i++) {
        DIR *dir = opendir(places[i]);
        struct dirent *e;

        while (dir != NULL && (e = readdir(dir)) != NULL) {
            size_t k = 0;

            while (k < COUNT(own) && strcmp(own[k], e->d_name) != 0) {
                k++;
            }
            if (k == COUNT(own)) {
                snprintf(found, sizeof(found), "%s/%s", places[i], e->d_name);
                noted(found, "left");
            }
        }
        if (dir != NULL) {
            closedir(dir);
        }
        snprintf(path, sizeof(path), "%s/" MARK "%s", places[i], argv[0]);
        noted_number(places[i], try_open(path, O_WRONLY | O_CREAT) >= 0);
    }
}

/* ---- 31: descriptors under way ---- */

enum { SCM_MAX = 253, PAIRS_MAX = 120, WAIT_STEPS = 2000, WAIT_US = 5000 };

static int send_descriptors(int sock)
{
    static union {
        char space[CMSG_SPACE(sizeof(int) * SCM_MAX)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.space,
                        .msg_controllen = sizeof(control.space)};
    struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

    cm->cmsg_level = SOL_SOCKET;
    cm->cmsg_type = SCM_RIGHTS;
    cm->cmsg_len = CMSG_LEN(sizeof(int) * SCM_MAX);
    memset(CMSG_DATA(cm), 0, sizeof(int) * SCM_MAX); /* its stdin, that many times */
    return sendmsg(sock, &mh, 0) == 1 ? 0 : 1;
}

/* Sleeps in its sendmsg: the kernel has looked at the limit by then, but not counted. */
static void wait_asleep(pid_t pid)
{
    char path[64], text[512];

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    for (int i = 0; i < WAIT_STEPS; i++) {
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, text, sizeof(text) - 1);
        const char *end;

        close(fd);
        text[n > 0 ? n : 0] = '\0';
        end = strrchr(text, ')');
        if (end != NULL && (end[2] == 'S' || end[2] == 'Z')) {
            return;
        }
        usleep(WAIT_US);
    }
}

/* Not a pair: the length of a queue is limited only where the peer is connected elsewhere. */
static int one_way(int pair[2])
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t); /* the kernel finds a name */

    pair[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
    pair[1] = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (bind(pair[1], (struct sockaddr *)&addr, len) != 0) {
        return -1;
    }
    len = sizeof(addr);
    return getsockname(pair[1], (struct sockaddr *)&addr, &len) == 0
               ? connect(pair[0], (struct sockaddr *)&addr, len)
               : -1;
}

/*
 * argv: how many processes.  Each sends as much as one message takes into a socket that is
 * full, and waits; then room is made in all.  All of it stays under way while the probe holds.
 */
static void attack_under_way(int argc, char **argv)
{
    int n = atoi(argv[0]) < PAIRS_MAX ? atoi(argv[0]) : PAIRS_MAX, sent = 0, wstatus;
    static int pairs[PAIRS_MAX][2];
    static pid_t pids[PAIRS_MAX];
    char byte;

    for (int i = 0; i < n; i++) {
        if (one_way(pairs[i]) != 0) {
            tried(-1, "sockets %d", i);
            return;
        }
        while (send(pairs[i][0], "x", 1, MSG_DONTWAIT) == 1) {
        }
        pids[i] = fork();
        if (pids[i] == 0) {
            _exit(send_descriptors(pairs[i][0]));
        }
    }
    for (int i = 0; i < n; i++) {
        wait_asleep(pids[i]);
    }
    for (int i = 0; i < n; i++) { /* room for one */
        recv(pairs[i][1], &byte, 1, MSG_DONTWAIT);
        sent += waitpid(pids[i], &wstatus, 0) == pids[i] && wstatus == 0;
    }
    noted_number("under way", (long long)sent * SCM_MAX);
}

/* As many sockets as there can be, each with as much in it as it takes. */
static void attack_full_sockets(int argc, char **argv)
{
    static char block[4096];
    long long bytes = 0, sockets = 0;
    int pair[2];
    ssize_t n;

    while (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
        sockets += 2;
        for (int i = 0; i < 2; i++) {
            while ((n = send(pair[i], block, sizeof(block), MSG_DONTWAIT)) > 0) {
                bytes += n;
            }
        }
    }
    tried(-1, "socketpair");
    close(pair[0]); /* room for the answer file */
    close(pair[1]);
    noted_number("sockets", sockets);
    noted_number("bytes", bytes);
}

const attack_t ipc_attacks[] = {
    {"abstract-listen", attack_abstract_listen},
    {"abstract-connect", attack_abstract_connect},
    {"paths", attack_paths},
    {"ipc-make", attack_ipc_make},
    {"ipc-find", attack_ipc_find},
    {"keyrings", attack_keyrings},
    {"residue", attack_residue},
    {"under-way", attack_under_way},
    {"full-sockets", attack_full_sockets},
    {NULL, NULL},
};
