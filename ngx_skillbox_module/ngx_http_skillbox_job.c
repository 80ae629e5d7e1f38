
/*
 * The body of POST /v1/executions: what may be asked, checked field by field,
 * and the two texts the helper gets - job JSON and input JSON.
 *
 * Runs in any thread and touches nothing but its arguments.  The job JSON is
 * written anew from what was checked.  The input keeps its tokens as they came,
 * so that numbers keep their digits, and loses the white space between them:
 * the document is validated as a whole first, then a scanner finds the value.
 * The parser gets the document without it: nothing looks into an input here, and
 * its tree would take ten times as long as all else.
 */


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_JOB_MAX  SB_GIB


typedef struct {
    const char                   *data;
    size_t                        len;
} ngx_http_skillbox_slice_t;


static json_t *ngx_http_skillbox_job_load(const char *text, size_t len,
    json_error_t *e);
static json_t *ngx_http_skillbox_job_load_rest(const char *text, size_t len,
    const ngx_http_skillbox_slice_t *input);
static sb_code_t ngx_http_skillbox_job_fields(json_t *root,
    ngx_http_skillbox_job_t *job, sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_unsupported(json_t *root,
    sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_inputs(json_t *root,
    ngx_http_skillbox_job_t *job, sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_input_file(json_t *input, size_t i,
    ngx_http_skillbox_input_file_t *file, sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_string(json_t *root, const char *name,
    char **out, sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_timeout(json_t *root,
    ngx_http_skillbox_job_t *job, sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_write(json_t *root,
    ngx_http_skillbox_job_t *job, sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_args(json_t *args, sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_env(json_t *env, sb_err_t *err);
static sb_code_t ngx_http_skillbox_job_files(json_t *files, sb_buf_t *names,
    sb_err_t *err);
static bool ngx_http_skillbox_job_base64(const char *s, size_t len);
static int ngx_http_skillbox_job_append(const char *data, size_t len,
    void *out);
static bool ngx_http_skillbox_job_input(const char *text, size_t len,
    ngx_http_skillbox_slice_t *input);
static void ngx_http_skillbox_job_compact(sb_buf_t *out,
    const ngx_http_skillbox_slice_t *value);
static const char *ngx_http_skillbox_skip_space(const char *p,
    const char *end);
static const char *ngx_http_skillbox_skip_value(const char *p,
    const char *end);
static const char *ngx_http_skillbox_skip_string(const char *p,
    const char *end);
static bool ngx_http_skillbox_is_input(const char *key, size_t len);


sb_code_t
ngx_http_skillbox_job_parse(const char *text, size_t len,
    ngx_http_skillbox_job_t *job, sb_err_t *err)
{
    bool                        valid, found;
    json_t                     *root;
    sb_code_t                   code;
    json_error_t                e;
    ngx_http_skillbox_slice_t   input;

    memset(job, 0, sizeof(ngx_http_skillbox_job_t));
    sb_sha256(text, len, job->hash);
    sb_buf_init(&job->data, NGX_HTTP_SKILLBOX_JOB_MAX);
    sb_buf_init(&job->names, SB_JOB_FILES_MAX * (SB_PATH_MAX + 1));

    valid = sb_json_valid_object(text, len);
    found = valid && ngx_http_skillbox_job_input(text, len, &input);

    root = found ? ngx_http_skillbox_job_load_rest(text, len, &input) : NULL;

    if (root == NULL) {
        root = ngx_http_skillbox_job_load(text, len, &e);
    }

    if (root == NULL) {
        return sb_err_set(err, SB_EINVAL, "The body is not valid JSON: %s "
                          "(line %d, column %d).", e.text, e.line, e.column);
    }

    if (!valid) {
        /* what sb_json_valid_object() does not take the parser may */
        found = ngx_http_skillbox_job_input(text, len, &input);
    }

    code = ngx_http_skillbox_job_fields(root, job, err);

    if (code == SB_OK) {
        code = ngx_http_skillbox_job_write(root, job, err);
    }

    if (code == SB_OK) {
        job->job_len = job->data.len;

        if (found) {
            ngx_http_skillbox_job_compact(&job->data, &input);

        } else {
            sb_buf_str(&job->data, "{}");
        }

        if (!sb_buf_ok(&job->data)) {
            code = sb_err_set(err, SB_EINTERNAL, "out of memory");
        }
    }

    json_decref(root);

    return code;
}


/* integers as reals: they may be of any length, only timeout_ms is read */

static json_t *
ngx_http_skillbox_job_load(const char *text, size_t len, json_error_t *e)
{
    return json_loadb(text, len, JSON_ALLOW_NUL|JSON_DECODE_INT_AS_REAL, e);
}


/* with null for the input; NULL: the whole text has to be asked */

static json_t *
ngx_http_skillbox_job_load_rest(const char *text, size_t len,
    const ngx_http_skillbox_slice_t *input)
{
    json_t        *root;
    sb_buf_t       rest;
    const char    *after;
    json_error_t   e;

    after = input->data + input->len;

    sb_buf_init(&rest, len);
    sb_buf_add(&rest, text, input->data - text);
    sb_buf_str(&rest, "null");
    sb_buf_add(&rest, after, text + len - after);

    root = sb_buf_ok(&rest)
           ? ngx_http_skillbox_job_load(rest.data, rest.len, &e)
           : NULL;

    sb_buf_free(&rest);

    return root;
}


void
ngx_http_skillbox_job_free(ngx_http_skillbox_job_t *job)
{
    free(job->skill);
    free(job->version);
    free(job->script);
    free(job->module);
    free(job->inputs);
    sb_buf_free(&job->data);
    sb_buf_free(&job->names);
    job->inputs = NULL;
    job->ninputs = 0;
}


static sb_code_t
ngx_http_skillbox_job_fields(json_t *root, ngx_http_skillbox_job_t *job,
    sb_err_t *err)
{
    json_t     *async;
    sb_code_t   code;

    if (!json_is_object(root)) {
        return sb_err_set(err, SB_EINVAL, "The body must be a JSON object.");
    }

    if ((code = ngx_http_skillbox_job_unsupported(root, err)) != SB_OK
        || (code = ngx_http_skillbox_job_string(root, "skill", &job->skill,
                                                err)) != SB_OK
        || (code = ngx_http_skillbox_job_string(root, "version", &job->version,
                                                err)) != SB_OK
        || (code = ngx_http_skillbox_job_string(root, "script", &job->script,
                                                err)) != SB_OK
        || (code = ngx_http_skillbox_job_string(root, "module", &job->module,
                                                err)) != SB_OK)
    {
        return code;
    }

    if (job->skill == NULL || job->skill[0] == '\0') {
        return sb_err_set(err, SB_EINVAL, "\"skill\" is needed.");
    }

    if (job->script && job->module) {
        return sb_err_set(err, SB_EINVAL,
                          "\"script\" and \"module\" exclude each other.");
    }

    if (job->script && !sb_path_valid(job->script, strlen(job->script))) {
        return sb_err_set(err, SB_EINVAL, "\"script\" must be a relative path "
                          "inside the package.");
    }

    if (job->module && !sb_module_valid(job->module, strlen(job->module))) {
        return sb_err_set(err, SB_EINVAL,
                          "\"module\" must be a Python module's name.");
    }

    async = json_object_get(root, "async");

    if (async && !json_is_null(async) && !json_is_boolean(async)) {
        return sb_err_set(err, SB_EINVAL, "\"async\" must be a boolean.");
    }

    job->async = json_is_true(async);

    code = ngx_http_skillbox_job_inputs(root, job, err);

    return code == SB_OK ? ngx_http_skillbox_job_timeout(root, job, err)
                         : code;
}


/* what clients may send for "no" (null, false, empty) is no reason to refuse */

static sb_code_t
ngx_http_skillbox_job_unsupported(json_t *root, sb_err_t *err)
{
    json_t  *session;

    session = json_object_get(root, "session_id");

    if (session && !json_is_null(session)) {

        if (!json_is_string(session)) {
            return sb_err_set(err, SB_EINVAL,
                              "\"session_id\" must be a string.");
        }

        if (json_string_length(session)) {
            return sb_err_set(err, SB_EINVAL, "\"session_id\" is not "
                              "supported by this release.");
        }
    }

    return SB_OK;
}


/* [id | {"id", "path"?}, ...]; whose ids they are is looked up later */

static sb_code_t
ngx_http_skillbox_job_inputs(json_t *root, ngx_http_skillbox_job_t *job,
    sb_err_t *err)
{
    size_t       i;
    json_t      *inputs, *input;
    sb_code_t    code;

    inputs = json_object_get(root, "input_files");

    if (inputs == NULL || json_is_null(inputs)) {
        return SB_OK;
    }

    if (!json_is_array(inputs)) {
        return sb_err_set(err, SB_EINVAL, "\"input_files\" must be an array.");
    }

    if (json_array_size(inputs) > SB_INPUT_FILES_MAX) {
        return sb_err_set(err, SB_EINVAL, "\"input_files\" has more than %d "
                          "elements.", SB_INPUT_FILES_MAX);
    }

    if (json_array_size(inputs) == 0) {
        return SB_OK;
    }

    job->inputs = calloc(json_array_size(inputs),
                         sizeof(ngx_http_skillbox_input_file_t));
    if (job->inputs == NULL) {
        return sb_err_set(err, SB_EINTERNAL, "out of memory");
    }

    json_array_foreach(inputs, i, input) {
        code = ngx_http_skillbox_job_input_file(input, i, &job->inputs[i],
                                                err);
        if (code != SB_OK) {
            return code;
        }

        job->ninputs++;
    }

    return SB_OK;
}


static sb_code_t
ngx_http_skillbox_job_input_file(json_t *input, size_t i,
    ngx_http_skillbox_input_file_t *file, sb_err_t *err)
{
    json_t         *path;
    const char     *id;
    unsigned char   uuid[16];

    path = NULL;

    if (json_is_object(input)) {
        path = json_object_get(input, "path");
        input = json_object_get(input, "id");
    }

    id = json_string_value(input);

    if (id == NULL) {
        return sb_err_set(err, SB_EINVAL, "\"input_files[%zu]\" must be a "
                          "file's id, or an object with \"id\" and \"path\".",
                          i);
    }

    if (!sb_uuid_parse(id, json_string_length(input), uuid)) {
        return sb_err_set(err, SB_ENOTFOUND,
                          "\"input_files[%zu]\": there is no such file.", i);
    }

    sb_uuid_format(uuid, file->id);

    if (path == NULL || json_is_null(path)) {
        return SB_OK;
    }

    if (!json_is_string(path)
        || !sb_path_valid(json_string_value(path), json_string_length(path)))
    {
        return sb_err_set(err, SB_EINVAL, "\"input_files[%zu].path\" must be "
                          "a relative path.", i);
    }

    memcpy(file->path, json_string_value(path), json_string_length(path));

    return SB_OK;
}


/* null is as good as absent */

static sb_code_t
ngx_http_skillbox_job_string(json_t *root, const char *name, char **out,
    sb_err_t *err)
{
    json_t      *value;
    const char  *s;

    value = json_object_get(root, name);

    if (value == NULL || json_is_null(value)) {
        return SB_OK;
    }

    s = json_string_value(value);

    if (s == NULL || strlen(s) != json_string_length(value)) {
        return sb_err_set(err, SB_EINVAL, "\"%s\" must be a string.", name);
    }

    *out = strdup(s);

    return *out ? SB_OK : sb_err_set(err, SB_EINTERNAL, "out of memory");
}


static sb_code_t
ngx_http_skillbox_job_timeout(json_t *root, ngx_http_skillbox_job_t *job,
    sb_err_t *err)
{
    double   ms;
    json_t  *value;

    value = json_object_get(root, "timeout_ms");

    if (value == NULL || json_is_null(value)) {
        return SB_OK;
    }

    ms = json_number_value(value);

    if (!json_is_number(value) || ms < SB_TIMEOUT_MIN_MS || ms > 1e12
        || ms != (double) (int64_t) ms)
    {
        return sb_err_set(err, SB_EINVAL,
                          "\"timeout_ms\" must be a positive integer.");
    }

    job->timeout_ms = (int64_t) ms;

    return SB_OK;
}


/* {"args":...,"env":...,"stdin":...,"files":...}, each when it was given */

static sb_code_t
ngx_http_skillbox_job_write(json_t *root, ngx_http_skillbox_job_t *job,
    sb_err_t *err)
{
    json_t      *value;
    sb_code_t    code;
    ngx_uint_t   i;

    static const char *const  names[] = { "args", "env", "stdin", "files" };

    sb_buf_char(&job->data, '{');

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {

        value = json_object_get(root, names[i]);

        if (value == NULL || json_is_null(value)) {
            continue;
        }

        switch (i) {

        case 0:
            code = ngx_http_skillbox_job_args(value, err);
            break;

        case 1:
            code = ngx_http_skillbox_job_env(value, err);
            break;

        case 2:
            code = json_is_string(value)
                   ? SB_OK
                   : sb_err_set(err, SB_EINVAL, "\"stdin\" must be a string.");
            break;

        default:
            code = ngx_http_skillbox_job_files(value, &job->names, err);
        }

        if (code != SB_OK) {
            return code;
        }

        sb_json_key(&job->data, names[i]);

        if (json_dump_callback(value, ngx_http_skillbox_job_append, &job->data,
                               JSON_COMPACT|JSON_ENCODE_ANY)
            != 0)
        {
            return sb_err_set(err, SB_EINTERNAL, "out of memory");
        }
    }

    sb_buf_char(&job->data, '}');

    return SB_OK;
}


static int
ngx_http_skillbox_job_append(const char *data, size_t len, void *out)
{
    sb_buf_add(out, data, len);

    return sb_buf_ok(out) ? 0 : -1;
}


static sb_code_t
ngx_http_skillbox_job_args(json_t *args, sb_err_t *err)
{
    size_t       i;
    json_t      *arg;
    const char  *s;

    if (!json_is_array(args)) {
        return sb_err_set(err, SB_EINVAL,
                          "\"args\" must be an array of strings.");
    }

    if (json_array_size(args) > SB_ARGS_MAX) {
        return sb_err_set(err, SB_EINVAL, "\"args\" has more than %d elements.",
                          SB_ARGS_MAX);
    }

    json_array_foreach(args, i, arg) {
        s = json_string_value(arg);

        if (s == NULL || strlen(s) != json_string_length(arg)) {
            return sb_err_set(err, SB_EINVAL, "\"args\" must be an array of "
                              "strings without NUL.");
        }

        if (json_string_length(arg) > SB_ENV_STRING_MAX) {
            return sb_err_set(err, SB_EINVAL,
                              "\"args\" has an element longer than %d KiB.",
                              (int) (SB_ENV_STRING_MAX / SB_KIB));
        }
    }

    return SB_OK;
}


static sb_code_t
ngx_http_skillbox_job_env(json_t *env, sb_err_t *err)
{
    json_t      *value;
    const char  *name, *s;

    if (!json_is_object(env)) {
        return sb_err_set(err, SB_EINVAL,
                          "\"env\" must be an object of strings.");
    }

    if (json_object_size(env) > SB_ENV_MAX) {
        return sb_err_set(err, SB_EINVAL, "\"env\" has more than %d members.",
                          SB_ENV_MAX);
    }

    json_object_foreach(env, name, value) {

        if (!sb_env_name_allowed(name, strlen(name))) {
            return sb_err_set(err, SB_EINVAL,
                              "\"env\" may not set \"%.128s\".", name);
        }

        s = json_string_value(value);

        if (s == NULL || strlen(s) != json_string_length(value)) {
            return sb_err_set(err, SB_EINVAL, "\"env\" must be an object of "
                              "strings without NUL.");
        }

        if (strlen(name) + 1 + json_string_length(value) > SB_ENV_STRING_MAX) {
            return sb_err_set(err, SB_EINVAL,
                              "\"env\" has a value longer than %d KiB.",
                              (int) (SB_ENV_STRING_MAX / SB_KIB));
        }
    }

    return SB_OK;
}


static sb_code_t
ngx_http_skillbox_job_files(json_t *files, sb_buf_t *names, sb_err_t *err)
{
    json_t      *value;
    const char  *name, *s;

    if (!json_is_object(files)) {
        return sb_err_set(err, SB_EINVAL,
                          "\"files\" must be an object of base64 strings.");
    }

    if (json_object_size(files) > SB_JOB_FILES_MAX) {
        return sb_err_set(err, SB_EINVAL, "\"files\" has more than %d members.",
                          SB_JOB_FILES_MAX);
    }

    json_object_foreach(files, name, value) {

        if (!sb_path_valid(name, strlen(name))) {
            return sb_err_set(err, SB_EINVAL, "\"files\" has a name that is no "
                              "relative path.");
        }

        s = json_string_value(value);

        if (s == NULL
            || !ngx_http_skillbox_job_base64(s, json_string_length(value)))
        {
            return sb_err_set(err, SB_EINVAL,
                              "\"files\": \"%.128s\" is not base64.", name);
        }

        sb_buf_add(names, name, strlen(name) + 1);
    }

    return sb_buf_ok(names) ? SB_OK
                            : sb_err_set(err, SB_EINTERNAL, "out of memory");
}


/* RFC 4648, with its padding */

static bool
ngx_http_skillbox_job_base64(const char *s, size_t len)
{
    char    c;
    size_t  i, n;

    if (len % 4) {
        return false;
    }

    n = len;

    while (n && len - n < 2 && s[n - 1] == '=') {
        n--;
    }

    for (i = 0; i < n; i++) {
        c = s[i];

        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
              || (c >= '0' && c <= '9') || c == '+' || c == '/'))
        {
            return false;
        }
    }

    return true;
}


/*
 * The scanner.  The text is known to be valid JSON with an object on top, so it
 * only has to tell strings, brackets and the rest apart; the ends are checked
 * all the same.  Of members that come twice the last counts, as in the parser.
 */

static bool
ngx_http_skillbox_job_input(const char *text, size_t len,
    ngx_http_skillbox_slice_t *input)
{
    bool         found;
    const char  *p, *end, *key, *value;
    size_t       key_len;

    found = false;
    end = text + len;
    p = ngx_http_skillbox_skip_space(text, end);

    if (p == end || *p++ != '{') {
        return false;
    }

    for ( ;; ) {
        key = ngx_http_skillbox_skip_space(p, end);

        if (key == end || *key != '"') {
            return found;
        }

        p = ngx_http_skillbox_skip_string(key, end);
        key_len = p - key;

        p = ngx_http_skillbox_skip_space(p, end);

        if (p == end || *p++ != ':') {
            return found;
        }

        value = ngx_http_skillbox_skip_space(p, end);
        p = ngx_http_skillbox_skip_value(value, end);

        if (ngx_http_skillbox_is_input(key, key_len)) {
            input->data = value;
            input->len = p - value;
            found = true;
        }

        p = ngx_http_skillbox_skip_space(p, end);

        if (p == end || *p++ != ',') {
            return found;
        }
    }
}


static void
ngx_http_skillbox_job_compact(sb_buf_t *out,
    const ngx_http_skillbox_slice_t *value)
{
    const char  *p, *end, *start;

    p = value->data;
    end = p + value->len;

    while (p < end) {
        start = p;

        while (p < end && *p != ' ' && *p != '\t' && *p != '\n'
               && *p != '\r')
        {
            p = (*p == '"') ? ngx_http_skillbox_skip_string(p, end) : p + 1;
        }

        sb_buf_add(out, start, p - start);
        p = ngx_http_skillbox_skip_space(p, end);
    }
}


static const char *
ngx_http_skillbox_skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
        p++;
    }

    return p;
}


static const char *
ngx_http_skillbox_skip_value(const char *p, const char *end)
{
    size_t  depth;

    if (p < end && *p == '"') {
        return ngx_http_skillbox_skip_string(p, end);
    }

    depth = 0;

    while (p < end) {

        switch (*p) {

        case '"':
            p = ngx_http_skillbox_skip_string(p, end);
            continue;

        case '[':
        case '{':
            depth++;
            break;

        case ']':
        case '}':
            if (depth == 0) {
                return p;
            }

            if (--depth == 0) {
                return p + 1;
            }

            break;

        case ',':
        case ' ':
        case '\t':
        case '\n':
        case '\r':
            if (depth == 0) {
                return p;
            }

            break;
        }

        p++;
    }

    return p;
}


static const char *
ngx_http_skillbox_skip_string(const char *p, const char *end)
{
    for (p++; p < end; p++) {

        if (*p == '\\' && p + 1 < end) {
            p++;
            continue;
        }

        if (*p == '"') {
            return p + 1;
        }
    }

    return p;
}


/* key is with its quotes, and may be written with escapes */

static bool
ngx_http_skillbox_is_input(const char *key, size_t len)
{
    bool     rc;
    json_t  *s;

    if (len == sizeof("\"input\"") - 1 && memcmp(key, "\"input\"", len) == 0) {
        return true;
    }

    if (memchr(key, '\\', len) == NULL) {
        return false;
    }

    s = json_loadb(key, len, JSON_DECODE_ANY|JSON_ALLOW_NUL, NULL);

    rc = json_is_string(s) && json_string_length(s) == sizeof("input") - 1
         && memcmp(json_string_value(s), "input", sizeof("input") - 1) == 0;

    json_decref(s);

    return rc;
}
