/*
 * config.c - see config.h.  Opens the one file it is told; may ask the user
 * database.  Runs before privileges are dropped, on a file the operator wrote.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/limits.h"
#include "../libskillbox/units.h"
#include "config_internal.h"

#define AT(field)   offsetof(config_t, field)
#define SIZE(field) (int64_t)sizeof(((config_t *)0)->field)

static const char *const lang_names[STAGE_LANGS] = {"python", "node", "bash"};

const char *config_lang_name(enum stage_lang lang)
{
    return lang_names[lang];
}

bool config_lang_parse(const char *s, size_t len, enum stage_lang *lang)
{
    for (int i = 0; i < STAGE_LANGS; i++) {
        if (strlen(lang_names[i]) == len && memcmp(lang_names[i], s, len) == 0) {
            *lang = (enum stage_lang)i;
            return true;
        }
    }
    return false;
}

/* ---- values ---- */

int config_line(const yaml_node_t *node)
{
    return (int)node->start_mark.line + 1;
}

static void *field(config_reader_t *r, const config_key_t *key)
{
    return (char *)r->base + key->at;
}

sb_code_t config_scalar(config_reader_t *r, const char *name, const yaml_node_t *node,
                        const char **s, size_t *len)
{
    if (node->type != YAML_SCALAR_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a single value", name);
    *s = (const char *)node->data.scalar.value;
    *len = node->data.scalar.length;
    if (memchr(*s, '\0', *len) != NULL)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s holds a NUL byte", name);
    return SB_OK;
}

static sb_code_t in_range(config_reader_t *r, const config_key_t *key, const yaml_node_t *node,
                          int64_t v, const char *unit)
{
    if (v < key->min || v > key->max)
        return sb_err_at(r->err, SB_EINVAL, config_line(node),
                         "%s is out of range: it must be from %lld to %lld%s", key->name,
                         (long long)key->min, (long long)key->max, unit);
    memcpy(field(r, key), &v, sizeof v);
    return SB_OK;
}

static sb_code_t parse_int(const char *s, size_t len, int base, int64_t *v)
{
    char *end;

    if (len == 0 || len > 18 || s[0] < '0' || s[0] > '9')
        return SB_EINVAL;
    *v = strtoll(s, &end, base);
    return *end == '\0' ? SB_OK : SB_EINVAL;
}

sb_code_t config_number(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    const char *s;
    size_t len;
    int64_t v;
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (parse_int(s, len, 10, &v) != SB_OK)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a whole number",
                         key->name);
    return in_range(r, key, node, v, "");
}

static sb_code_t value_mode(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    const char *s;
    size_t len;
    int64_t v;
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (parse_int(s, len, 8, &v) != SB_OK || v < key->min || v > key->max)
        return sb_err_at(r->err, SB_EINVAL, config_line(node),
                         "%s must be an octal file mode up to %04llo", key->name,
                         (unsigned long long)key->max);
    memcpy(field(r, key), &v, sizeof v);
    return SB_OK;
}

sb_code_t config_duration(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    const char *s;
    size_t len;
    int64_t v;
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (sb_duration_parse(s, len, &v, NULL) != SB_OK)
        return sb_err_at(r->err, SB_EINVAL, config_line(node),
                         "%s must be a duration like 500ms, 30s or 1m30s", key->name);
    return in_range(r, key, node, v, " milliseconds");
}

static sb_code_t value_bytes(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    const char *s;
    size_t len;
    int64_t v;
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (sb_memory_parse(s, len, &v, NULL) != SB_OK)
        return sb_err_at(r->err, SB_EINVAL, config_line(node),
                         "%s must be a size like 256Mi, 1G or 1048576", key->name);
    return in_range(r, key, node, v, " bytes");
}

static sb_code_t value_cpu(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    const char *s;
    size_t len;
    int32_t milli;
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (sb_cpu_parse(s, len, &milli, NULL) != SB_OK)
        return sb_err_at(r->err, SB_EINVAL, config_line(node),
                         "%s must be a number of cores like 0.5, 2 or 500m", key->name);
    return in_range(r, key, node, milli, " thousandths of a core");
}

sb_code_t config_bool(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    const char *s;
    size_t len;
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (strcmp(s, "true") != 0 && strcmp(s, "false") != 0)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be true or false",
                         key->name);
    *(bool *)field(r, key) = s[0] == 't';
    return SB_OK;
}

