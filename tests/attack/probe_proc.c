/*
 * probe_proc.c - attacks on other processes, terminals, devices, and by way of /proc and
 * /sys: items 21, 30, 32 and 35 to 38 of the catalogue.
 */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILES_MAX = 4096, DEPTH_MAX = 8, SHOWN_MAX = 64 * 1024 };

/* ---- walking ---- */

typedef void (*visit_t)(const char *path);

static int visited;

/* Every file below path that is neither a link nor a process's. */
static void walk(const char *path, int depth, visit_t visit)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    char below[1024];

    while (dir != NULL && visited < FILES_MAX && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] == '.' || (depth == 0 && strspn(e->d_name, "0123456789") > 0)) {
            continue;
        }
        snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
        if (e->d_type == DT_DIR && depth < DEPTH_MAX) {
            walk(below, depth + 1, visit);
        } else if (e->d_type == DT_REG) {
            visited++;
            visit(below);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static int write_to(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    int rc = fd < 0 ? -1 : (int)write(fd, text, strlen(text));
    int err = errno;

    close(fd);
    errno = err;
    return rc;
}

/* ---- 21: the kernel's knobs ---- */

static void try_knob(const char *path)
{
    tried(write_to(path, "1"), "write %s", path);
}

static void attack_sysctls(int argc, char **argv)
{
    static const char *const knobs[] = {"user/max_user_namespaces",
                                        "user/max_mnt_namespaces",
                                        "user/max_pid_namespaces",
                                        "user/max_net_namespaces",
                                        "user/max_ipc_namespaces",
                                        "user/max_uts_namespaces",
                                        "user/max_time_namespaces",
                                        "user/max_cgroup_namespaces",
                                        "user/max_inotify_watches",
                                        "kernel/ns_last_pid",
                                        "kernel/core_pattern",
                                        "kernel/hostname",
                                        "kernel/domainname",
                                        "kernel/modprobe",
                                        "kernel/pid_max",
                                        "kernel/shmmax",
                                        "kernel/msgmax",
                                        "kernel/sem",
                                        "kernel/yama/ptrace_scope",
                                        "kernel/randomize_va_space",
                                        "kernel/sysrq",
                                        "fs/mqueue/msg_max",
                                        "fs/file-max",
                                        "fs/suid_dumpable",
                                        "vm/overcommit_memory",
                                        "vm/drop_caches",
                                        "vm/unprivileged_userfaultfd",
                                        "net/ipv4/ip_forward",
                                        "net/ipv4/ping_group_range",
                                        "net/unix/max_dgram_qlen",
                                        "net/core/somaxconn",
                                        "net/ipv4/tcp_rmem",
                                        "net/ipv6/conf/all/disable_ipv6"};
    struct utsname name;
    char path[128];

    for (size_t i = 0; i < COUNT(knobs); i++) {
        snprintf(path, sizeof(path), "/proc/sys/%s", knobs[i]);
        try_knob(path);
    }
    walk("/proc/sys", 1, try_knob);
    noted_number("knobs", visited);
    try_knob("/proc/sysrq-trigger");
    tried(sethostname("sbattack", 8), "sethostname");
    tried(setdomainname("sbattack", 8), "setdomainname");
    uname(&name);
    noted("hostname", name.nodename);
    noted("domainname", name.domainname);
}

/* ---- 30: signals ---- */

static int sleeper(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        pause();
        _exit(0);
    }
    return pid;
}

/* A parent other than pid 1 is the script that started us: its end would be the run's. */
static int is_thread_of(int process, int tid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task/%d", process, tid);
    return process != 1 && access(path, F_OK) == 0;
}

