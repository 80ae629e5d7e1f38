/*
 * remove.c - see remove.h.  As root it works in folders that belong to service
 * users, and runtimes were made of somebody's archives: rmtree.h goes by descriptors, follows no
 * link and knows no depth that is too much.
 */
#include "remove.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "../sandbox-helper/rmtree.h"

#define STEP 1000

sb_code_t sb_state_remove(const char *dir, sb_err_t *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    rmtree_t rt;

    if (fd < 0) {
        return sb_err_errno(err, errno, "can't remove %s", dir);
    }
    rmtree_begin(&rt, fd);
    while (rmtree_step(&rt, STEP)) {
    }
    rmtree_end(&rt);
    close(fd);
    if (rt.failed_errno != 0) {
        return sb_err_errno(err, rt.failed_errno, "can't remove all of %s", dir);
    }
    return rmdir(dir) == 0 ? SB_OK : sb_err_errno(err, errno, "can't remove %s", dir);
}
