/*
 * client.h - one HTTP call to a gateway (libcurl).
 *
 * Only http and https, no redirects (they would carry the key elsewhere), no
 * proxy for loopback addresses, answers bounded.  Not thread-safe.
 */
#ifndef SB_CLI_CLIENT_H
#define SB_CLI_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/err.h"
#include "../libskillbox/uuid7.h"
#include "options.h"

#define SB_URL_MAX 2048

typedef struct {
    char url[SB_URL_MAX]; /* without a slash at the end */
    const char *key;      /* NULL: no Authorization header */
    const char *tenant;   /* NULL: no X-Tenant-ID header */
    char key_space[64];   /* where a key read from the state folder is kept */
} sb_server_t;

/*
 * Server, key and tenant from the flags, the environment, or the state folder.
 * The key of a state folder is only ever used for that folder's gateway.
 * SB_ENOTFOUND: none is known.
 */
sb_code_t sb_server_find(const sb_args_t *args, sb_server_t *server, sb_err_t *err);

typedef struct {
    const char *method;
    const char *path;         /* behind server->url; an absolute URL when server is NULL */
    const char *content_type; /* of the body */
    const void *body;         /* in memory, or */
    int body_fd;              /* a file to send from its start (-1: none) */
    int64_t body_len;
    int out_fd; /* the answer's body goes there instead of reply->body (-1: not) when it is a 2xx */
    int64_t out_max;
    /* Not NULL: each piece of a 2xx answer as it comes, instead of reply->body; false stops. */
    bool (*on_piece)(void *ctx, const char *data, size_t len);
    void *ctx;
    const char *idempotency_key; /* NULL: none */
    long timeout_ms;             /* of the whole call, 0: none */
    const char *progress;        /* label of the progress line, NULL: none */
} sb_call_t;

#define SB_CALL(method_, path_)                                                                    \
    {                                                                                              \
        .method = (method_), .path = (path_), .body_fd = -1, .out_fd = -1                          \
    }

typedef struct {
    long status;
    sb_buf_t body;              /* NUL-terminated when data is not NULL */
    char next[SB_UUID_LEN + 1]; /* of a list: the next page's cursor; "": there is none */
} sb_reply_t;

/* SB_EGATEWAY: no whole answer came.  reply is to be freed in every case. */
sb_code_t sb_call(const sb_server_t *server, const sb_call_t *call, sb_reply_t *reply,
                  sb_err_t *err);
void sb_reply_free(sb_reply_t *reply);

/* The body as JSON, a member called `without` left out (NULL: none); NULL (and a message on
 * stderr) when it is none. */
json_t *sb_reply_json(const sb_reply_t *reply, const char *without);
/* Prints the body, which must be JSON, as it came; false and a message when it is none. */
bool sb_reply_print(const sb_reply_t *reply);

/*
 * What commands do with a call that must be a 2xx: performs it, prints the
 * server's or the connection's error; EXIT_OK or the exit status.
 */
int sb_call_checked(const sb_server_t *server, const sb_call_t *call, sb_reply_t *reply);

/* GETs path and prints what it gives: as it came, or by `print`.  The exit status. */
int sb_get_and_print(const sb_args_t *args, const char *path, bool json,
                     bool (*print)(const json_t *));

/* Finds the server, printing what is wrong; EXIT_OK or the exit status. */
int sb_server_checked(const sb_args_t *args, sb_server_t *server);

/* "<prefix><segment escaped><suffix>" into out; false when it does not fit. */
bool sb_path_build(char *out, size_t size, const char *prefix, const char *segment,
                   const char *suffix);

#endif