/* argv: pids of the host */
static void attack_signals(int argc, char **argv)
{
    static const int signals[] = {0, SIGKILL, SIGSTOP, SIGTERM, SIGSEGV, SIGCONT};
    int own = getpid(), parent = getppid(), reached = 0, wstatus = 0, child;

    for (int i = 0; i < argc; i++) {
        int pid = atoi(argv[i]);

        for (size_t k = 0; k < COUNT(signals); k++) {
            tried(kill(pid, signals[k]), "kill %d with %d", pid, signals[k]);
        }
        tried(kill(-pid, SIGKILL), "kill group %d", pid);
        tried(syscall(SYS_tgkill, pid, pid, SIGKILL), "tgkill %d", pid);
        tried(syscall(SYS_tkill, pid, SIGKILL), "tkill %d", pid);
        tried(syscall(434 /* pidfd_open */, pid, 0), "pidfd_open %d", pid);
    }
    for (int pid = 2; pid < 100 * 1000; pid++) {
        if (pid != own && kill(pid, 0) == 0 && !is_thread_of(parent, pid) &&
            kill(pid, SIGKILL) == 0) {
            reached++;
        }
    }
    noted_number("reached", reached);
    noted_number("parent", parent);
    child = sleeper();
    /* all but itself and pid 1 */
    noted_number("all", parent == 1 ? kill(-1, SIGKILL) : kill(child, SIGKILL));
    if (waitpid(child, &wstatus, 0) == child) {
        noted_number("own child's signal", WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : 0);
    }
}

/* pid 1 shrugs all of it off, whichever way it is sent. */
static void attack_init(int argc, char **argv)
{
    int pidfd = (int)syscall(434 /* pidfd_open */, 1, 0);

    for (int sig = 1; sig <= 64; sig++) {
        (void)kill(1, sig);
        (void)syscall(SYS_tgkill, 1, 1, sig);
        (void)syscall(424 /* pidfd_send_signal */, pidfd, sig, NULL, 0);
    }
    noted_number("pidfd of pid 1", pidfd >= 0);
    noted_number("still there", kill(1, 0) == 0 || errno == EPERM); /* Landlock's word, or none */
}

/* Stops pid 1, then itself and everything else: only the wall clock is left. */
static void attack_stop(int argc, char **argv)
{
    kill(1, SIGSTOP);
    kill(1, SIGKILL);
    (void)sleeper();
    kill(-1, SIGSTOP);
    kill(getpid(), SIGSTOP);
}

/* ---- 32: terminals ---- */

static void attack_terminals(int argc, char **argv)
{
    static const char *const places[] = {
        "/dev/tty",  "/dev/ptmx",  "/dev/pts/0", "/dev/pts/ptmx", "/dev/console", "/dev/tty0",
        "/dev/tty1", "/dev/ttyS0", "/dev/vcs",   "/dev/vcsa1",    "/dev/hvc0"};
    static const struct {
        const char *name;
        unsigned long command;
    } commands[] = {{"TIOCSTI", TIOCSTI},     {"TIOCLINUX", TIOCLINUX}, {"TIOCSCTTY", TIOCSCTTY},
                    {"TIOCCONS", TIOCCONS},   {"TIOCSETD", TIOCSETD},   {"TIOCVHANGUP", 0x5437},
                    {"TIOCGPTPEER", 0x5441},  {"TIOCGPTN", TIOCGPTN},   {"TIOCSWINSZ", TIOCSWINSZ},
                    {"TIOCEXCL", TIOCEXCL},   {"KDSETMODE", 0x4b3a},    {"VT_ACTIVATE", 0x5606},
                    {"TIOCSPGRP", TIOCSPGRP}, {"TIOCPKT", TIOCPKT}};
    char letter[64] = "s";

    for (int fd = 0; fd <= 2; fd++) {
        noted_number(fd == 0 ? "terminal 0" : fd == 1 ? "terminal 1" : "terminal 2", isatty(fd));
        for (size_t i = 0; i < COUNT(commands); i++) {
            /* the kernel looks at the low 32 bits: what it gets is the same command */
            tried(syscall(SYS_ioctl, fd, commands[i].command, letter), "%s on %d", commands[i].name,
                  fd);
            tried(syscall(SYS_ioctl, fd, commands[i].command | 1ul << 32, letter),
                  "%s with a high bit on %d", commands[i].name, fd);
            tried(syscall(SYS_ioctl, fd, commands[i].command | ~0ul << 32, letter),
                  "%s with all high bits on %d", commands[i].name, fd);
        }
    }
    for (size_t i = 0; i < COUNT(places); i++) {
        tried(try_open(places[i], O_RDWR | O_NOCTTY), "open %s", places[i]);
    }
}

