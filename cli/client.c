/*
 * client.c - see client.h.  Opens network connections to the named server only.
 */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <curl/curl.h>

#include "cli.h"
#include "jsontext.h"
#include "output.h"

#define CONNECT_TIMEOUT_MS 10000L
#define REPLY_MAX          (64 * SB_MIB)

/* One transfer, as libcurl's callbacks see it. */
typedef struct {
    const sb_call_t *call;
    sb_reply_t *reply;
    CURL *curl;
    int64_t sent;
    int64_t written;
    int out_errno; /* why out_fd could not be written */
    bool too_large;
    sb_progress_t progress;
} transfer_t;

static size_t write_out(transfer_t *t, const char *data, size_t len)
{
    size_t done = 0;

    if (t->written + (int64_t)len > t->call->out_max) {
        t->too_large = true;
        return 0;
    }
    while (done < len) {
        ssize_t n = write(t->call->out_fd, data + done, len - done);

        if (n < 0 && errno != EINTR) {
            t->out_errno = errno;
            return 0;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    t->written += (int64_t)len;
    return len;
}

static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
    transfer_t *t = ctx;
    size_t len = size * n;
    long status = 0;

    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (t->call->out_fd >= 0 && status >= 200 && status < 300) {
        return write_out(t, data, len);
    }
    if (t->call->on_piece != NULL && status >= 200 && status < 300) {
        return t->call->on_piece(t->call->ctx, data, len) ? len : 0;
    }
    sb_buf_add(&t->reply->body, data, len);
    t->too_large = !sb_buf_ok(&t->reply->body);
    return t->too_large ? 0 : len;
}

/* Of `Link: <...cursor=ID>; rel="next"` the id. */
static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    transfer_t *t = ctx;
    size_t len = size * n;
    const char *cursor;

    if (len > 5 && strncasecmp(data, "link:", 5) == 0 &&
        (cursor = memmem(data, len, "cursor=", 7)) != NULL &&
        (size_t)(data + len - cursor) >= 7 + SB_UUID_LEN &&
        sb_uuid_parse(cursor + 7, SB_UUID_LEN, NULL)) {
        memcpy(t->reply->next, cursor + 7, SB_UUID_LEN);
        t->reply->next[SB_UUID_LEN] = '\0';
    }
    return len;
}

static size_t on_read(char *data, size_t size, size_t n, void *ctx)
{
    transfer_t *t = ctx;
    ssize_t got;

    do {
        got = pread(t->call->body_fd, data, size * n, t->sent);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return CURL_READFUNC_ABORT;
    }
    t->sent += got;
    return (size_t)got;
}

/* libcurl sends a body again after some connection failures */
static int on_seek(void *ctx, curl_off_t offset, int origin)
{
    transfer_t *t = ctx;

    if (origin != SEEK_SET) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    t->sent = offset;
    return CURL_SEEKFUNC_OK;
}

static int on_progress(void *ctx, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
                       curl_off_t ulnow)
{
    transfer_t *t = ctx;

    if (ultotal > 0 && ulnow < ultotal) {
        sb_progress_show(&t->progress, t->call->progress, ulnow, ultotal);
    } else if (dltotal > 0 && dlnow < dltotal) {
        sb_progress_show(&t->progress, t->call->progress, dlnow, dltotal);
    } else {
        sb_progress_show(&t->progress, t->call->progress, 0, 0);
    }
    return 0;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *name, const char *value)
{
    char *line = NULL;

    if (value == NULL) {
        return list;
    }
    if (asprintf(&line, "%s: %s", name, value) < 0) {
        return list;
    }
    struct curl_slist *longer = curl_slist_append(list, line);
    free(line);
    return longer != NULL ? longer : list;
}

/* A proxy from the environment must not see what is meant for this machine. */
static bool is_loopback(const char *url)
{
    CURLU *u = curl_url();
    char *host = NULL;
    bool loopback = false;

    if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        loopback = strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
                   strcmp(host, "[::1]") == 0;
    }
    curl_free(host);
    curl_url_cleanup(u);
    return loopback;
}

