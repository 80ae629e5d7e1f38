/*
 * identity.c - see identity.h.  identity_drop is the last thing that runs as root.
 */
#include "identity.h"

#include <errno.h>
#include <grp.h>
#include <sys/socket.h>
#include <unistd.h>

sb_code_t identity_check(const config_t *c, sb_err_t *err)
{
    if (geteuid() == 0 || getuid() == 0) {
        if (!c->have_user)
            return sb_err_set(err, SB_EINVAL,
                              "the helper was started as root and does not run as root: name the "
                              "user to become in `user`, or start it as that user");
        return SB_OK;
    }
    if (c->have_user && c->uid != geteuid())
        return sb_err_set(err, SB_EINVAL,
                          "`user` is %s, but the helper was started by uid %d, which cannot become "
                          "anybody else",
                          c->user, (int)geteuid());
    return SB_OK;
}

sb_code_t identity_drop(const config_t *c, sb_err_t *err)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;

    if (setgroups(0, NULL) != 0)
        return sb_err_errno(err, errno, "setgroups");
    if (setresgid(c->gid, c->gid, c->gid) != 0)
        return sb_err_errno(err, errno, "setresgid");
    if (setresuid(c->uid, c->uid, c->uid) != 0)
        return sb_err_errno(err, errno, "setresuid");
    if (getresuid(&r, &e, &s) != 0 || getresgid(&rg, &eg, &sg) != 0)
        return sb_err_errno(err, errno, "getresuid");
    if (r != c->uid || e != c->uid || s != c->uid || rg != c->gid || eg != c->gid || sg != c->gid ||
        setuid(0) == 0 || setgid(0) == 0 || getgroups(0, NULL) != 0)
        return sb_err_set(err, SB_EINTERNAL, "privileges could not be dropped");
    return SB_OK;
}

int identity_extra_groups(void)
{
    gid_t groups[1024];
    int n = getgroups(1024, groups), extra = 0;

    for (int i = 0; i < n; i++)
        extra += groups[i] != getegid();
    return n < 0 ? 1024 : extra; /* more than fit: certainly too many */
}

bool identity_peer_allowed(const config_t *c, int sock, uid_t *uid)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    *uid = (uid_t)-1;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 || len != sizeof peer)
        return false;
    *uid = peer.uid;
    if (peer.uid == geteuid())
        return true;
    for (size_t i = 0; i < c->nallow_users; i++) {
        if (c->allow_users[i] == peer.uid)
            return true;
    }
    return false;
}
