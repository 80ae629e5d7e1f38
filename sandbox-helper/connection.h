/*
 * connection.h - one FastCGI connection of the gateway: reads one request within
 * fixed bounds, sends one answer, closes.
 *
 * The bytes' way in: BEGIN_REQUEST, PARAMS (kept in memory, SB_PARAMS_MAX), STDIN
 * (written to the descriptor the server chose, never kept in memory).  The way
 * out: STDERR records (the live log), heartbeats while the answer is not there
 * yet, the CGI header block, the body from memory or from a file, END_REQUEST.
 *
 * A connection never calls its owner from inside a call of the owner: a peer
 * that hung up is reported by `gone` from the event loop only.  After gone,
 * or after an answer, the connection belongs to itself and the owner must not
 * touch it again.
 */
#ifndef SB_CONNECTION_H
#define SB_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

typedef struct connection_s connection_t;

typedef struct {
    /* PARAMS are complete: answers at once, or sets an owner (and where STDIN goes). */
    void (*params)(void *ctx, connection_t *c, const char *data, size_t len);
    /* The connection has been closed and is about to be freed. */
    void (*closed)(void *ctx, connection_t *c);
    void *ctx;
} connection_ops_t;

/* Who makes the answer. */
typedef struct {
    /* STDIN has ended; not called when an answer was given before. */
    void (*complete)(void *owner, uint64_t stdin_len);
    /* The peer went away before the answer. */
    void (*gone)(void *owner);
} connection_owner_t;

/* Takes fd (non-blocking, close-on-exec).  NULL: no memory; fd is closed. */
connection_t *connection_open(loop_t *loop, int fd, const connection_ops_t *ops);
/* Closes at once, whatever is pending; gone is not called. */
void connection_close(connection_t *c);

/*
 * STDIN goes to fd (stays the caller's), at most max bytes; more than that is
 * answered 413, and a write that fails 503.
 */
void connection_stdin(connection_t *c, int fd, uint64_t max);

/* Whom complete and gone are told; NULL: nobody, the connection is to close without an answer. */
void connection_set_owner(connection_t *c, const connection_owner_t *ops, void *owner);
/* Neither an owner nor an answer: nothing has been promised to the peer. */
bool connection_idle(const connection_t *c);

/* A piece of the log, sent as soon as the peer takes it. */
void connection_log(connection_t *c, const char *data, size_t len);

/*
 * The answer.  The owner is let go by it, whether or not the peer is still there: gone is not
 * called after it.  `headers` is further CGI header lines, each with CRLF, or "".
 * connection_answer_file takes fd and sends its first len bytes.
 */
void connection_answer(connection_t *c, int status, const char *headers, const char *body,
                       size_t len);
void connection_answer_file(connection_t *c, int status, const char *headers, int fd, uint64_t len,
                            uint32_t app_status);
/*
 * An answer in pieces: the head, any number of pieces of the body and of the log, the end.  The
 * owner stays (gone may come) and heartbeats go on until the end.
 */
void connection_stream(connection_t *c, int status, const char *headers);
void connection_stream_data(connection_t *c, const char *data, size_t len);
void connection_stream_end(connection_t *c);
/* {"error":slug,"message":message}; 503 carries Retry-After. */
void connection_refuse(connection_t *c, int status, const char *slug, const char *message);

/*
 * What a peer gets for which there is no connection to spare: a 503 in one
 * non-blocking write.  The caller closes fd.
 */
void connection_turn_away(int fd);

#endif