/* ---- 35: devices ---- */

static void attack_devices(int argc, char **argv)
{
    static const char *const names[] = {"kvm",           "fuse",
                                        "net/tun",       "uinput",
                                        "input/event0",  "mem",
                                        "kmem",          "port",
                                        "kmsg",          "loop0",
                                        "loop-control",  "mapper/control",
                                        "vda",           "sda",
                                        "nvme0n1",       "vhost-net",
                                        "vhost-vsock",   "vsock",
                                        "userfaultfd",   "dma_heap/system",
                                        "dri/card0",     "dri/renderD128",
                                        "nvidiactl",     "rtc0",
                                        "hpet",          "cpu/0/msr",
                                        "btrfs-control", "autofs",
                                        "ppp",           "snapshot",
                                        "watchdog",      "vfio/vfio",
                                        "hwrng",         "mqueue",
                                        "hugepages",     "log",
                                        "initctl",       "shm/../mem",
                                        "udmabuf",       "rfkill",
                                        "cuse",          "tpm0"};
    static const struct {
        int major, minor;
        unsigned type;
    } nodes[] = {{1, 1, S_IFCHR},    {1, 2, S_IFCHR},    {1, 11, S_IFCHR},   {5, 0, S_IFCHR},
                 {10, 229, S_IFCHR}, {10, 232, S_IFCHR}, {10, 200, S_IFCHR}, {7, 0, S_IFBLK},
                 {8, 0, S_IFBLK},    {253, 0, S_IFBLK},  {254, 0, S_IFBLK},  {259, 0, S_IFBLK}};
    static const char *const folders[] = {"/tmp", "/dev/shm", "/sandbox/work", "/sandbox/out"};
    char path[128];

    for (size_t i = 0; i < COUNT(names); i++) {
        struct stat st;

        snprintf(path, sizeof(path), "/dev/%s", names[i]);
        tried(stat(path, &st), "stat %s", path);
        tried(try_open(path, O_RDONLY), "open %s", path);
    }
    for (size_t i = 0; i < COUNT(nodes); i++) {
        for (size_t k = 0; k < COUNT(folders); k++) {
            snprintf(path, sizeof(path), "%s/" MARK "%zu", folders[k], i);
            tried(mknod(path, nodes[i].type | 0666,
                        makedev((unsigned)nodes[i].major, (unsigned)nodes[i].minor)),
                  "mknod %d:%d in %s", nodes[i].major, nodes[i].minor, folders[k]);
            tried(try_open(path, O_RDWR), "open it");
        }
    }
    noted_number("null", try_open("/dev/null", O_RDWR) >= 0);
}

/* ---- 36: /sys ---- */

static void attack_sys(int argc, char **argv)
{
    static const char *const places[] = {
        "/sys",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/security",
        "/sys/kernel/debug",
        "/sys/kernel/tracing",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/bpf",
        "/sys/firmware",
        "/sys/power/state",
        "/sys/module",
        "/sys/class/net",
        "/sys/devices/virtual/dmi/id/product_uuid",
        "/sys/block",
        "/proc/sys/../../sys",
    };

    for (size_t i = 0; i < COUNT(places); i++) {
        struct stat st;

        tried(stat(places[i], &st), "stat %s", places[i]);
        tried(try_open(places[i], O_RDONLY), "open %s", places[i]);
        tried(write_to(places[i], "x"), "write %s", places[i]);
    }
    tried(mount("sysfs", "/tmp", "sysfs", 0, NULL), "mount sysfs");
    tried(mount("cgroup2", "/tmp", "cgroup2", 0, NULL), "mount cgroup2");
    tried(mount("debugfs", "/tmp", "debugfs", 0, NULL), "mount debugfs");
}

/* ---- 37: what /proc tells ---- */

static FILE *shown;

/* The beginning of a file's text, for the host to look for its own facts. */
static void show(const char *path)
{
    static char text[SHOWN_MAX];
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    size_t len = 0;
    ssize_t n;

    while ((n = read(fd, text + len, sizeof(text) - len)) > 0) { /* a page at a time */
        len += (size_t)n;
    }
    close(fd);
    fprintf(shown, "==> %s\n", path);
    if (len > 0) {
        fwrite(text, 1, len, shown);
        fputc('\n', shown);
    }
}

