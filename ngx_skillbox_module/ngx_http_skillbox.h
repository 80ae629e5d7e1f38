
/*
 * The module's own header: configuration, a request's context, and what each
 * file offers to the others.  The files call downwards:
 *
 *     _module  _conf   directives, phases, processes
 *     _routes      path and method -> handler
 *     _catalog  _versions  _package  _upload  _fields  _files  _file_put
 *     _execution  _artifact  _artifact_file
 *                  the handlers
 *     _admin  _admin_keys  _admin_tenants           those of /v1/admin
 *     _intake      from the helper's word about a package to a skill version
 *     _input       arguments and small bodies
 *     _job         the body of POST /v1/executions (no nginx in it)
 *     _input_files  the files that a run is given by id
 *     _record      an execution's record
 *     _executions  _async  _completion  _reconcile  those of executions that live on their
 *                  own (ngx_http_skillbox_async.h)
 *     _call  _upstream  one call to the helper
 *     _store_thread    writes and parsing off the event loop
 *     _journal  _settle  runs that are answered before they are in the store
 *     _auth  _roles  _key_use  _variables  _errors
 *     _zone  _limits  _auth_failures  _metrics  what the workers share
 *     _audit           the log phase
 *
 * Everything runs in nginx workers: as the worker's user, on the event loop,
 * unless a comment says "thread".
 */


#ifndef _NGX_HTTP_SKILLBOX_H_INCLUDED_
#define _NGX_HTTP_SKILLBOX_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <ngx_thread_pool.h>

#include <jansson.h>

#include "ngx_http_skillbox_compat.h"

#include "../libskillbox/buf.h"
#include "../libskillbox/err.h"
#include "../libskillbox/fastcgi.h"
#include "../libskillbox/jsontext.h"
#include "../libskillbox/limits.h"
#include "../libskillbox/names.h"
#include "../libskillbox/protocol.h"
#include "../libskillbox/semver.h"
#include "../libskillbox/signature.h"
#include "../libskillbox/store.h"
#include "../libskillbox/uuid7.h"


typedef struct ngx_http_skillbox_ctx_s    ngx_http_skillbox_ctx_t;
typedef struct ngx_http_skillbox_call_s   ngx_http_skillbox_call_t;
typedef struct ngx_http_skillbox_op_s     ngx_http_skillbox_op_t;
typedef struct ngx_http_skillbox_work_s   ngx_http_skillbox_work_t;
typedef struct ngx_http_skillbox_ready_s  ngx_http_skillbox_ready_t;


#define NGX_HTTP_SKILLBOX_VERSION  "0.1.0"


/* configuration */

typedef struct {
    ngx_str_t                     id;          /* NUL-terminated */
    u_char                       *secret;
    size_t                        len;
} ngx_http_skillbox_sign_key_t;


typedef struct {
    ngx_str_t                     store;       /* NUL-terminated, empty: none */
    off_t                         store_size;
    ngx_thread_pool_t            *store_pool;
    ngx_thread_pool_t            *work_pool;
    ngx_thread_pool_t            *journal_pool;
    ngx_flag_t                    journal;
    ngx_int_t                     request_id;  /* index of $request_id */
    ngx_array_t                   artifacts;   /* of ngx_str_t, all folders */
    ngx_array_t                   helpers;     /* of upstreams, all of them */
    time_t                        keep_age;    /* of executions; 0: any */
    ngx_int_t                     keep_count;  /* of a tenant; 0: any */
    time_t                        keep_keys;   /* idempotency keys */
    ngx_shm_zone_t               *zone;
    ngx_open_file_t              *audit;       /* NULL: no audit log */
} ngx_http_skillbox_main_conf_t;