sb_code_t config_text(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    const char *s;
    size_t len;
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (len == 0)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s is empty", key->name);
    if ((int64_t)len >= key->max)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s is longer than %lld bytes",
                         key->name, (long long)key->max - 1);
    memcpy(field(r, key), s, len + 1);
    return SB_OK;
}

/* An absolute path without "..", as the stage binds it. */
sb_code_t config_path(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    sb_code_t rc = config_text(r, key, node);

    if (rc != SB_OK)
        return rc;
    const char *s = field(r, key);
    if (s[0] != '/' || strstr(s, "/../") != NULL)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be an absolute path",
                         key->name);
    return SB_OK;
}

/* One of the words in `words`, whose index is the value. */
sb_code_t config_word(config_reader_t *r, const char *name, const yaml_node_t *node,
                      const char *const *words, int *index)
{
    const char *s;
    size_t len;
    sb_code_t rc = config_scalar(r, name, node, &s, &len);
    char list[128] = "";

    if (rc != SB_OK)
        return rc;
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(s, words[i]) == 0) {
            *index = i;
            return SB_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", words[i]);
    }
    return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s: \"%.64s\" is none of: %s", name, s,
                     list);
}

static sb_code_t value_cgroup(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    static const char *const words[] = {"auto", "off", NULL};
    int index;
    sb_code_t rc = config_word(r, key->name, node, words, &index);

    if (rc == SB_OK)
        r->config->cgroup = index;
    return rc;
}

static sb_code_t value_log_level(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    static const char *const words[] = {"error", "warn", "info", "debug", NULL};
    int index;
    sb_code_t rc = config_word(r, key->name, node, words, &index);

    if (rc == SB_OK)
        r->config->log_level = index;
    return rc;
}

/* ---- users ---- */

/* "name", "1000" or, where a group may be given, "1000:1000". */
static bool find_user(const char *s, uid_t *uid, gid_t *gid)
{
    char *end;

    if (s[0] >= '0' && s[0] <= '9') {
        unsigned long id = strtoul(s, &end, 10), group = id;
        if (gid != NULL && *end == ':' && end[1] >= '0' && end[1] <= '9')
            group = strtoul(end + 1, &end, 10);
        if (*end != '\0' || id >= UINT32_MAX || group >= UINT32_MAX)
            return false;
        *uid = (uid_t)id;
        if (gid != NULL)
            *gid = (gid_t)group;
        return true;
    }
    struct passwd *pw = getpwnam(s);
    if (pw == NULL)
        return false;
    *uid = pw->pw_uid;
    if (gid != NULL)
        *gid = pw->pw_gid;
    return true;
}

/* "unix:/path": the gateway's internal listener. */
static sb_code_t value_completion(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    const char *s;
    size_t len;
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (len < 6 || strncmp(s, "unix:/", 6) != 0)
        return sb_err_at(r->err, SB_EINVAL, config_line(node),
                         "%s must be unix: and an absolute path", key->name);
    if (len - 5 >= sizeof r->config->completion)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s: the path is longer than %zu",
                         key->name, sizeof r->config->completion - 1);
    memcpy(r->config->completion, s + 5, len - 4);
    return SB_OK;
}

static sb_code_t value_user(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    config_t *c = r->config;
    sb_code_t rc = config_text(r, key, node);

    if (rc != SB_OK)
        return rc;
    if (!find_user(c->user, &c->uid, &c->gid))
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "user: there is no user \"%s\"",
                         c->user);
    if (c->uid == 0 || c->gid == 0)
        return sb_err_at(r->err, SB_EINVAL, config_line(node),
                         "user: the helper does not run as root or in root's group");
    c->have_user = true;
    return SB_OK;
}

static sb_code_t value_allow_users(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    config_t *c = r->config;

    if (node->type != YAML_SEQUENCE_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a list", key->name);
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top;
         i++) {
        yaml_node_t *item = yaml_document_get_node(r->doc, *i);
        const char *s;
        size_t len;
        sb_code_t rc = config_scalar(r, key->name, item, &s, &len);
        if (rc != SB_OK)
            return rc;
        if (c->nallow_users == CONFIG_ALLOW_USERS)
            return sb_err_at(r->err, SB_EINVAL, config_line(item), "%s has more than %d entries",
                             key->name, CONFIG_ALLOW_USERS);
        if (!find_user(s, &c->allow_users[c->nallow_users++], NULL))
            return sb_err_at(r->err, SB_EINVAL, config_line(item), "%s: there is no user \"%.64s\"",
                             key->name, s);
    }
    return SB_OK;
}

