/*
 * service.h - the helper as a service of systemd's, without its library: the
 * protocol is a few words in datagrams and three environment variables.
 *
 * Without systemd all of this does nothing.  The variables are taken out of the
 * environment, so that no child of ours can speak in our name.  Main process only.
 */
#ifndef SB_SERVICE_H
#define SB_SERVICE_H

#include "../libskillbox/err.h"
#include "loop.h"

/*
 * The listening socket that systemd made ($LISTEN_FDS, a .socket unit): *fd, now close-on-exec and
 * non-blocking, or -1 when there is none.  SB_EINVAL: it is not one UNIX stream socket.
 */
sb_code_t service_listener(int *fd, sb_err_t *err);

/*
 * Connects to $NOTIFY_SOCKET, before a user is given up.  False: there is none, or it is
 * unusable (errno); then what follows does nothing.
 */
bool service_open(void);
/* It serves: READY=1, and from now on WATCHDOG=1 from the loop, twice as often as is asked for. */
void service_ready(loop_t *loop, const char *status);
void service_stopping(void); /* STOPPING=1 */
void service_close(loop_t *loop);

#endif
