/*
 * packer_filter.c - see packer_filter.h.  packer_filter_compile() runs in the nursery
 * (libseccomp allocates and needs a memfd), packer_filter_load() in the child.
 *
 * What is not in the table is refused with EPERM: there is no socket, no exec, no
 * fork, no thread, no signal to others, no mount, no namespace, no ioctl, and no
 * open or stat by a path of the process's own root or working directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <seccomp.h>

#include "packer_filter.h"
#include "sys.h"

#define ALL     (PACKER_INTAKE | PACKER_COLLECT | PACKER_IMPORT | PACKER_READ)
#define WRITERS (PACKER_INTAKE | PACKER_IMPORT)

enum check {
    ANY,        /* arguments do not matter */
    RELATIVE,   /* argument 0 is a descriptor, not AT_FDCWD */
    NO_EXEC,    /* argument 2 (protection) has no PROT_EXEC */
    DESCRIPTOR, /* argument 1 of fcntl: only what fdopendir(3) and stdio ask */
};

static const struct {
    int number;
    unsigned roles;
    enum check check;
} allowed[] = {
    /* data through descriptors that are open */
    {SCMP_SYS(read), ALL, ANY},
    {SCMP_SYS(pread64), ALL, ANY},
    {SCMP_SYS(write), ALL, ANY},
    {SCMP_SYS(pwrite64), ALL, ANY},
    {SCMP_SYS(lseek), ALL, ANY},
    {SCMP_SYS(close), ALL, ANY},
    {SCMP_SYS(fstat), ALL, ANY},
    {SCMP_SYS(newfstatat), ALL, RELATIVE}, /* also how glibc spells fstat */
    {SCMP_SYS(fcntl), ALL, DESCRIPTOR},

    /* memory: malloc and the mapped package; never executable */
    {SCMP_SYS(brk), ALL, ANY},
    {SCMP_SYS(mmap), ALL, NO_EXEC},
    {SCMP_SYS(mprotect), ALL, NO_EXEC},
    {SCMP_SYS(mremap), ALL, ANY},
    {SCMP_SYS(munmap), ALL, ANY},
    {SCMP_SYS(madvise), ALL, ANY},

    /* the file system: openat2 confines paths by RESOLVE_BENEATH, Landlock says where */
    {SYS_openat2, ALL, ANY},
    {SCMP_SYS(openat), WRITERS | PACKER_READ, RELATIVE}, /* kernels without openat2 */
    {SCMP_SYS(readlinkat), PACKER_READ, RELATIVE},
    {SCMP_SYS(mkdirat), WRITERS, RELATIVE},
    {SCMP_SYS(symlinkat), WRITERS, ANY}, /* dirfd is argument 1; Landlock confines it */
    {SCMP_SYS(fchmod), WRITERS, ANY},    /* exec bits, then read-only */
    {SCMP_SYS(ftruncate), WRITERS, ANY},
    {SCMP_SYS(sync_file_range), PACKER_INTAKE, ANY},
    /* artifacts; opaque folders; packages */
    {SCMP_SYS(getdents64), PACKER_COLLECT | PACKER_IMPORT | PACKER_READ, ANY},
    {SCMP_SYS(unlinkat), PACKER_IMPORT, RELATIVE},
    {SCMP_SYS(renameat), PACKER_IMPORT, RELATIVE}, /* Landlock says where to, for all three */
    {SCMP_SYS(renameat2), PACKER_IMPORT, RELATIVE},
    {SCMP_SYS(linkat), PACKER_IMPORT, RELATIVE},
    {SCMP_SYS(utimensat), PACKER_IMPORT, RELATIVE},
    {SCMP_SYS(fsync), ALL, ANY},

    /* main: the task and its descriptors come, the report goes */
    {SCMP_SYS(recvmsg), PACKER_COLLECT, ANY},
    {SCMP_SYS(sendto), ALL, ANY},
    {SCMP_SYS(sendmsg), ALL, ANY},

    /* a collect child learns its folders late; these calls can only take rights away */
    {SYS_landlock_create_ruleset, PACKER_COLLECT, ANY},
    {SYS_landlock_add_rule, PACKER_COLLECT, ANY},
    {SYS_landlock_restrict_self, PACKER_COLLECT, ANY},

    /* what the C library asks by itself */
    {SCMP_SYS(clock_gettime), ALL, ANY}, /* where there is no vDSO */
    {SCMP_SYS(gettimeofday), ALL, ANY},
    {SCMP_SYS(time), ALL, ANY},
    {SCMP_SYS(sysinfo), ALL,
     ANY}, /* qsort(3) sizes its buffer by it and does not check for errors */
    {SCMP_SYS(getrandom), ALL, ANY},
    {SCMP_SYS(futex), ALL, ANY}, /* pthread_once(3) wakes nobody, but does */
    {SCMP_SYS(restart_syscall), ALL, ANY},
    {SCMP_SYS(rt_sigreturn), ALL, ANY},
    {SCMP_SYS(exit), ALL, ANY},
    {SCMP_SYS(exit_group), ALL, ANY},

#if PACKER_SANITIZED
    /* AddressSanitizer's own needs, in test builds only */
    {SCMP_SYS(rt_sigprocmask), ALL, ANY},
    {SCMP_SYS(rt_sigaction), ALL, ANY},
    {SCMP_SYS(sigaltstack), ALL, ANY},
    {SCMP_SYS(sched_yield), ALL, ANY},
    {SCMP_SYS(getpid), ALL, ANY},
    {SCMP_SYS(gettid), ALL, ANY},
    {SCMP_SYS(prctl), ALL, ANY},
#endif
};

