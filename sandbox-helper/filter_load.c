/*
 * filter_load.c - see filter.h.  The last step of each of a run's two processes; apart from
 * filter.c, so that who only loads needs no libseccomp.
 */
#include <linux/seccomp.h>
#include <unistd.h>

#include "filter.h"
#include "sys.h"

int filter_load(const filter_t *filter)
{
    struct sock_fprog program = {.len = filter->len, .filter = filter->code};

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
