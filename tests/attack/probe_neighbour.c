/*
 * probe_neighbour.c - no attack: the run of another tenant that lies beside each attack.
 * It holds what an attacker would like to have or to break (files, memory, a child,
 * listeners), looks every 20 ms whether all is as it was, and leaves a word in
 * /tmp/harmed when it is not.  The host reads that, and the beats of its heart.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY (1024 * 1024)
#define TICK   20000 /* us */

static const char *const files[] = {"/tmp/neighbour", "/dev/shm/neighbour",
                                    "/sandbox/work/neighbour", FILES "/neighbour"};

static void put_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        perror(path);
        exit(3);
    }
    close(fd);
}

static void harmed(const char *what)
{
    put_text("/tmp/harmed", what);
}

static int listen_at(int family, const void *address, size_t len)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (fd < 0 || bind(fd, address, (socklen_t)len) != 0 || listen(fd, 8) != 0) {
        perror("listen");
        exit(3);
    }
    return fd;
}

static int listen_unix(int abstract, const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    memcpy(addr.sun_path + abstract, name, strlen(name));
    return listen_at(AF_UNIX, &addr,
                     offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + strlen(name));
}

static int listen_tcp(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    inet_pton(AF_INET, "127.0.0.1", &addr.sin_addr);
    return listen_at(AF_INET, &addr, sizeof(addr));
}

static pid_t make_child(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_NAME, "nb-child");
        for (;;) {
            pause();
        }
    }
    return pid;
}

static void check_files(const char *token)
{
    for (size_t i = 0; i < COUNT(files); i++) {
        char text[128] = "";
        int fd = open(files[i], O_RDONLY);

        if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0 || strcmp(text, token) != 0) {
            harmed(files[i]);
        }
        close(fd);
    }
}

static void check_memory(const char *memory, const char *token)
{
    size_t len = strlen(token);

    for (size_t at = 0; at + len <= MEMORY; at += len) {
        if (memcmp(memory + at, token, len) != 0) {
            harmed("memory");
            return;
        }
    }
}

/* argv: token, TCP port, seconds to live */
static void run_neighbour(int argc, char **argv)
{
    const char *token = argc > 2 ? argv[0] : "";
    int listeners[3], port = argc > 2 ? atoi(argv[1]) : 0;
    long beats = argc > 2 ? atol(argv[2]) * 1000000 / TICK : 0;
    char *memory = malloc(MEMORY), beat[32];
    pid_t child = make_child();

    if (memory == NULL || child < 0) {
        exit(3);
    }
    for (size_t at = 0, len = strlen(token); at + len <= MEMORY; at += len) {
        memcpy(memory + at, token, len);
    }
    for (size_t i = 0; i < COUNT(files); i++) {
        put_text(files[i], token);
    }
    listeners[0] = listen_tcp(port);
    listeners[1] = listen_unix(1, "sbneighbour");
    listeners[2] = listen_unix(0, "/tmp/neighbour.socket");
    prctl(PR_SET_NAME, "nb-main");
    for (long i = 1; i <= beats; i++) {
        check_files(token);
        check_memory(memory, token);
        if (waitpid(child, NULL, WNOHANG | WUNTRACED) != 0) {
            harmed("child");
        }
        for (size_t k = 0; k < COUNT(listeners); k++) {
            if (accept(listeners[k], NULL, NULL) >= 0) {
                harmed(k == 0 ? "TCP listener" : k == 1 ? "abstract socket" : "socket path");
            }
        }
        snprintf(beat, sizeof(beat), "%ld", i);
        put_text("/tmp/heart", beat);
        usleep(TICK);
    }
}

const attack_t neighbour_attacks[] = {{"neighbour", run_neighbour}, {NULL, NULL}};