/* ---- lists and maps ---- */

sb_code_t config_paths(config_reader_t *r, const char *name, yaml_node_t *node,
                       char (*paths)[STAGE_PATH_LEN], size_t *npaths, size_t max)
{
    void *base = r->base;
    sb_code_t rc = SB_OK;

    if (node->type != YAML_SEQUENCE_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a list", name);
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         rc == SB_OK && i < node->data.sequence.items.top; i++) {
        const config_key_t one = {.name = name, .max = STAGE_PATH_LEN};
        yaml_node_t *item = yaml_document_get_node(r->doc, *i);
        if (*npaths == max)
            return sb_err_at(r->err, SB_EINVAL, config_line(item), "%s has more than %zu entries",
                             name, max);
        r->base = paths[(*npaths)++];
        rc = config_path(r, &one, item);
        r->base = base;
    }
    return rc;
}

static sb_code_t value_readonly(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    return config_paths(r, key->name, node, r->config->readonly, &r->config->nreadonly,
                        STAGE_PATHS);
}

static sb_code_t value_allow(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    static const char *const words[] = {"no_procfs", "no_landlock", "no_cgroup", NULL};
    bool *const flags[] = {&r->config->allow_no_procfs, &r->config->allow_no_landlock,
                           &r->config->allow_no_cgroup};

    if (node->type != YAML_SEQUENCE_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a list", key->name);
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top;
         i++) {
        int index;
        sb_code_t rc = config_word(r, key->name, yaml_document_get_node(r->doc, *i), words, &index);
        if (rc != SB_OK)
            return rc;
        *flags[index] = true;
    }
    return SB_OK;
}

static sb_code_t value_map(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    return config_map(r, key->name, key->sub, node);
}

/* The two keys of a limit, read into the stage_limits_t at key->at. */
static sb_code_t limit_pair(config_reader_t *r, const config_key_t *key, yaml_node_t *node,
                            const config_key_t *pair)
{
    void *base = r->base;

    r->base = field(r, key);
    sb_code_t rc = config_map(r, key->name, pair, node);
    r->base = base;
    return rc;
}

#define LIMIT(member) offsetof(stage_limits_t, member)

sb_code_t config_timeout(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    static const config_key_t keys[] = {
        {"default", config_duration, LIMIT(timeout_default_ms), SB_TIMEOUT_MIN_MS, 86400000, NULL},
        {"max", config_duration, LIMIT(timeout_max_ms), SB_TIMEOUT_MIN_MS, 86400000, NULL},
        {0}};

    return limit_pair(r, key, node, keys);
}

sb_code_t config_memory(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    static const config_key_t keys[] = {
        {"default", value_bytes, LIMIT(memory_default), SB_MEMORY_MIN, 1024 * SB_GIB, NULL},
        {"max", value_bytes, LIMIT(memory_max), SB_MEMORY_MIN, 1024 * SB_GIB, NULL},
        {0}};

    return limit_pair(r, key, node, keys);
}

sb_code_t config_cpu(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    static const config_key_t keys[] = {
        {"default", value_cpu, LIMIT(cpu_default_milli), SB_CPU_MIN_MILLI, 1024000, NULL},
        {"max", value_cpu, LIMIT(cpu_max_milli), SB_CPU_MIN_MILLI, 1024000, NULL},
        {0}};

    return limit_pair(r, key, node, keys);
}

static const config_key_t limit_keys[] = {
    CONFIG_LIMIT_KEYS(AT(limits)),
    {"package", value_bytes, AT(package_bytes), SB_KIB, 4 * SB_GIB, NULL},
    {"unpacked", value_bytes, AT(unpacked_bytes), SB_KIB, 16 * SB_GIB, NULL},
    {"tmp", value_bytes, AT(tmp_bytes), SB_MIB, 1024 * SB_GIB, NULL},
    {"out", value_bytes, AT(out_bytes), SB_MIB, 1024 * SB_GIB, NULL},
    {"work", value_bytes, AT(work_bytes), SB_MIB, 1024 * SB_GIB, NULL},
    {"shm", value_bytes, AT(shm_bytes), SB_MIB, 1024 * SB_GIB, NULL},
    {"inodes", config_number, AT(inodes), 64, 1000000, NULL},
    {"nofile", config_number, AT(nofile), 16, 65536, NULL},
    {"nproc", config_number, AT(nproc), 1, 32768, NULL},
    {0}};
