/*
 * probe_network.c - attacks on the host's network: item 23 of the catalogue.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_MS = 300, LOCAL_PORT = 4711 };

/* An address as the host's test gives it: "4", "6", or "6%<interface number>", then ip, port. */
typedef struct {
    struct sockaddr_storage addr;
    socklen_t len;
} where_t;

static void parse(const char *kind, const char *ip, int port, where_t *out)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)&out->addr;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->addr;

    memset(out, 0, sizeof(*out));
    if (kind[0] == '4') {
        in4->sin_family = AF_INET;
        in4->sin_port = htons((uint16_t)port);
        inet_pton(AF_INET, ip, &in4->sin_addr);
        out->len = sizeof(*in4);
        return;
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)port);
    in6->sin6_scope_id = kind[1] == '%' ? (uint32_t)atoi(kind + 2) : 0;
    inet_pton(AF_INET6, ip, &in6->sin6_addr);
    out->len = sizeof(*in6);
}

/* Waits for what a connect that is under way comes to. */
static int finish_connect(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    socklen_t len = sizeof(int);
    int err = ETIMEDOUT;

    if (errno != EINPROGRESS) {
        return -1;
    }
    if (poll(&p, 1, ANSWER_MS) == 1) {
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
    }
    errno = err;
    return err == 0 ? 0 : -1;
}

static int connect_to(const where_t *to)
{
    int fd = socket(to->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int rc, err;

    if (fd < 0) {
        return -1;
    }
    rc = connect(fd, (const struct sockaddr *)&to->addr, to->len);
    if (rc != 0) {
        rc = finish_connect(fd);
    }
    err = errno;
    close(fd);
    errno = err;
    return rc;
}

/* TCP Fast Open carries data in the first packet. */
static ssize_t fast_open(const where_t *to)
{
    int fd = socket(to->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ssize_t n = sendto(fd, "knock", 5, MSG_FASTOPEN | MSG_NOSIGNAL,
                       (const struct sockaddr *)&to->addr, to->len);
    int err = errno;

    if (n < 0 && err == EINPROGRESS) {
        n = finish_connect(fd);
        err = errno;
    }
    close(fd);
    errno = err;
    return n;
}

/* By a socket that says it is the address itself (needs no privilege with IP_FREEBIND). */
static ssize_t knock_udp(const where_t *to, int freebind)
{
    int fd = socket(to->addr.ss_family, SOCK_DGRAM, 0), on = 1, err;
    ssize_t n;

    if (freebind) {
        where_t own = *to;

        ((struct sockaddr_in *)&own.addr)->sin_port = 0; /* the same place in both families */
        setsockopt(fd, SOL_IP, IP_FREEBIND, &on, sizeof(on));
        if (bind(fd, (struct sockaddr *)&own.addr, own.len) != 0) {
            close(fd);
            return -1;
        }
    }
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on));
    n = sendto(fd, "knock", 5, 0, (const struct sockaddr *)&to->addr, to->len);
    err = errno;
    close(fd);
    errno = err;
    return n;
}

/* ---- its own loopback: the control ---- */

