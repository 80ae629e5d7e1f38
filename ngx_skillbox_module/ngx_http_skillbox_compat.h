
/*
 * What differs between the nginx versions this module is built against,
 * 1.22 to current mainline, keyed on nginx_version; nothing else in the module
 * looks at it.
 */


#ifndef _NGX_HTTP_SKILLBOX_COMPAT_H_INCLUDED_
#define _NGX_HTTP_SKILLBOX_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


#if !(NGX_THREADS)
#error "the skillbox module needs nginx configured with --with-threads"
#endif


/* global in every version, in no header */

extern ngx_module_t  ngx_thread_pool_module;


/* 1.23.0 linked headers of one name; each pushed header has to end its list */

#if (nginx_version >= 1023000)
#define ngx_http_skillbox_header_alone(h)  (h)->next = NULL
#else
#define ngx_http_skillbox_header_alone(h)
#endif


#endif /* _NGX_HTTP_SKILLBOX_COMPAT_H_INCLUDED_ */
