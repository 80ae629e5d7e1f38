/*
 * templates.h - the configuration files that `up` writes.
 */
#ifndef SB_CLI_TEMPLATES_H
#define SB_CLI_TEMPLATES_H

#include "../libskillbox/buf.h"
#include "install.h"
#include "layout.h"

/* Appends the text; check sb_buf_ok(). */
void sb_template_nginx(sb_buf_t *out, const sb_layout_t *layout, const sb_install_t *install,
                       int port);
void sb_template_helper(sb_buf_t *out, const sb_layout_t *layout);

#endif