static int listen_local(const where_t *at)
{
    int fd = socket(at->addr.ss_family, SOCK_STREAM, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&at->addr, at->len) != 0 || listen(fd, 4) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int own_tcp(const where_t *at)
{
    int listener = listen_local(at), client, server;
    char got[4] = "";

    if (listener < 0) {
        return -1;
    }
    client = socket(at->addr.ss_family, SOCK_STREAM, 0);
    if (connect(client, (const struct sockaddr *)&at->addr, at->len) != 0) {
        return -1;
    }
    server = accept(listener, NULL, NULL);
    if (server < 0 || write(client, "abc", 4) != 4 || read(server, got, 4) != 4) {
        return -1;
    }
    close(client);
    close(server);
    close(listener);
    return strcmp(got, "abc") == 0;
}

static int own_udp(const where_t *at)
{
    int fd = socket(at->addr.ss_family, SOCK_DGRAM, 0), other;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char got[4] = "";

    if (bind(fd, (const struct sockaddr *)&at->addr, at->len) != 0) {
        return -1;
    }
    other = socket(at->addr.ss_family, SOCK_DGRAM, 0);
    if (sendto(other, "abc", 4, 0, (const struct sockaddr *)&at->addr, at->len) != 4 ||
        poll(&p, 1, 5000) != 1 || recv(fd, got, 4, 0) != 4) {
        return -1;
    }
    close(fd);
    close(other);
    return strcmp(got, "abc") == 0;
}

static void use_own_loopback(void)
{
    where_t at;

    parse("4", "127.0.0.1", LOCAL_PORT, &at);
    noted_number("own TCP 4", own_tcp(&at));
    noted_number("own UDP 4", own_udp(&at));
    parse("6", "::1", LOCAL_PORT, &at);
    noted_number("own TCP 6", own_tcp(&at));
    noted_number("own UDP 6", own_udp(&at));
}

/* ---- 23 ---- */

static void raw_sockets(void)
{
    static const struct {
        int family, type, protocol;
    } kinds[] = {
        {AF_INET, SOCK_RAW, IPPROTO_RAW},        {AF_INET, SOCK_RAW, IPPROTO_ICMP},
        {AF_INET, SOCK_RAW, IPPROTO_TCP},        {AF_INET, SOCK_DGRAM, IPPROTO_ICMP},
        {AF_INET6, SOCK_RAW, IPPROTO_RAW},       {AF_INET6, SOCK_RAW, IPPROTO_ICMPV6},
        {AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6},  {AF_PACKET, SOCK_RAW, 0x0300},
        {AF_PACKET, SOCK_DGRAM, 0x0300},         {AF_INET, SOCK_PACKET, 0x0300},
        {AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP}, {AF_INET, SOCK_STREAM, IPPROTO_SCTP},
        {AF_INET, SOCK_STREAM, IPPROTO_MPTCP},   {AF_INET, SOCK_DCCP, IPPROTO_DCCP},
        {AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE},
    };

    for (size_t i = 0; i < COUNT(kinds); i++) {
        int fd = socket(kinds[i].family, kinds[i].type, kinds[i].protocol);

        tried(fd, "socket %d %d %d", kinds[i].family, kinds[i].type, kinds[i].protocol);
        if (fd >= 0) {
            close(fd);
        }
    }
}

/* Giving itself an interface, an address, a route. */
static void configure(void)
{
    struct ifreq ifr = {.ifr_name = "lo"};
    struct sockaddr_in *in4 = (struct sockaddr_in *)&ifr.ifr_addr;
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1;

    in4->sin_family = AF_INET;
    inet_pton(AF_INET, "10.99.0.1", &in4->sin_addr);
    tried(ioctl(fd, SIOCSIFADDR, &ifr), "SIOCSIFADDR");
    tried(ioctl(fd, SIOCSIFDSTADDR, &ifr), "SIOCSIFDSTADDR");
    ifr.ifr_flags = IFF_UP | IFF_PROMISC;
    tried(ioctl(fd, SIOCSIFFLAGS, &ifr), "SIOCSIFFLAGS");
    tried(ioctl(fd, SIOCADDRT, &route), "SIOCADDRT");
    tried(ioctl(fd, 0x89a0 /* SIOCBRADDBR */, "br0"), "SIOCBRADDBR");
    tried(ioctl(fd, 0x8946 /* SIOCETHTOOL */, &ifr), "SIOCETHTOOL");
    tried(setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)), "IP_TRANSPARENT");
    tried(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5), "SO_BINDTODEVICE eth0");
    tried(setsockopt(fd, SOL_SOCKET, SO_MARK, &on, sizeof(on)), "SO_MARK");
    tried(setsockopt(fd, SOL_SOCKET, 32 /* SO_SNDBUFFORCE */, &on, sizeof(on)), "SO_SNDBUFFORCE");
    tried(setsockopt(fd, SOL_SOCKET, 33 /* SO_RCVBUFFORCE */, &on, sizeof(on)), "SO_RCVBUFFORCE");
    tried(setsockopt(fd, SOL_IP, 64 /* IPT_SO_SET_REPLACE */, &on, sizeof(on)), "iptables");
    tried(setsockopt(fd, SOL_TCP, TCP_REPAIR, &on, sizeof(on)), "TCP_REPAIR");
    close(fd);
}

/* argv: kind, ip, port of each door of the host */
static void attack_network(int argc, char **argv)
{
    use_own_loopback();
    for (int i = 0; i + 2 < argc; i += 3) {
        where_t to;

        parse(argv[i], argv[i + 1], atoi(argv[i + 2]), &to);
        tried(connect_to(&to), "connect %s %s", argv[i + 1], argv[i + 2]);
        tried(fast_open(&to), "fast open %s %s", argv[i + 1], argv[i + 2]);
        tried(knock_udp(&to, 0), "udp %s %s", argv[i + 1], argv[i + 2]);
        tried(knock_udp(&to, 1), "udp from itself %s %s", argv[i + 1], argv[i + 2]);
    }
    raw_sockets();
    configure();
}

/* ---- 31: memory in the buffers of its own connections ---- */

enum { FILLERS = 3, CONNECTIONS = 60 };

/* As much as a connection takes when nobody reads. */
static long long fill_connection(int listener, const where_t *at)
{
    static char block[65536];
    int ends[2] = {socket(AF_INET, SOCK_STREAM, 0), -1}, size = 1 << 30;
    long long bytes = 0;
    ssize_t n;

    if (connect(ends[0], (const struct sockaddr *)&at->addr, at->len) != 0) {
        return 0;
    }
    ends[1] = accept(listener, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    }
    for (int i = 0; i < 2; i++) {
        while ((n = send(ends[i], block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
            bytes += n;
        }
    }
    return bytes;
}

static void fill_connections(int out, int port)
{
    long long bytes = 0;
    where_t at;
    int listener;

    parse("4", "127.0.0.1", port, &at);
    listener = listen_local(&at);
    for (int i = 0; i < CONNECTIONS; i++) {
        bytes += fill_connection(listener, &at);
    }
    (void)!write(out, &bytes, sizeof(bytes));
    pause();
}

static void attack_full_connections(int argc, char **argv)
{
    long long bytes, sum = 0;
    int out[2];

    if (pipe(out) != 0) {
        tried(-1, "pipe");
        return;
    }
    for (int i = 0; i < FILLERS; i++) {
        if (fork() == 0) {
            fill_connections(out[1], LOCAL_PORT + i);
            _exit(0);
        }
    }
    for (int i = 0; i < FILLERS && read(out[0], &bytes, sizeof(bytes)) == sizeof(bytes); i++) {
        sum += bytes;
    }
    noted_number("bytes", sum);
}

const attack_t network_attacks[] = {
    {"network", attack_network}, {"full-connections", attack_full_connections}, {NULL, NULL}};