static void set_body(CURL *c, const sb_call_t *call)
{
    if (call->body_fd >= 0) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_len);
    } else if (call->body != NULL) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, call->body);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_len);
    }
}

static void set_up(transfer_t *t, const char *url, struct curl_slist *headers)
{
    CURL *c = t->curl;

    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L); /* a skill called ".." is the server's to refuse */
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "skillbox/" SB_VERSION);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, t->call->timeout_ms);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_READDATA, t);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_SEEKDATA, t);
    set_body(c, t->call);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, t->call->method);
    if (is_loopback(url)) {
        curl_easy_setopt(c, CURLOPT_PROXY, "");
    }
    if (t->call->progress != NULL) {
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    }
}

static sb_code_t judge(const transfer_t *t, CURLcode rc, const char *url, const char *detail,
                       sb_err_t *err)
{
    if (rc == CURLE_OK) {
        return SB_OK;
    }
    if (t->out_errno != 0) {
        return sb_err_errno(err, t->out_errno, "can't keep the answer");
    }
    if (t->too_large) {
        return sb_err_set(err, SB_ETOOLARGE, "the answer of %s is too large", url);
    }
    return sb_err_set(err, SB_EGATEWAY, "no answer from %s: %s", url,
                      detail[0] != '\0' ? detail : curl_easy_strerror(rc));
}

sb_code_t sb_call(const sb_server_t *server, const sb_call_t *call, sb_reply_t *reply,
                  sb_err_t *err)
{
    char url[SB_URL_MAX * 2], detail[CURL_ERROR_SIZE] = "", auth[128];
    struct curl_slist *headers = NULL;
    transfer_t t = {.call = call, .reply = reply};

    reply->status = 0;
    reply->next[0] = '\0';
    sb_buf_init(&reply->body, REPLY_MAX);
    if (snprintf(url, sizeof(url), "%s%s", server != NULL ? server->url : "", call->path) >=
        (int)sizeof(url)) {
        return sb_err_set(err, SB_EINVAL, "the URL is too long");
    }
    t.curl = curl_easy_init();
    if (t.curl == NULL) {
        return sb_err_errno(err, ENOMEM, "libcurl");
    }
    headers = add_header(headers, "Content-Type", call->content_type);
    headers = add_header(headers, "Accept", "application/json, */*;q=0.5");
    if (server != NULL && server->key != NULL) {
        snprintf(auth, sizeof(auth), "Bearer %s", server->key);
        headers = add_header(headers, "Authorization", auth);
    }
    headers = add_header(headers, "Idempotency-Key", call->idempotency_key);
    headers = add_header(headers, "X-Tenant-ID", server != NULL ? server->tenant : NULL);
    set_up(&t, url, headers);
    curl_easy_setopt(t.curl, CURLOPT_ERRORBUFFER, detail);

    sb_progress_start(&t.progress);
    CURLcode rc = curl_easy_perform(t.curl);
    sb_progress_end(&t.progress);
    curl_easy_getinfo(t.curl, CURLINFO_RESPONSE_CODE, &reply->status);
    sb_code_t code = judge(&t, rc, url, detail, err);
    curl_slist_free_all(headers);
    curl_easy_cleanup(t.curl);
    return code;
}

void sb_reply_free(sb_reply_t *reply)
{
    sb_buf_free(&reply->body);
}