static int add_relative(scmp_filter_ctx ctx, int number)
{
    /* the kernel takes an int: compare 32 bits, the upper ones are the caller's to choose */
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, number, 1,
                            SCMP_A0(SCMP_CMP_MASKED_EQ, 0x80000000u, 0));
}

static int add_fcntl(scmp_filter_ctx ctx, int number)
{
    static const unsigned commands[] = {F_GETFL, F_GETFD, F_SETFD};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, number, 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, commands[i]));
    }
    return rc;
}

static int add_rule(scmp_filter_ctx ctx, int number, enum check check)
{
    switch (check) {
    case RELATIVE:
        return add_relative(ctx, number);
    case NO_EXEC:
        return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, number, 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    case DESCRIPTOR:
        return add_fcntl(ctx, number);
    default:
        return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, number, 0);
    }
}

static int add_rules(scmp_filter_ctx ctx, enum packer_role role)
{
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

    for (size_t i = 0; rc == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        /* negative: a call that this architecture does not have (time on aarch64) */
        if ((allowed[i].roles & role) != 0 && allowed[i].number >= 0) {
            rc = add_rule(ctx, allowed[i].number, allowed[i].check);
        }
    }
    return rc;
}

/* libseccomp writes programs to descriptors only. */
static int export_code(scmp_filter_ctx ctx, packer_filter_t *filter)
{
    int rc = -1, fd = memfd_create("filter", MFD_CLOEXEC);
    struct stat st;

    if (fd < 0) {
        return -1;
    }
    filter->code = NULL;
    if (seccomp_export_bpf(ctx, fd) == 0 && fstat(fd, &st) == 0 && st.st_size > 0 &&
        st.st_size <= BPF_MAXINSNS * (off_t)sizeof(struct sock_filter)) {
        filter->len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
        filter->code = malloc((size_t)st.st_size);
    }
    if (filter->code != NULL && pread(fd, filter->code, (size_t)st.st_size, 0) == st.st_size) {
        rc = 0;
    }
    close(fd);
    return rc;
}

int packer_filter_compile(enum packer_role role, packer_filter_t *filter)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc;

    if (ctx == NULL) {
        errno = ENOMEM;
        return -1;
    }
    rc = add_rules(ctx, role);
    if (rc < 0) {
        errno = -rc;
        rc = -1;
    } else {
        rc = export_code(ctx, filter);
    }
    seccomp_release(ctx);
    return rc;
}

int packer_filter_load(const packer_filter_t *filter)
{
    struct sock_fprog program = {.len = filter->len, .filter = filter->code};

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
