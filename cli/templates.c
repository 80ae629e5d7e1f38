/*
 * templates.c - see templates.h.  Text with @names@ that are replaced; pure.
 * conf/nginx.conf.example and conf/helper.yaml are the commented versions for
 * production; these here are for one machine's loopback address.
 */
#include "templates.h"

#include <stdio.h>
#include <string.h>

static const char nginx_text[] =
    "# Written by `skillbox up`; written anew each time it starts.\n"
    "\n"
    "@load_module@@user@"
    "daemon            off;\n"
    "worker_processes  2;\n"
    "pid               \"@dir@/nginx.pid\";\n"
    "error_log         \"@dir@/logs/error.log\" info;\n"
    "\n"
    "events {\n"
    "    worker_connections  1024;\n"
    "}\n"
    "\n"
    "http {\n"
    "    log_format  skillbox  '$remote_addr [$time_iso8601] \"$request_method $uri\" $status '\n"
    "                          '$body_bytes_sent rt=$request_time '\n"
    "                          'request=$sent_http_x_request_id tenant=$skillbox_tenant '\n"
    "                          'key=$skillbox_key skill=$skillbox_skill@$skillbox_version '\n"
    "                          'execution=$skillbox_execution_id result=$skillbox_status '\n"
    "                          'queued=$skillbox_queue_time run=$skillbox_run_time';\n"
    "    access_log  \"@dir@/logs/access.log\" skillbox;\n"
    "\n"
    "    skillbox_store      \"@dir@/store\";\n"
    "    skillbox_artifacts  \"@dir@/artifacts\";\n"
    "    skillbox_sign_key   up \"@dir@/sign.key\";\n"
    "\n"
    "    # uploads are moved into the store: same file system\n"
    "    client_body_temp_path  \"@dir@/tmp/body\";\n"
    "    proxy_temp_path        \"@dir@/tmp/proxy\";\n"
    "    fastcgi_temp_path      \"@dir@/tmp/fastcgi\";\n"
    "    uwsgi_temp_path        \"@dir@/tmp/uwsgi\";\n"
    "    scgi_temp_path         \"@dir@/tmp/scgi\";\n"
    "    client_max_body_size   64m;\n"
    "\n"
    "    sendfile       on;\n"
    "    server_tokens  off;\n"
    "\n"
    "    server {\n"
    "        listen  127.0.0.1:@port@;\n"
    "\n"
    "        skillbox_json_errors  on;\n"
    "\n"
    "        location / {\n"
    "            skillbox              on;\n"
    "            skillbox_pass         \"unix:@dir@/" SB_SOCKET_NAME "\";\n"
    "            skillbox_max_package  50m;\n"
    "        }\n"
    "\n"
    "        location = /metrics {\n"
    "            skillbox_metrics  on;\n"
    "            skillbox_pass     \"unix:@dir@/" SB_SOCKET_NAME "\";\n"
    "        }\n"
    "    }\n"
    "\n"
    "    # where the helper brings results of asynchronous runs\n"
    "    server {\n"
    "        listen      \"unix:@dir@/" SB_DONE_NAME "\";\n"
    "        access_log  off;\n"
    "\n"
    "        location / {\n"
    "            skillbox_internal@completer@;\n"
    "        }\n"
    "    }\n"
    "}\n";

static const char helper_text[] = "# Written by `skillbox up`; written anew each time it starts.  "
                                  "conf/helper.yaml has all keys.\n"
                                  "\n"
                                  "listen: \"@dir@/" SB_SOCKET_NAME "\"\n"
                                  "@users@"
                                  "completion: \"unix:@dir@/" SB_DONE_NAME "\"\n"
                                  "state_dir: \"@dir@/helper\"\n"
                                  "artifacts: \"@dir@/artifacts\"\n"
                                  "runtimes_dir: \"@dir@/runtimes\"\n";

typedef struct {
    const char *name;
    const char *value;
} var_t;

/* Copies text, replacing @name@; an '@' that begins no known name stays. */
static void expand(sb_buf_t *out, const char *text, const var_t *vars)
{
    while (*text != '\0') {
        size_t plain = strcspn(text, "@");
        const var_t *v = vars;

        sb_buf_add(out, text, plain);
        text += plain;
        if (*text == '\0') {
            return;
        }
        for (; v->name != NULL; v++) {
            size_t len = strlen(v->name);

            if (strncmp(text + 1, v->name, len) == 0 && text[1 + len] == '@') {
                sb_buf_str(out, v->value);
                text += len + 2;
                break;
            }
        }
        if (v->name == NULL) {
            sb_buf_char(out, *text++);
        }
    }
}

void sb_template_nginx(sb_buf_t *out, const sb_layout_t *layout, const sb_install_t *install,
                       int port)
{
    char load[SB_STATE_PATH_MAX + 32] = "", user[SB_USER_MAX + 32] = "", port_text[16];
    char completer[SB_USER_MAX + 2] = "";
    const var_t vars[] = {{"load_module", load}, {"user", user},           {"dir", layout->dir},
                          {"port", port_text},   {"completer", completer}, {NULL, NULL}};

    if (install->module[0] != '\0') {
        snprintf(load, sizeof(load), "load_module \"%s\";\n", install->module);
    }
    if (layout->root) {
        snprintf(user, sizeof(user), "user %s;\n", layout->worker.name);
        snprintf(completer, sizeof(completer), " %s", layout->helper.name);
    }
    snprintf(port_text, sizeof(port_text), "%d", port);
    expand(out, nginx_text, vars);
}

void sb_template_helper(sb_buf_t *out, const sb_layout_t *layout)
{
    char users[4 * SB_USER_MAX] = "";
    const var_t vars[] = {{"users", users}, {"dir", layout->dir}, {NULL, NULL}};

    if (layout->root) {
        snprintf(users, sizeof(users), "user: %s\nallow_users: [%s]\n", layout->helper.name,
                 layout->worker.name);
    }
    expand(out, helper_text, vars);
}
