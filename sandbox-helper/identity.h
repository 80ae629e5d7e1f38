/*
 * identity.h - who the helper is, and who may talk to it.
 */
#ifndef SB_IDENTITY_H
#define SB_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#include "../libskillbox/err.h"
#include "config.h"

/*
 * May this process serve, being who it is?  As root only when `user` names
 * somebody else; as anybody else only when `user` is absent or means him.
 */
sb_code_t identity_check(const config_t *c, sb_err_t *err);

/* Becomes c->user for good: groups, gid, uid, all three of each; then proves that there is no way
 * back.  Only as root. */
sb_code_t identity_drop(const config_t *c, sb_err_t *err);

/* Supplementary groups other than the own gid.  They can't be dropped by an ordinary user and stay
 * effective on the host's files inside a sandbox. */
int identity_extra_groups(void);

/* The user at the other end of the socket may use the helper: its own, or one of allow_users.
 * *uid tells who it was. */
bool identity_peer_allowed(const config_t *c, int sock, uid_t *uid);

#endif
