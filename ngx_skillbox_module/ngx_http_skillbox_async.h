
/*
 * Executions that live without the request that began them: what _async.c,
 * _completion.c, _executions.c, _follow.c, _events.c and _idempotency.c offer.
 *
 *     POST, async -> helper: submit -> record "queued" -> 202      _async
 *     helper: completion -> record -> 204                          _completion
 *     GET, list, DELETE                                            _executions
 *     logs?follow=1, events                                 _follow  _events
 *
 * The record is begun after the helper has accepted the run, which may be over
 * by then: the store takes reports of one execution in any order.
 */


#ifndef _NGX_HTTP_SKILLBOX_ASYNC_H_INCLUDED_
#define _NGX_HTTP_SKILLBOX_ASYNC_H_INCLUDED_


#include "ngx_http_skillbox.h"


/* ngx_http_skillbox_async.c */

/* does the client say "Prefer: respond-async"? */
ngx_uint_t ngx_http_skillbox_async_preferred(ngx_http_request_t *r);
/* the helper has the run; NGX_OK: r will be answered and finalized */
ngx_int_t ngx_http_skillbox_async_accepted(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run);
/* 202 with Location, {"execution_id","status"} */
ngx_int_t ngx_http_skillbox_async_answer(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *status);


/* ngx_http_skillbox_idempotency.c */

/* the header, if there is one, into run->key; not NGX_OK: the status */
ngx_int_t ngx_http_skillbox_idempotency_key(ngx_http_request_t *r,
    ngx_http_skillbox_run_t *run);
/* NGX_DECLINED: the run is to be handed over; NGX_OK: r will be answered, or
 * execute_run() called, later */
ngx_int_t ngx_http_skillbox_idempotency_take(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run);
/* the run was refused: its key is free again */
void ngx_http_skillbox_idempotency_release(ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_run_t *run);


/* ngx_http_skillbox_execution.c */

/* to the helper; NGX_OK: r will be answered and finalized */
ngx_int_t ngx_http_skillbox_execute_run(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run);


/* ngx_http_skillbox_completion.c */

char *ngx_http_skillbox_set_internal(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_skillbox_internal_conf(ngx_conf_t *cf,
    ngx_http_skillbox_loc_conf_t *conf);


/* ngx_http_skillbox_retention.c */

char *ngx_http_skillbox_set_retention(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
/* the worker's; before the store's, as its first step comes by a timer */
void ngx_http_skillbox_retention_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf);
void ngx_http_skillbox_retention_exit(void);


/* ngx_http_skillbox_reconcile.c */

/* the worker's; before the store's, as its first step comes by a timer */
void ngx_http_skillbox_reconcile_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf);


/* ngx_http_skillbox_executions.c */

/* e points into the store's memory: it is valid until the store's next use */
ngx_int_t ngx_http_skillbox_execution_find(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_execution_t *e);
/* has it ended? */
ngx_uint_t ngx_http_skillbox_execution_ended(sb_execution_t *e);
/* the record with files_url and, if wanted, the log; appended to buf */
ngx_int_t ngx_http_skillbox_execution_render(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_execution_t *e, ngx_uint_t logs,
    sb_buf_t *buf);
ngx_int_t ngx_http_skillbox_execution_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_execution_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
ngx_int_t ngx_http_skillbox_execution_delete(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
/* a call to the helper that has the execution, whichever that is */
ngx_http_skillbox_call_t *ngx_http_skillbox_execution_call(
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx, const char *op);


/* every helper was asked and has denied it */
ngx_uint_t ngx_http_skillbox_nobody_has_it(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
/* posted, not waited for: what nobody has is ended as interrupted */
void ngx_http_skillbox_execution_forget(ngx_http_skillbox_ctx_t *ctx);


/* ngx_http_skillbox_events.c: the text of server-sent events, appended */

void ngx_http_skillbox_event_status(sb_buf_t *out, ngx_str_t *id,
    const char *status);
/* one for each line; the last may lack its newline */
void ngx_http_skillbox_event_log(sb_buf_t *out, uint64_t offset,
    const char *text, size_t len);
void ngx_http_skillbox_event_done(sb_buf_t *out, sb_buf_t *record);


/* ngx_http_skillbox_follow.c */

ngx_int_t ngx_http_skillbox_execution_events(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);

ngx_int_t ngx_http_skillbox_execution_logs(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);


#endif /* _NGX_HTTP_SKILLBOX_ASYNC_H_INCLUDED_ */