static const config_key_t top_keys[] = {
    {"listen", config_text, AT(listen), 0, SIZE(listen), NULL},
    {"socket_mode", value_mode, AT(socket_mode), 0, 0777, NULL},
    {"completion", value_completion, 0, 0, 0, NULL},
    {"allow_users", value_allow_users, 0, 0, 0, NULL},
    {"user", value_user, AT(user), 0, SIZE(user), NULL},
    {"state_dir", config_path, AT(state_dir), 0, SIZE(state_dir), NULL},
    {"artifacts", config_path, AT(artifacts), 0, SIZE(artifacts), NULL},
    {"concurrency", config_number, AT(concurrency), 1, CONFIG_CONCURRENCY_MAX, NULL},
    {"queue", config_number, AT(queue), 0, 4096, NULL},
    {"async_queue", config_number, AT(async_queue), 0, 65536, NULL},
    {"queue_timeout", config_duration, AT(queue_timeout_ms), 1, 3600000, NULL},
    {"stop_timeout", config_duration, AT(stop_timeout_ms), 0, 3600000, NULL},
    {"package_idle", config_duration, AT(package_idle_ms), 0, 3650LL * 86400000, NULL},
    {"limits", value_map, 0, 0, 0, limit_keys},
    {"readonly", value_readonly, 0, 0, 0, NULL},
    {"runtimes", config_runtimes, 0, 0, 0, NULL},
    {"runtimes_dir", config_path, AT(runtimes_dir), 0, SIZE(runtimes_dir), NULL},
    {"images", config_images, 0, 0, 0, NULL},
    {"warm", config_number, AT(warm), 0, 16, NULL},
    {"zygote", config_zygote, 0, 0, 0, NULL},
    {"prestart", config_prestart, 0, 0, 0, NULL},
    {"cgroup", value_cgroup, 0, 0, 0, NULL},
    {"exec_writable", config_bool, AT(exec_writable), 0, 0, NULL},
    {"proc_full", config_bool, AT(proc_full), 0, 0, NULL},
    {"allow", value_allow, 0, 0, 0, NULL},
    {"log_level", value_log_level, 0, 0, 0, NULL},
    {0}};

static const config_key_t *find_key(const config_key_t *keys, const char *name, int *index)
{
    for (int i = 0; keys[i].name != NULL; i++) {
        if (strcmp(keys[i].name, name) == 0) {
            *index = i;
            return &keys[i];
        }
    }
    return NULL;
}

sb_code_t config_map(config_reader_t *r, const char *what, const config_key_t *keys,
                     yaml_node_t *node)
{
    uint32_t seen = 0; /* a bit a key: no table has more than 32 */

    if (node->type != YAML_MAPPING_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a map", what);
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top;
         p++) {
        yaml_node_t *name = yaml_document_get_node(r->doc, p->key);
        yaml_node_t *value = yaml_document_get_node(r->doc, p->value);
        const char *s;
        size_t len;
        int index = 0;
        sb_code_t rc = config_scalar(r, "a key", name, &s, &len);
        if (rc != SB_OK)
            return rc;
        const config_key_t *key = find_key(keys, s, &index);
        if (key == NULL)
            return sb_err_at(r->err, SB_EINVAL, config_line(name), "unknown key \"%.64s\" in %s", s,
                             what);
        if (seen & (1u << index))
            return sb_err_at(r->err, SB_EINVAL, config_line(name), "\"%.64s\" is given twice", s);
        seen |= 1u << index;
        rc = key->parse(r, key, value);
        if (rc != SB_OK)
            return rc;
    }
    return SB_OK;
}

/* ---- the file ---- */

