/*
 * idmap.c - see idmap.h.  Writes three files of /proc/self.
 */
#include "idmap.h"

#include <errno.h>
#include <stdio.h>

#include "sys.h"

static int write_map(const char *path, unsigned outer)
{
    char line[48];

    snprintf(line, sizeof(line), "%d %u 1\n", SB_INNER_ID, outer);
    return sys_write_text(AT_FDCWD, path, line);
}

int idmap_write(uid_t outer_uid, gid_t outer_gid, const char **step)
{
    const char *unused;

    if (step == NULL)
        step = &unused;
    *step = "identity";
    if (outer_uid == 0 || outer_gid == 0) {
        errno = EPERM;
        return -1;
    }
    *step = "setgroups";
    if (sys_write_text(AT_FDCWD, "/proc/self/setgroups", "deny") != 0)
        return -1;
    *step = "uid_map";
    if (write_map("/proc/self/uid_map", outer_uid) != 0)
        return -1;
    *step = "gid_map";
    return write_map("/proc/self/gid_map", outer_gid);
}
