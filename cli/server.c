/*
 * server.c - which gateway a command talks to, and with which key; see client.h.
 * Reads the environment and the state folder.
 */
#include <stdlib.h>
#include <string.h>

#include "../libskillbox/names.h"
#include "cli.h"
#include "client.h"
#include "output.h"
#include "state.h"

static const char *from_env(const char *name)
{
    const char *v = getenv(name);

    return v != NULL && v[0] != '\0' ? v : NULL;
}

static sb_code_t set_url(sb_server_t *server, const char *url, sb_err_t *err)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/') {
        len--;
    }
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        return sb_err_set(err, SB_EINVAL, "the server's URL must begin with http:// or https://");
    }
    if (len >= sizeof(server->url)) {
        return sb_err_set(err, SB_EINVAL, "the server's URL is too long");
    }
    memcpy(server->url, url, len);
    server->url[len] = '\0';
    return SB_OK;
}

sb_code_t sb_server_find(const sb_args_t *args, sb_server_t *server, sb_err_t *err)
{
    const char *url = sb_args_get(args, "server");
    const char *dir = sb_state_folder(args);
    sb_state_t state;
    sb_code_t code;

    memset(server, 0, sizeof(*server));
    server->key = sb_args_get(args, "key");
    if (server->key == NULL) {
        server->key = from_env("SKILLBOX_API_KEY");
    }
    server->tenant = sb_args_get(args, "tenant");
    if (server->key != NULL && !sb_apikey_wellformed(server->key, strlen(server->key))) {
        return sb_err_set(err, SB_EAUTH, "the API key is not one: sk- and 43 characters");
    }
    if (server->tenant != NULL && !sb_tenant_valid(server->tenant, strlen(server->tenant))) {
        return sb_err_set(err, SB_EINVAL, "'%s' is not a tenant's id", server->tenant);
    }
    if (url == NULL && sb_args_get(args, "state") == NULL) {
        url = from_env("SKILLBOX_SERVER_URL");
    }
    if (url != NULL) {
        return set_url(server, url, err);
    }
    code = sb_state_load(dir, &state, err);
    if (code == SB_ENOTFOUND) {
        return sb_err_set(
            err, code, "no server: give --server, set SKILLBOX_SERVER_URL, or run `skillbox up`");
    }
    if (code != SB_OK) {
        return code;
    }
    if (server->key == NULL) {
        sb_state_key_load(dir, server->key_space);
        server->key = server->key_space[0] != '\0' ? server->key_space : NULL;
    }
    return set_url(server, state.url, err);
}

int sb_server_checked(const sb_args_t *args, sb_server_t *server)
{
    sb_err_t err;

    switch (sb_server_find(args, server, &err)) {
    case SB_OK:
        return EXIT_OK;
    case SB_EAUTH:
    case SB_EFORBIDDEN:
        sb_say_err(&err);
        return EXIT_UNAUTHORIZED;
    case SB_ENOTFOUND:
        sb_say_err(&err);
        return EXIT_UNREACHABLE;
    case SB_EINVAL:
        sb_say_err(&err);
        return EXIT_USAGE;
    default:
        sb_say_err(&err);
        return EXIT_FAILED;
    }
}