typedef struct {
    ngx_flag_t                    enable;
    ngx_flag_t                    auth;
    ngx_flag_t                    json_errors;
    ngx_uint_t                    auth_failures; /* a minute; 0: no limit */
    off_t                         max_package;
    off_t                         max_file;
    off_t                         max_input;
    ngx_str_t                     artifacts;
    ngx_array_t                  *sign_keys;   /* the first signs */
    ngx_array_t                  *cors;        /* of ngx_str_t; NULL: off */
    time_t                        sign_ttl;
    ngx_http_complex_value_t     *public_url;
    ngx_http_complex_value_t     *scan;        /* NULL: warn */
    ngx_msec_t                    heartbeat;   /* of an event stream */
    ngx_msec_t                    queue_timeout;

    ngx_http_upstream_conf_t      upstream;
    ngx_http_upstream_conf_t      probe;       /* the same, short of time */
    ngx_http_upstream_conf_t      ask;         /* probe, of all helpers */
    ngx_http_upstream_conf_t      attach;      /* upstream, the same */

    ngx_flag_t                    metrics;
    ngx_http_complex_value_t     *metrics_class;

    ngx_str_t                     prefix;      /* what stands before /v1 */
    ngx_array_t                  *error_pages; /* as nginx merged them */
    ngx_array_t                  *internal;    /* of uid_t: who completes */
    ngx_http_skillbox_ready_t    *ready;
} ngx_http_skillbox_loc_conf_t;


/* routes */

typedef ngx_int_t (*ngx_http_skillbox_handler_pt)(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);

typedef struct {
    ngx_uint_t                    method;      /* 0 ends the list */
    ngx_http_skillbox_handler_pt  handler;
} ngx_http_skillbox_method_t;

#define NGX_HTTP_SKILLBOX_PARAMS  2

#define NGX_HTTP_SKILLBOX_PUBLIC   1           /* needs no API key */
#define NGX_HTTP_SKILLBOX_RECORDS  2           /* looks at what runs left */

typedef struct {
    const char                   *path;        /* "*" and "#": parameters */
    ngx_uint_t                    flags;
    const char                   *allow;
    ngx_http_skillbox_method_t    methods[5];
} ngx_http_skillbox_route_t;


/* a request */

typedef enum {
    NGX_HTTP_SKILLBOX_AUTH_UNKNOWN = 0,        /* nobody asked yet */
    NGX_HTTP_SKILLBOX_AUTH_OK,
    NGX_HTTP_SKILLBOX_AUTH_MISSING,
    NGX_HTTP_SKILLBOX_AUTH_INVALID,
    NGX_HTTP_SKILLBOX_AUTH_EXPIRED,
    NGX_HTTP_SKILLBOX_AUTH_TENANT,             /* X-Tenant-ID: not his */
    NGX_HTTP_SKILLBOX_AUTH_UNAVAILABLE         /* the store can't be read */
} ngx_http_skillbox_auth_state_e;


typedef struct {
    ngx_int_t                     status;      /* 0: no error was set */
    const char                   *slug;
    ngx_str_t                     message;
    ngx_str_t                     details;     /* JSON, may be empty */
    ngx_uint_t                    retry_after; /* seconds */
    ngx_uint_t                    keepalive;   /* the connection's, before */
} ngx_http_skillbox_error_t;


struct ngx_http_skillbox_ctx_s {
    ngx_http_request_t           *request;

    ngx_http_skillbox_auth_state_e  auth;
    ngx_uint_t                    open;        /* it was by "auth off" */
    sb_key_t                      key;         /* tenant: who is acted for */

    const ngx_http_skillbox_route_t   *route;
    const ngx_http_skillbox_method_t  *method; /* NULL: not allowed here */
    ngx_str_t                     path;        /* without the prefix */
    ngx_str_t                     param[NGX_HTTP_SKILLBOX_PARAMS];
    ngx_str_t                     uri;         /* the route is for this one */

    ngx_http_skillbox_error_t     error;
    ngx_str_t                     error_body;
    ngx_uint_t                    error_sent;  /* unsigned  error_sent:1; */

    /* what is under way for this request, at most one of the two */
    ngx_http_skillbox_op_t       *op;
    ngx_http_skillbox_work_t     *work;
    ngx_http_skillbox_call_t     *call;        /* answered, not yet looked at */

    /* the handler's own; abandon() is called once, when the request goes */
    void                         *data;
    void                        (*abandon)(ngx_http_skillbox_ctx_t *ctx);

    /* for the access log */
    ngx_str_t                     skill;
    ngx_str_t                     version;
    ngx_str_t                     execution;
    ngx_str_t                     status;
    int64_t                       queue_usec;  /* -1: unknown */
    int64_t                       start_usec;
    int64_t                       run_usec;
    int64_t                       collect_usec;

    ngx_str_t                     request_id;

    /* what waits for the helper's status */
    ngx_int_t                   (*status_answer)(ngx_http_request_t *r,
                                     ngx_http_skillbox_ready_t *ready);