json_t *sb_reply_json(const sb_reply_t *reply, const char *without)
{
    const char *text = reply->body.data != NULL ? reply->body.data : "", *value;
    sb_buf_t rest = SB_BUF_INIT(REPLY_MAX);
    size_t value_len;
    json_error_t e;

    if (without != NULL && sb_jtext_member(text, reply->body.len, without, &value, &value_len)) {
        sb_buf_add(&rest, text, (size_t)(value - text));
        sb_buf_str(&rest, "null");
        sb_buf_add(&rest, value + value_len, reply->body.len - (size_t)(value - text) - value_len);
    } else {
        sb_buf_add(&rest, text, reply->body.len);
    }
    json_t *v = json_loadb(rest.data != NULL ? rest.data : "", rest.len,
                           JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    sb_buf_free(&rest);
    if (v == NULL) {
        sb_say_error("the server's answer can't be read: %s", e.text);
    }
    return v;
}

bool sb_reply_print(const sb_reply_t *reply)
{
    if (reply->body.data == NULL || !sb_jtext_valid(reply->body.data, reply->body.len)) {
        sb_say_error("the server's answer is not JSON");
        return false;
    }
    sb_print_json_text(stdout, reply->body.data, reply->body.len);
    return true;
}

/* ---- what a refusal means ---- */

static int exit_of_status(long status)
{
    switch (status) {
    case 401:
    case 403:
        return EXIT_UNAUTHORIZED;
    case 404:
        return EXIT_NOT_FOUND;
    case 409:
        return EXIT_CONFLICT;
    case 429:
    case 503:
        return EXIT_BUSY;
    default:
        return EXIT_FAILED;
    }
}

static void print_detail(const json_t *d)
{
    const char *message = json_string_value(json_object_get(d, "message"));
    const char *path = json_string_value(json_object_get(d, "file"));
    json_int_t line = json_integer_value(json_object_get(d, "line"));

    if (json_is_string(d)) {
        sb_say("  %s", json_string_value(d));
    } else if (message != NULL && path != NULL && line > 0) {
        sb_say("  %s:%lld: %s", path, (long long)line, message);
    } else if (message != NULL && path != NULL) {
        sb_say("  %s: %s", path, message);
    } else if (message != NULL) {
        sb_say("  %s", message);
    }
}

static void print_refusal(const sb_reply_t *reply)
{
    const char *text = reply->body.data != NULL ? reply->body.data : "";
    json_t *root = json_loadb(text, reply->body.len, 0, NULL);
    const char *message = json_string_value(json_object_get(root, "message"));
    const json_t *details = json_object_get(root, "details"), *d;
    size_t i;

    if (message != NULL) {
        sb_say_error("%s (%s, HTTP %ld)", message,
                     json_string_value(json_object_get(root, "error")) != NULL
                         ? json_string_value(json_object_get(root, "error"))
                         : "error",
                     reply->status);
    } else {
        sb_say_error("the server answered HTTP %ld", reply->status);
    }
    json_array_foreach(details, i, d)
    {
        print_detail(d);
    }
    json_decref(root);
}

int sb_call_checked(const sb_server_t *server, const sb_call_t *call, sb_reply_t *reply)
{
    sb_err_t err;

    if (sb_call(server, call, reply, &err) != SB_OK) {
        sb_say_err(&err);
        return err.code == SB_EGATEWAY ? EXIT_UNREACHABLE : EXIT_FAILED;
    }
    if (reply->status < 200 || reply->status >= 300) {
        print_refusal(reply);
        return exit_of_status(reply->status);
    }
    return EXIT_OK;
}

bool sb_path_build(char *out, size_t size, const char *prefix, const char *segment,
                   const char *suffix)
{
    char *escaped = curl_easy_escape(NULL, segment, 0);
    int n = escaped != NULL ? snprintf(out, size, "%s%s%s", prefix, escaped, suffix) : -1;

    curl_free(escaped);
    if (n < 0 || (size_t)n >= size) {
        sb_say_error("the name is too long");
        return false;
    }
    return true;
}

#define GET_MS 60000

int sb_get_and_print(const sb_args_t *args, const char *path, bool json,
                     bool (*print)(const json_t *))
{
    sb_call_t call = SB_CALL("GET", path);
    json_t *value = NULL;
    sb_server_t server;
    sb_reply_t reply;
    int rc = sb_server_checked(args, &server);

    if (rc != EXIT_OK) {
        return rc;
    }
    call.timeout_ms = GET_MS;
    rc = sb_call_checked(&server, &call, &reply);
    if (rc == EXIT_OK && json) {
        rc = sb_reply_print(&reply) ? EXIT_OK : EXIT_FAILED;
    } else if (rc == EXIT_OK) {
        value = sb_reply_json(&reply, NULL);
        rc = value != NULL && print(value) ? EXIT_OK : EXIT_FAILED;
    }
    json_decref(value);
    sb_reply_free(&reply);
    return rc;
}