static void set_defaults(config_t *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    memset(c, 0, sizeof *c);
    c->socket_mode = 0660;
    /* Runs are CPU-bound more often than not: more of them at once than cores only makes each
     * slower and holds more memory.  A site whose skills wait a lot sets more. */
    c->concurrency = cores < 1                        ? 1
                     : cores > CONFIG_CONCURRENCY_MAX ? CONFIG_CONCURRENCY_MAX
                                                      : cores;
    c->queue = 64;
    c->async_queue = 1024;
    c->queue_timeout_ms = 60000;
    c->stop_timeout_ms = 30000;
    c->package_idle_ms = 30LL * 86400000;
    c->limits = (stage_limits_t){SB_TIMEOUT_DEFAULT_MS, SB_TIMEOUT_MAX_MS,    SB_MEMORY_DEFAULT,
                                 SB_MEMORY_MAX,         SB_CPU_DEFAULT_MILLI, SB_CPU_MAX_MILLI};
    config_runtimes_defaults(c);
    c->package_bytes = SB_PACKAGE_MAX;
    c->unpacked_bytes = SB_PACKAGE_UNPACKED_MAX;
    c->tmp_bytes = 128 * SB_MIB;
    /* What can be collected must fit: the artifacts and output.json. */
    c->out_bytes = SB_ARTIFACT_BYTES_MAX + 2 * SB_OUTPUT_MAX;
    c->work_bytes = SB_ARTIFACT_BYTES_MAX + 2 * SB_OUTPUT_MAX;
    c->shm_bytes = 64 * SB_MIB;
    c->inodes = 2 * SB_ARTIFACT_FILES_MAX;
    c->nofile = 256;
    c->nproc = 128;
    c->warm = -1;
    config_zygote_defaults(c);
    config_prestart_defaults(c);
    c->cgroup = CGROUP_AUTO;
    c->log_level = LOG_INFO;
}

static sb_code_t check(const config_t *c, sb_err_t *err)
{
    const struct {
        const char *name, *value;
    } required[] = {
        {"listen", c->listen}, {"state_dir", c->state_dir}, {"artifacts", c->artifacts}};
    const stage_limits_t *l = &c->limits;
    const struct {
        const char *name;
        int64_t def, max;
    } pairs[] = {{"timeout", l->timeout_default_ms, l->timeout_max_ms},
                 {"memory", l->memory_default, l->memory_max},
                 {"cpu", l->cpu_default_milli, l->cpu_max_milli}};

    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        if (required[i].value[0] == '\0')
            return sb_err_set(err, SB_EINVAL, "%s is missing", required[i].name);
    }
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i].def > pairs[i].max)
            return sb_err_set(err, SB_EINVAL, "limits.%s: default is larger than max",
                              pairs[i].name);
    }
    return SB_OK;
}

static sb_code_t read_file(const char *path, unsigned char *buf, size_t *len, sb_err_t *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = 0;

    if (fd < 0)
        return sb_err_errno(err, errno, "cannot be opened");
    for (*len = 0; *len <= CONFIG_FILE_MAX; *len += (size_t)n) {
        n = read(fd, buf + *len, CONFIG_FILE_MAX + 1 - *len);
        if (n <= 0)
            break;
    }
    int saved = errno;
    close(fd);
    if (n < 0)
        return sb_err_errno(err, saved, "cannot be read");
    if (*len > CONFIG_FILE_MAX)
        return sb_err_set(err, SB_EINVAL, "is larger than %d KiB", CONFIG_FILE_MAX / 1024);
    return SB_OK;
}

static sb_code_t read_document(const unsigned char *text, size_t len, config_t *c, sb_err_t *err)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    sb_code_t rc = SB_OK;

    if (!yaml_parser_initialize(&parser))
        return sb_err_set(err, SB_ESYSTEM, "out of memory");
    yaml_parser_set_input_string(&parser, text, len);
    if (!yaml_parser_load(&parser, &doc)) {
        rc = sb_err_at(err, SB_EINVAL, (int)parser.problem_mark.line + 1, "is not valid YAML: %s",
                       parser.problem ? parser.problem : "unknown problem");
        yaml_parser_delete(&parser);
        return rc;
    }
    config_reader_t r = {.doc = &doc, .config = c, .base = c, .err = err};
    yaml_node_t *root = yaml_document_get_root_node(&doc);
    if (root != NULL)
        rc = config_map(&r, "the file", top_keys, root);
    yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    return rc;
}

sb_code_t config_load(const char *path, config_t *c, sb_err_t *err)
{
    unsigned char *text = malloc(CONFIG_FILE_MAX + 1);
    size_t len = 0;

    if (text == NULL)
        return sb_err_set(err, SB_ESYSTEM, "out of memory");
    set_defaults(c);
    sb_code_t rc = read_file(path, text, &len, err);
    if (rc == SB_OK)
        rc = read_document(text, len, c, err);
    if (rc == SB_OK)
        rc = check(c, err);
    if (rc == SB_OK)
        rc = config_runtimes_finish(c, err);
    free(text);
    return rc;
}