static void attack_proc_show(int argc, char **argv)
{
    static const char *const wanted[] = {"kallsyms",     "keys",
                                         "key-users",    "timer_list",
                                         "sched_debug",  "interrupts",
                                         "modules",      "config.gz",
                                         "kcore",        "iomem",
                                         "ioports",      "cmdline",
                                         "kmsg",         "slabinfo",
                                         "vmallocinfo",  "swaps",
                                         "partitions",   "diskstats",
                                         "bootconfig",   "locks",
                                         "softirqs",     "pagetypeinfo",
                                         "zoneinfo",     "buddyinfo",
                                         "mtrr",         "allocinfo",
                                         "schedstat",    "latency_stats",
                                         "consoles",     "devices",
                                         "misc",         "dma",
                                         "kpagecount",   "kpageflags",
                                         "vmstat",       "tty/drivers",
                                         "fs/jbd2",      "bus/pci/devices",
                                         "driver/rtc",   "irq/0/smp_affinity",
                                         "acpi/wakeup",  "scsi/scsi",
                                         "pressure/cpu", "dynamic_debug/control",
                                         "sysrq-trigger"};
    char path[128];

    shown = fopen(FILES "/shown", "w");
    for (size_t i = 0; i < COUNT(wanted); i++) {
        char byte;
        int fd;

        snprintf(path, sizeof(path), "/proc/%s", wanted[i]);
        fd = open(path, O_RDONLY | O_NONBLOCK);
        tried(fd < 0 ? -1 : (int)read(fd, &byte, 1) - 1, "read %s", path); /* -1: it is empty */
        close(fd);
    }
    walk("/proc", 0, show);
    noted_number("files", visited);
    visited = 0;
    walk("/proc/self", 1, show);
    visited = 0;
    walk("/proc/1", 1, show);
    noted_number("shown", fclose(shown) == 0);
}

/* ---- 38: writing about itself ---- */

static void attack_proc_writes(int argc, char **argv)
{
    static const struct {
        const char *name, *text;
    } files[] = {
        {"oom_score_adj", "-1000"},
        {"oom_score_adj", "0"},
        {"oom_adj", "-17"},
        {"timens_offsets", "monotonic 1000 0"},
        {"uid_map", "0 0 1"},
        {"gid_map", "0 0 1"},
        {"projid_map", "0 0 1"},
        {"setgroups", "allow"},
        {"attr/current", "x"},
        {"attr/exec", "x"},
        {"attr/fscreate", "x"},
        {"attr/keycreate", "x"},
        {"attr/sockcreate", "x"},
        {"attr/apparmor/exec", "x"},
        {"coredump_filter", "0x7f"},
        {"clear_refs", "1"},
        {"loginuid", "0"},
        {"sessionid", "0"},
        {"autogroup", "-20"},
        {"timerslack_ns", "1"},
        {"comm", "sbattack"},
        {"mem", "x"},
        {"make-it-fail", "1"},
        {"fail-nth", "1"},
        {"latency", "x"},
        {"sched", "0"},
        {"ns/user", "x"},
        {"environ", "x"},
        {"seccomp_cache", "x"},
        {"arch_status", "x"},
    };
    static const char *const who[] = {"self", "1", "thread-self"};
    char path[128];

    for (size_t k = 0; k < COUNT(who); k++) {
        for (size_t i = 0; i < COUNT(files); i++) {
            snprintf(path, sizeof(path), "/proc/%s/%s", who[k], files[i].name);
            tried(write_to(path, files[i].text), "write %s", path);
        }
    }
}

const attack_t proc_attacks[] = {
    {"sysctls", attack_sysctls},
    {"signals", attack_signals},
    {"init", attack_init},
    {"stop", attack_stop},
    {"terminals", attack_terminals},
    {"devices", attack_devices},
    {"sys", attack_sys},
    {"proc-show", attack_proc_show},
    {"proc-writes", attack_proc_writes},
    {NULL, NULL},
};
