/*
 * privileges.c - see privileges.h.  Changes only the calling process.
 */
#include "privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* More than any kernel knows: the loop ends at the first number the kernel refuses. */
#define CAP_NUMBER_MAX 64

#define SECUREBITS_ALL                                                                             \
    (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |                               \
     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |       \
     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

int privileges_no_new(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int privileges_dumpable(bool on)
{
    return prctl(PR_SET_DUMPABLE, on ? 1 : 0, 0, 0, 0);
}

/* Asks first: each drop is a new set of credentials, and most find nothing to drop. */
int privileges_drop_bounding(void)
{
    for (int cap = 0; cap < CAP_NUMBER_MAX; cap++) {
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

        if (has == 0 || (has == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0))
            continue;
        /* the first unknown number: everything the kernel has is gone */
        return errno == EINVAL && cap > CAP_SYS_ADMIN ? 0 : -1;
    }
    return 0;
}

int privileges_drop_caps(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

    memset(none, 0, sizeof(none));
    if (privileges_drop_bounding() != 0)
        return -1;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return -1;
    if (prctl(PR_SET_SECUREBITS, SECUREBITS_ALL, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_capset, &header, none);
}
