/*
 * filter_load.c - see filter.h.  The last step of each of a run's two processes; apart from
 * filter.c, so that who only loads needs no libseccomp.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "filter.h"
#include "sys.h"

int filter_load(const filter_t *filter)
{
    struct sock_fprog program = {.len = filter->len, .filter = filter->code};

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

int filter_load_second(const filter_t *filter)
{
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_FILTER) {
        errno = ENOSYS;
        return -1;
    }
    return filter_load(filter);
}
