
/*
 * What the files of /v1/admin share: _admin.c (answers, who may act for
 * whom), _admin_keys.c, _admin_tenants.c.
 */


#ifndef _NGX_HTTP_SKILLBOX_ADMIN_H_INCLUDED_
#define _NGX_HTTP_SKILLBOX_ADMIN_H_INCLUDED_


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_ADMIN_BODY  8192   /* bytes of a request */


/* a write of the admin API; apply() renders the answer */

typedef struct {
    ngx_http_skillbox_op_t        op;
    sb_key_t                      key;
    char                          id[SB_UUID_LEN + 1];   /* of a key there */
    char                          secret[SB_APIKEY_LEN + 1];
    int64_t                       grace_ms;
    int64_t                       until_ms;
    sb_tenant_t                   tenant;
    ngx_uint_t                    status;      /* of the answer, if all is well */
    sb_buf_t                      answer;
} ngx_http_skillbox_admin_op_t;


/* NULL: out of memory */
ngx_http_skillbox_admin_op_t *ngx_http_skillbox_admin_op(
    sb_code_t (*apply)(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err), ngx_uint_t status);
/* NGX_OK: r will be answered and finalized; op is taken in every case */
ngx_int_t ngx_http_skillbox_admin_post(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_admin_op_t *op);

/* may this key manage the tenant?  NGX_OK, or NGX_DECLINED */
ngx_int_t ngx_http_skillbox_admin_of(ngx_http_skillbox_ctx_t *ctx,
    const char *tenant);
/* NGX_OK: the operator's key (service, admin); else the status */
ngx_int_t ngx_http_skillbox_admin_operator(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);

/* a member that must be a string, if it is there; the status when it isn't */
ngx_int_t ngx_http_skillbox_json_text(ngx_http_request_t *r, json_t *root,
    const char *name, const char **value);


#endif /* _NGX_HTTP_SKILLBOX_ADMIN_H_INCLUDED_ */
