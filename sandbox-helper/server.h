/*
 * server.h - the listening socket: who may connect, how many at once, and which
 * station a request goes to.
 */
#ifndef SB_SERVER_H
#define SB_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "../libskillbox/err.h"
#include "config.h"
#include "connection.h"
#include "loop.h"

struct helper_s;

typedef struct {
    struct helper_s *helper;
    int fd;
    bool inherited; /* from the service manager, whose the path is */
    loop_source_t source;
    connection_ops_t ops;
    connection_t **connections;
    size_t nconnections, max_connections;
} server_t;

/*
 * Makes the socket and binds it; it is not listening yet.  As root, before
 * privileges are dropped, it is given to c->user.  A stale socket is replaced;
 * one that somebody listens on is SB_ECONFLICT.  A socket of systemd's is taken as it is.
 */
sb_code_t server_bind(server_t *s, const config_t *c, sb_err_t *err);
/* Starts to accept. */
sb_code_t server_listen(server_t *s, struct helper_s *h, sb_err_t *err);
/* Accepts no more, and closes the connections that have brought no whole request yet. */
void server_stop(server_t *s, const config_t *c);
void server_close(server_t *s);

#endif