    /* for the audit log */
    ngx_str_t                     object;      /* a key, tenant or file */
    ngx_str_t                     digest;      /* of the package */

    int64_t                       limit[SB_LIMIT_COUNT]; /* once read */
    void                         *place;       /* the run's, in the zone */
};


/* one call to the helper */

#define NGX_HTTP_SKILLBOX_REQUEST_ID  1

/* the helper cuts at SB_LOG_MAX; its line about the cut comes on top */
#define NGX_HTTP_SKILLBOX_LOG_MAX     (SB_LOG_MAX + 4096)

typedef void (*ngx_http_skillbox_call_pt)(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
typedef void (*ngx_http_skillbox_piece_pt)(ngx_http_skillbox_call_t *call,
    ngx_uint_t type, const u_char *data, size_t len);

struct ngx_http_skillbox_call_s {
    ngx_http_request_t           *request;     /* who waits for it */
    ngx_http_upstream_conf_t     *conf;
    ngx_http_skillbox_call_pt     done;

    /*
     * Not NULL: the answer is taken as it comes, the request goes on meanwhile
     * and may send.  The log is handed to piece() and not kept; so is the body
     * (STDOUT), which is kept as well.  Neither piece() nor done() may finalize
     * the request: they are called in the middle of something.
     */
    ngx_http_skillbox_piece_pt    piece;
    void                         *data;

    /* what is sent */
    sb_buf_t                      params;      /* name-value pairs */
    ngx_chain_t                  *records;     /* BEGIN_REQUEST, PARAMS */
    ngx_chain_t                  *body;        /* STDIN records */
    ngx_chain_t                 **body_last;   /* when there are any */
    ngx_uint_t                    safe;        /* may be sent twice */
    ngx_msec_t                    limit;       /* for the answer; 0: none */
    ngx_msec_t                    deadline;    /* the same, of this try */
    ngx_uint_t                    body_queued; /* unsigned  body_queued:1; */

    /* what came back */
    sb_fcgi_reader_t              reader;
    sb_buf_t                      out;         /* header block and body */
    size_t                        header_len;
    sb_buf_t                      log;
    u_char                        end[8];
    size_t                        end_len;

    ngx_int_t                     rc;          /* of the upstream machinery */
    ngx_uint_t                    status;      /* 0: no whole answer */
};


/* a write to the store; the operation owns its memory */

struct ngx_http_skillbox_op_s {
    ngx_queue_t                   queue;
    void                        (*prepare)(ngx_http_skillbox_op_t *op);
    sb_code_t                   (*apply)(ngx_http_skillbox_op_t *op,
                                     sb_batch_t *batch, sb_err_t *err);
    void                        (*done)(ngx_http_request_t *r,
                                     ngx_http_skillbox_ctx_t *ctx,
                                     ngx_http_skillbox_op_t *op);
    void                        (*free)(ngx_http_skillbox_op_t *op);
    ngx_http_request_t           *request;     /* NULL: nobody waits */
    sb_err_t                      err;         /* code SB_OK: committed */

    /* thread: the journal's entry, after prepare(); 0: the store's way */
    ngx_uint_t                  (*journal)(ngx_http_skillbox_op_t *op,
                                     sb_buf_t *batch);
    ngx_uint_t                    written;     /* it stands in the journal */
};


/* some other work for a thread; it owns its memory as well */

struct ngx_http_skillbox_work_s {
    ngx_thread_task_t             task;
    void                        (*run)(ngx_http_skillbox_work_t *work);
    void                        (*done)(ngx_http_request_t *r,
                                     ngx_http_skillbox_ctx_t *ctx,
                                     ngx_http_skillbox_work_t *work);
    void                        (*free)(ngx_http_skillbox_work_t *work);
    ngx_http_request_t           *request;
};


/* an element of "input_files" */

typedef struct {
    char                          id[SB_UUID_LEN + 1];
    char                          path[SB_PATH_MAX + 1]; /* "": its name */
    ngx_fd_t                      fd;          /* r's pool closes it */
    off_t                         size;
    ngx_str_t                     file;        /* the path of its content */
} ngx_http_skillbox_input_file_t;


/* a parsed body of POST /v1/executions */

typedef struct {
    char                         *skill;       /* malloc'ed, never NULL */
    char                         *version;     /* NULL: latest */
    char                         *script;
    char                         *module;
    int64_t                       timeout_ms;  /* 0: as the skill says */
    ngx_uint_t                    async;       /* unsigned  async:1; */
    unsigned char                 hash[SB_SHA256_LEN];  /* of the body */
    sb_buf_t                      data;        /* job JSON, then input JSON */
    size_t                        job_len;
    sb_buf_t                      names;       /* of "files", NULs between */
    ngx_http_skillbox_input_file_t  *inputs;   /* malloc'ed; NULL: none */
    ngx_uint_t                    ninputs;
} ngx_http_skillbox_job_t;


/* ngx_http_skillbox_module.c */

ngx_http_skillbox_ctx_t *ngx_http_skillbox_get_ctx(ngx_http_request_t *r);
ngx_http_skillbox_ctx_t *ngx_http_skillbox_find_ctx(ngx_http_request_t *r);


/* ids of input files, with commas, and a NUL */
#define NGX_HTTP_SKILLBOX_INPUTS_LEN  (SB_INPUT_FILES_MAX * (SB_UUID_LEN + 1) + 1)

/* a run, in r's pool */

typedef struct {
    ngx_http_skillbox_job_t       job;
    char                          id[SB_UUID_LEN + 1];
    int64_t                       created_ms;

    /* of the skill version, in r's pool */
    ngx_str_t                     digest;
    ngx_str_t                     lang;
    ngx_str_t                     image;
    ngx_str_t                     target;
    const char                   *mode;
    int64_t                       timeout_ms;
    int64_t                       memory_bytes;
    int64_t                       cpu_milli;

    /* of input_files, in r's pool */
    ngx_str_t                     job_head;     /* what the job begins with */
    ngx_str_t                     inputs;       /* ids, commas between */
    off_t                         inputs_size;
    ngx_uint_t                    input_at;     /* those before are open */
    ngx_int_t                     input_rc;     /* what became of this one */

    ngx_event_t                   begin;        /* record_begin()'s timer */
    unsigned char                *key;          /* hash of Idempotency-Key */

    unsigned                      begun:1;      /* begin was posted */
    unsigned                      ended:1;      /* finish was posted */
    unsigned                      package_sent:1;
    unsigned                      async:1;      /* answered when accepted */
    unsigned                      key_taken:1;  /* for this execution */
} ngx_http_skillbox_run_t;


/* ngx_http_skillbox_conf.c: directives' handlers */

char *ngx_http_skillbox_set_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_skillbox_set_pass(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_skillbox_set_artifacts(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_skillbox_set_sign_key(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_skillbox_set_scan(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/* ngx_http_skillbox_routes.c */

void ngx_http_skillbox_route(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_content_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_skillbox_health(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_ready(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_http_skillbox_ready_t *ngx_http_skillbox_create_ready(ngx_conf_t *cf);
/* what the helper says of itself, at most a second old, to answer r with */
ngx_int_t ngx_http_skillbox_helper_status(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx,
    ngx_int_t (*answer)(ngx_http_request_t *r,
    ngx_http_skillbox_ready_t *ready));
/* can it run skills?  *text: its own words, JSON; empty: there are none */
ngx_uint_t ngx_http_skillbox_helper_said(ngx_http_skillbox_ready_t *ready,
    ngx_str_t *text);


/* ngx_http_skillbox_auth.c */

void ngx_http_skillbox_authenticate(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_authorize(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_access_handler(ngx_http_request_t *r);


/* ngx_http_skillbox_cors.c */

char *ngx_http_skillbox_set_cors(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_skillbox_cors_answer(ngx_http_request_t *r);
ngx_int_t ngx_http_skillbox_cors_preflight(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);


/* ngx_http_skillbox_roles.c, _key_use.c */

ngx_int_t ngx_http_skillbox_check_role(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* notes that the key was used now; written some time later */
void ngx_http_skillbox_key_use(const sb_key_t *key);


/* ngx_http_skillbox_zone.c */

char *ngx_http_skillbox_set_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_skillbox_add_zone(ngx_conf_t *cf,
    ngx_http_skillbox_main_conf_t *smcf, ngx_str_t *name, size_t size);
void ngx_http_skillbox_zone_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf);
void ngx_http_skillbox_zone_exit(void);


/* ngx_http_skillbox_limits.c */

/* NGX_OK: the run has its place until limits_end(); else the status */
/* synchronous runs that have a place, of this worker */
ngx_uint_t ngx_http_skillbox_limits_runs(void);
ngx_int_t ngx_http_skillbox_limits_begin(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* idempotent */
void ngx_http_skillbox_limits_end(ngx_http_skillbox_ctx_t *ctx);
/* NGX_OK: the tenant may keep so much more; else the status */
ngx_int_t ngx_http_skillbox_limits_room(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, off_t bytes);
/* after limits_begin(): tells the helper */
void ngx_http_skillbox_limits_params(ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_call_t *call);
/* bytes; -1: *rc is the status */
off_t ngx_http_skillbox_limits_package(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_int_t *rc);


/* ngx_http_skillbox_auth_failures.c */

/* counts a failure */
void ngx_http_skillbox_auth_failed(ngx_http_request_t *r);
/* NGX_OK, or 429: the address has failed too often */
ngx_int_t ngx_http_skillbox_auth_limit(ngx_http_request_t *r);


/* ngx_http_skillbox_metrics.c */

/* a refusal for that limit; SB_LIMIT_COUNT: for failed authentications */
void ngx_http_skillbox_count_limited(ngx_uint_t limit);
/* an ngx_http_skillbox_auth_state_e that isn't OK */
void ngx_http_skillbox_count_auth(ngx_uint_t state);
/* any thread */
void ngx_http_skillbox_count_journal(ngx_uint_t answered, ngx_uint_t passed);
/* thread */
void ngx_http_skillbox_observe_journal(int64_t usec);
void ngx_http_skillbox_count_batch(ngx_uint_t operations, int64_t usec,
    ngx_uint_t failed);
/* at the log phase; ctx may be NULL */
void ngx_http_skillbox_count_request(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* NGX_OK: it is the end of an asynchronous run */
ngx_int_t ngx_http_skillbox_count_completion(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_metrics_handler(ngx_http_request_t *r);


/* ngx_http_skillbox_audit.c */

char *ngx_http_skillbox_set_audit_log(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_skillbox_log_handler(ngx_http_request_t *r);
/*
 * Lines of runs that ended without a result or a request, sb_interrupted_t's of
 * the store; nothing when err says that it was not committed.  Frees the buffer.
 */
void ngx_http_skillbox_audit_interrupted(sb_buf_t *ended, const sb_err_t *err);


/* ngx_http_skillbox_admin_keys.c, _admin_tenants.c */

ngx_int_t ngx_http_skillbox_key_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_key_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_key_create(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_key_rotate(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_key_revoke(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_tenant_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_tenant_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_tenant_create(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_tenant_update(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_tenant_delete(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);


/* ngx_http_skillbox_variables.c */

ngx_int_t ngx_http_skillbox_add_variables(ngx_conf_t *cf);


/* ngx_http_skillbox_catalog.c */

ngx_int_t ngx_http_skillbox_skill_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_skill_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* {name} and {version} into ctx; a name that can't be is not found */
ngx_int_t ngx_http_skillbox_skill_params(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* an ETag of these bytes, which are quoted */
ngx_int_t ngx_http_skillbox_set_etag(ngx_http_request_t *r, const char *data,
    size_t len);
/* 200 with an ETag of the content; 304 when the client has it */
ngx_int_t ngx_http_skillbox_send_list(ngx_http_request_t *r, sb_buf_t *body);
ngx_int_t ngx_http_skillbox_skill_delete(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);


/* ngx_http_skillbox_versions.c */

ngx_int_t ngx_http_skillbox_version_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_version_activate(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);


/* ngx_http_skillbox_input.c */

/* the root is the caller's; NGX_OK: r will be answered and finalized */
typedef ngx_int_t (*ngx_http_skillbox_json_pt)(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root);

/*
 * An argument of the query string, decoded, with a NUL behind it.
 * NGX_DECLINED: not there (value is null), NGX_ERROR: out of memory.
 */
ngx_int_t ngx_http_skillbox_arg(ngx_http_request_t *r, const char *name,
    ngx_str_t *value);
/* one that is a number; above max is max; not NGX_OK: the status to answer */
ngx_int_t ngx_http_skillbox_arg_number(ngx_http_request_t *r,
    const char *name, ngx_int_t fallback, ngx_int_t max, ngx_int_t *number);
/* Reads a body that must be a JSON object of at most max bytes (some KiB). */
ngx_int_t ngx_http_skillbox_read_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, size_t max,
    ngx_http_skillbox_json_pt handler);
/* the same, and an empty body is an empty object */
ngx_int_t ngx_http_skillbox_read_json_or_none(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, size_t max,
    ngx_http_skillbox_json_pt handler);
/* a string without NULs; NULL when it is not there and need not be */
ngx_int_t ngx_http_skillbox_json_member(ngx_http_request_t *r, json_t *root,
    const char *name, ngx_uint_t required, size_t max, const char **value);


/* a package on its way into the store; ctx->data */

typedef struct {
    ngx_str_t                     path;         /* of the file, with a NUL */
    ngx_fd_t                      fd;
    off_t                         size;
    ngx_str_t                     type;         /* media type */
    off_t                         max;         /* of the package itself */
    off_t                         limit;
    sb_on_conflict_t              on_conflict;
    ngx_uint_t                    check;        /* examine only */
} ngx_http_skillbox_upload_t;


/* ngx_http_skillbox_upload.c, _fields.c */

#define NGX_HTTP_SKILLBOX_UNPROCESSABLE  422

ngx_int_t ngx_http_skillbox_upload(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_validate(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_from_fields(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_http_skillbox_upload_t *ngx_http_skillbox_upload_create(
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx);
/* to the helper's intake, and on; NGX_OK: r will be answered and finalized */
ngx_int_t ngx_http_skillbox_upload_send(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_upload_t *upload);
/* is it a policy of the security scan: off, warn or block? */
ngx_uint_t ngx_http_skillbox_scan_word(ngx_str_t *word);
/* one that may be gone already */
void ngx_http_skillbox_delete_file(ngx_str_t *name);


/* ngx_http_skillbox_intake.c */

/* NGX_OK: r will be answered and finalized */
ngx_int_t ngx_http_skillbox_intake_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_call_t *call);


/* ngx_http_skillbox_package.c */

ngx_int_t ngx_http_skillbox_package_files(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);


/* ngx_http_skillbox_execution.c */

ngx_int_t ngx_http_skillbox_execute(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);


/* ngx_http_skillbox_input_files.c */

/* finds and opens them; NGX_AGAIN: execute_run() will be called again; else the
 * status to answer */
ngx_int_t ngx_http_skillbox_input_files(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run);
/* job, input and input files: the call's STDIN, and what is said of it */
ngx_int_t ngx_http_skillbox_input_files_send(ngx_http_skillbox_call_t *call,
    ngx_http_skillbox_run_t *run);


/* ngx_http_skillbox_record.c */

/* has the run recorded as running, should it last */
ngx_int_t ngx_http_skillbox_record_begin(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run);
/* NGX_OK: r will be answered and finalized */
ngx_int_t ngx_http_skillbox_record_finish(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    ngx_http_skillbox_call_t *call);
/* what a run's error says whose result was not JSON */
#define NGX_HTTP_SKILLBOX_NO_RESULT  "the helper's result was not valid"

/* a result without output, as the helper would have written it; sb_buf_ok() */
void ngx_http_skillbox_render_end(sb_buf_t *out, const char *status,
    const char *error, size_t len, int64_t duration_ms, const char *skill,
    const char *version);
/* without a result; posted, not waited for; nothing if it was ended before */
void ngx_http_skillbox_record_end(ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_run_t *run, const char *status, const char *error,
    size_t len);


/* ngx_http_skillbox_job.c; any thread */

sb_code_t ngx_http_skillbox_job_parse(const char *text, size_t len,
    ngx_http_skillbox_job_t *job, sb_err_t *err);
void ngx_http_skillbox_job_free(ngx_http_skillbox_job_t *job);


/* ngx_http_skillbox_files.c, _file_put.c */

#define NGX_HTTP_SKILLBOX_MAX_FILE  (50 * SB_MIB)

ngx_int_t ngx_http_skillbox_file_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_file_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_file_versions(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_file_download(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_file_delete(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* of a download under that name */
ngx_int_t ngx_http_skillbox_file_headers(ngx_http_request_t *r,
    ngx_str_t *name);
/* POST: a new file; PUT: the next version of {id} */
ngx_int_t ngx_http_skillbox_file_put(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);


/* ngx_http_skillbox_artifact_file.c */

/* in r's pool */

typedef struct ngx_http_skillbox_artifact_s  ngx_http_skillbox_artifact_t;

struct ngx_http_skillbox_artifact_s {
    ngx_str_t                     tenant;
    ngx_str_t                     id;           /* of the execution */
    ngx_str_t                     name;         /* its path in the archive */
    ngx_str_t                     type;
    ngx_str_t                     file;         /* where it lies, NUL behind */
    ngx_uint_t                    index;
    off_t                         size;
    void                        (*ready)(ngx_http_request_t *r,
                                     ngx_http_skillbox_ctx_t *ctx,
                                     ngx_http_skillbox_artifact_t *a,
                                     ngx_int_t rc);
};

ngx_int_t ngx_http_skillbox_artifact_file(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* sends it, or has it sent */
ngx_int_t ngx_http_skillbox_artifact_download(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *tenant, sb_file_t *file);
/* NULL: out of memory */
ngx_http_skillbox_artifact_t *ngx_http_skillbox_artifact_create(
    ngx_http_request_t *r, const char *tenant, sb_file_t *file);
/* NGX_OK: it lies there; NGX_AGAIN: ready() will be called; else the status */
ngx_int_t ngx_http_skillbox_artifact_take(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_artifact_t *a);


/* ngx_http_skillbox_artifact.c */

/* the request's signature, which is for this path; not NGX_OK: the status */
ngx_int_t ngx_http_skillbox_artifact_verify(ngx_http_request_t *r,
    u_char *path, size_t len, char *tenant);

/* a file of ours, as nginx opens any; not NGX_OK: the status to answer */
ngx_int_t ngx_http_skillbox_open(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of);
/* sends it: ranges, ETag, sendfile, no compression; type lives as long as r */
ngx_int_t ngx_http_skillbox_send_file(ngx_http_request_t *r,
    ngx_str_t *path, ngx_open_file_info_t *of, ngx_str_t *type);

ngx_int_t ngx_http_skillbox_artifact(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* the signed address, in r's pool; empty when archives are not served */
ngx_int_t ngx_http_skillbox_files_url(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_str_t *id, ngx_str_t *url);


/* ngx_http_skillbox_archives.c */

/* thread: of an execution's archive; 0: there is none */
int64_t ngx_http_skillbox_archive_bytes(ngx_http_skillbox_main_conf_t *smcf,
    const char *id);
/* thread: removes it */
/* thread: a folder SB_ARTIFACT_DIR_FMT */
void ngx_http_skillbox_archive_remove_copies(const char *path);
/* thread: their bytes; path as above */
int64_t ngx_http_skillbox_archive_copied(const char *path);
/* the tenant's account: so many bytes were taken out of that execution's */
void ngx_http_skillbox_archive_taken(ngx_str_t *tenant, ngx_str_t *id,
    int64_t bytes);
void ngx_http_skillbox_archive_unlink(ngx_http_skillbox_main_conf_t *smcf,
    const char *id);
/* event loop: has it removed */
void ngx_http_skillbox_archive_drop(ngx_http_skillbox_main_conf_t *smcf,
    const char *id);


/* ngx_http_skillbox_call.c */

ngx_http_skillbox_call_t *ngx_http_skillbox_call_create(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *op);
void ngx_http_skillbox_call_param(ngx_http_skillbox_call_t *call,
    const char *name, const char *value, size_t len);
void ngx_http_skillbox_call_number(ngx_http_skillbox_call_t *call,
    const char *name, int64_t value);
/* STDIN, piece by piece; the data and the descriptor must live as long as r */
ngx_int_t ngx_http_skillbox_call_memory(ngx_http_skillbox_call_t *call,
    const char *data, size_t len);
ngx_int_t ngx_http_skillbox_call_file(ngx_http_skillbox_call_t *call,
    ngx_fd_t fd, ngx_str_t *name, off_t size);
ngx_int_t ngx_http_skillbox_call_records(ngx_http_skillbox_call_t *call);
const char *ngx_http_skillbox_call_header(ngx_http_skillbox_call_t *call,
    const char *name, size_t *len);
sb_str_t ngx_http_skillbox_call_body(ngx_http_skillbox_call_t *call);
/* sets r's error to what went wrong with the call or what the helper said */
ngx_int_t ngx_http_skillbox_call_error(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
/* is it the helper's refusal with this slug? */
ngx_uint_t ngx_http_skillbox_call_refused(ngx_http_skillbox_call_t *call,
    const char *slug);


/* ngx_http_skillbox_upstream.c */

/* NGX_OK: done() will be called, later; r is to be left alone till then */
ngx_int_t ngx_http_skillbox_call_start(ngx_http_skillbox_call_t *call,
    ngx_http_skillbox_call_pt done);


/* ngx_http_skillbox_store_thread.c */

ngx_int_t ngx_http_skillbox_store_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf);
void ngx_http_skillbox_store_exit(ngx_cycle_t *cycle);
/* NULL: not open, *err says why */
sb_store_t *ngx_http_skillbox_store(sb_err_t *err);
/* r NULL: nobody waits.  NGX_OK: done() or free() will be called, later. */
ngx_int_t ngx_http_skillbox_store_post(ngx_http_skillbox_op_t *op,
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_work_post(ngx_http_skillbox_work_t *work,
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx);
/* what store_post() does in two steps, and the end, for who has another way */
void ngx_http_skillbox_op_begin(ngx_http_skillbox_op_t *op,
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx);
void ngx_http_skillbox_store_pass_on(ngx_http_skillbox_op_t *op);
void ngx_http_skillbox_op_complete(ngx_http_skillbox_op_t *op);
/* the store has no room, until something is deleted */
ngx_uint_t ngx_http_skillbox_store_low(void);
/* r waits for something else than its client, who may hang up */
void ngx_http_skillbox_wait(ngx_http_request_t *r);
/* any thread: CLOCK_MONOTONIC */
int64_t ngx_http_skillbox_clock_usec(void);


/* ngx_http_skillbox_journal.c */

struct sb_journal_s;

void ngx_http_skillbox_journal_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf);
void ngx_http_skillbox_journal_exit(void);
ngx_uint_t ngx_http_skillbox_journal_is_open(void);
/* has this worker none, and is one to be opened? */
ngx_uint_t ngx_http_skillbox_journal_wanted(void);
/* the journal is taken over */
void ngx_http_skillbox_journal_take(struct sb_journal_s *journal);
/* As store_post(), of an operation with journal(); NGX_DECLINED: store_post(). */
ngx_int_t ngx_http_skillbox_journal_post(ngx_http_skillbox_op_t *op,
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx);
/* what is only in the journal is to be in the store, now */
void ngx_http_skillbox_journal_record(void);


/* ngx_http_skillbox_settle.c */

/* around what brings dead workers' journals into the store: sb_store_open(),
 * sb_store_recover() in a thread; end() when it was successful */
void ngx_http_skillbox_recovery_begin(void);
void ngx_http_skillbox_recovery_end(void);
/* Calls handler when all runs that were answered till now are in the store. */
ngx_int_t ngx_http_skillbox_settle(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_handler_pt handler);


/* ngx_http_skillbox_errors.c */

/* Each returns the status, to be returned or finalized with. */
ngx_int_t ngx_http_skillbox_error(ngx_http_request_t *r, ngx_int_t status,
    const char *fmt, ...) __attribute__((format(printf, 3, 4)));
ngx_int_t ngx_http_skillbox_error_text(ngx_http_request_t *r,
    ngx_int_t status, const char *slug, const char *message, size_t len,
    ngx_str_t *details);
/* what is the system's fault is logged and told in general words only */
ngx_int_t ngx_http_skillbox_error_sb(ngx_http_request_t *r,
    const sb_err_t *err, const char *doing);

ngx_int_t ngx_http_skillbox_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, const char *charset, sb_buf_t *body);
ngx_int_t ngx_http_skillbox_send_joined(ngx_http_request_t *r,
    ngx_uint_t status, sb_buf_t *head, sb_buf_t *tail, size_t from);
ngx_int_t ngx_http_skillbox_send_json(ngx_http_request_t *r,
    ngx_uint_t status, sb_buf_t *body);
ngx_int_t ngx_http_skillbox_add_header(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);
ngx_table_elt_t *ngx_http_skillbox_find_header(ngx_http_request_t *r,
    const char *lowcase_name, ngx_table_elt_t *previous);
void ngx_http_skillbox_request_id(ngx_http_request_t *r, ngx_str_t *id);
/* a copy with a NUL behind it; .data NULL when out of memory */
ngx_str_t ngx_http_skillbox_copy(ngx_pool_t *pool, const char *data,
    size_t len);
ngx_int_t ngx_http_skillbox_filter_init(ngx_conf_t *cf);


extern ngx_module_t  ngx_http_skillbox_module;


#endif /* _NGX_HTTP_SKILLBOX_H_INCLUDED_ */
