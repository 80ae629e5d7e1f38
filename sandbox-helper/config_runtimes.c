/*
 * config_runtimes.c - the keys `runtimes` and `images` of helper.yaml; see
 * config.h.  Pure: nodes of the file in, structs out.
 *
 * `runtimes` has two forms.  The short one, {python: /usr/bin/python3, node: off},
 * says which interpreter is a language's own.  The long one is a list whose
 * entries have a language and, unless they are that language's own, names.
 */
#include <stdio.h>
#include <string.h>

#include "config_internal.h"

static const char *const lang_words[] = {"python", "node", "bash", NULL};

#define AT(field)   offsetof(config_runtime_t, field)
#define SIZE(field) (int64_t)sizeof(((config_runtime_t *)0)->field)

bool config_image_add(config_t *c, const char *key, size_t len, size_t runtime)
{
    stage_image_t *image = &c->images[c->nimages];

    if (c->nimages == STAGE_IMAGES || len == 0 || len > STAGE_IMAGE_MAX)
        return false;
    memcpy(image->key, key, len);
    image->key[len] = '\0';
    image->lang = c->runtimes[runtime].lang;
    image->runtime = (uint32_t)runtime;
    c->nimages++;
    return true;
}

static sb_code_t add_image(config_reader_t *r, const yaml_node_t *node, const char *what,
                           size_t runtime)
{
    const char *s;
    size_t len;
    sb_code_t rc = config_scalar(r, what, node, &s, &len);

    if (rc != SB_OK || config_image_add(r->config, s, len, runtime))
        return rc;
    return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s: at most %d names of 1 to %d bytes",
                     what, STAGE_IMAGES, STAGE_IMAGE_MAX);
}

sb_code_t config_images(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    if (node->type != YAML_MAPPING_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a map", key->name);
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top;
         p++) {
        int lang = 0;
        sb_code_t rc =
            config_word(r, key->name, yaml_document_get_node(r->doc, p->value), lang_words, &lang);
        if (rc == SB_OK)
            rc = add_image(r, yaml_document_get_node(r->doc, p->key), key->name, (size_t)lang);
        if (rc != SB_OK)
            return rc;
    }
    return SB_OK;
}

/* ---- one entry ---- */

static config_runtime_t *runtime_of(config_reader_t *r)
{
    return r->base;
}

/* A name, or a list of them; they are added when the whole entry is known. */
static sb_code_t value_name(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    if (node->type == YAML_SCALAR_NODE || node->type == YAML_SEQUENCE_NODE)
        return SB_OK;
    return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a name or a list of names",
                     key->name);
}

static sb_code_t value_lang(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    int index = 0;
    sb_code_t rc = config_word(r, key->name, node, lang_words, &index);

    runtime_of(r)->lang = (enum stage_lang)index;
    return rc;
}

/* host, a folder, or the name of an imported image. */
static sb_code_t value_root(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    config_runtime_t *rt = runtime_of(r);
    sb_code_t rc = config_text(r, key, node);

    if (rc != SB_OK)
        return rc;
    if (strcmp(rt->root, "host") == 0)
        rt->root[0] = '\0';
    else if (strchr(rt->root, '/') != NULL)
        return config_path(r, key, node);
    else if (rt->root[0] == '.')
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s: \"%.64s\" is no name",
                         key->name, rt->root);
    return SB_OK;
}

static sb_code_t value_interpreter(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    if (node->type == YAML_SCALAR_NODE && strcmp((char *)node->data.scalar.value, "off") == 0)
        return config_text(r, key, node);
    return config_path(r, key, node);
}

static sb_code_t value_readonly(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    config_runtime_t *rt = runtime_of(r);

    return config_paths(r, key->name, node, rt->readonly, &rt->nreadonly, CONFIG_RUNTIME_PATHS);
}

/* What the sandbox itself sets is not the operator's to change either. */
static bool env_name_allowed(const char *s)
{
    static const char *const refused[] = {
        "PATH", "HOME", "LANG", "TZ", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"};
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char others[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    if (s[0] == '\0' || strchr(letters, s[0]) == NULL || s[strspn(s, others)] != '\0')
        return false;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (strcmp(refused[i], s) == 0)
            return false;
    }
    return strncmp(s, "SANDBOX_", 8) != 0 && strncmp(s, "SKILL_", 6) != 0;
}

static sb_code_t add_variable(config_reader_t *r, yaml_node_t *name, yaml_node_t *value)
{
    config_runtime_t *rt = runtime_of(r);
    const char *n, *v;
    size_t nlen, vlen;
    sb_code_t rc = config_scalar(r, "env", name, &n, &nlen);

    if (rc == SB_OK)
        rc = config_scalar(r, "env", value, &v, &vlen);
    if (rc != SB_OK)
        return rc;
    if (!env_name_allowed(n))
        return sb_err_at(r->err, SB_EINVAL, config_line(name),
                         "env: \"%.64s\" is no name for a variable, or one that the sandbox sets",
                         n);
    for (const char *p = rt->env; *p != '\0'; p += strlen(p) + 1) {
        if (strncmp(p, n, nlen) == 0 && p[nlen] == '=')
            return sb_err_at(r->err, SB_EINVAL, config_line(name), "\"%.64s\" is given twice", n);
    }
    if (rt->env_len + nlen + vlen + 3 > sizeof rt->env) /* '=', and a NUL more at the end */
        return sb_err_at(r->err, SB_EINVAL, config_line(name), "env is longer than %d bytes",
                         STAGE_ENV_BYTES);
    rt->env_len +=
        (size_t)snprintf(rt->env + rt->env_len, sizeof rt->env - rt->env_len, "%s=%s", n, v) + 1;
    return SB_OK;
}

static sb_code_t value_env(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    sb_code_t rc = SB_OK;

    if (node->type != YAML_MAPPING_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a map", key->name);
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start;
         rc == SB_OK && p < node->data.mapping.pairs.top; p++)
        rc = add_variable(r, yaml_document_get_node(r->doc, p->key),
                          yaml_document_get_node(r->doc, p->value));
    return rc;
}

static sb_code_t value_zygote(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    bool *off = &((config_runtime_t *)r->base)->no_zygote;
    sb_code_t rc = config_bool(r, key, node);

    *off = !*off;
    return rc;
}

static sb_code_t value_modules(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    ((config_runtime_t *)r->base)->have_modules = true;
    return config_modules(r, key, node);
}

static const config_key_t entry_keys[] = {
    {"name", value_name, 0, 0, 0, NULL},
    {"lang", value_lang, 0, 0, 0, NULL},
    {"root", value_root, AT(root), 0, SIZE(root), NULL},
    {"interpreter", value_interpreter, AT(interpreter), 0, SIZE(interpreter), NULL},
    {"readonly", value_readonly, 0, 0, 0, NULL},
    {"env", value_env, 0, 0, 0, NULL},
    CONFIG_LIMIT_KEYS(AT(limits)),
    {"warm", config_number, AT(warm), 0, 16, NULL},
    {"zygote", value_zygote, AT(no_zygote), 0, 0, NULL},
    {"modules", value_modules, AT(zygote_modules), 0, SIZE(zygote_modules), NULL},
    {0}};

static yaml_node_t *member(config_reader_t *r, const yaml_node_t *map, const char *name)
{
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *key = yaml_document_get_node(r->doc, p->key);
        if (key->type == YAML_SCALAR_NODE && strcmp((char *)key->data.scalar.value, name) == 0)
            return yaml_document_get_node(r->doc, p->value);
    }
    return NULL;
}

static sb_code_t take_names(config_reader_t *r, yaml_node_t *names, size_t runtime)
{
    config_t *c = r->config;
    size_t first = c->nimages;
    sb_code_t rc = SB_OK;

    if (names->type == YAML_SCALAR_NODE)
        rc = add_image(r, names, "name", runtime);
    else
        for (yaml_node_item_t *i = names->data.sequence.items.start;
             rc == SB_OK && i < names->data.sequence.items.top; i++)
            rc = add_image(r, yaml_document_get_node(r->doc, *i), "name", runtime);
    if (rc != SB_OK)
        return rc;
    if (c->nimages == first)
        return sb_err_at(r->err, SB_EINVAL, config_line(names), "name is an empty list");
    memcpy(c->runtimes[runtime].name, c->images[first].key, sizeof c->runtimes[runtime].name);
    return SB_OK;
}

/* The language's own has a fixed place, a named one the next. */
static sb_code_t take_entry(config_reader_t *r, const yaml_node_t *node, config_runtime_t *entry)
{
    config_t *c = r->config;
    yaml_node_t *names = member(r, node, "name");

    entry->line = config_line(node);
    if (names == NULL) {
        if (c->runtimes[entry->lang].line != 0)
            return sb_err_at(
                r->err, SB_EINVAL, entry->line,
                "%s has a runtime of its own already, in line %d: give this one a name",
                lang_words[entry->lang], c->runtimes[entry->lang].line);
        memcpy(entry->name, c->runtimes[entry->lang].name, sizeof entry->name);
        c->runtimes[entry->lang] = *entry;
        return SB_OK;
    }
    if (c->nruntimes == STAGE_RUNTIMES)
        return sb_err_at(r->err, SB_EINVAL, entry->line, "runtimes has more than %d entries",
                         STAGE_RUNTIMES - STAGE_LANGS);
    c->runtimes[c->nruntimes] = *entry;
    return take_names(r, names, c->nruntimes++);
}

static sb_code_t read_entry(config_reader_t *r, yaml_node_t *node)
{
    config_runtime_t entry = {.warm = -1};
    void *base = r->base;

    r->base = &entry;
    sb_code_t rc = config_map(r, "a runtime", entry_keys, node);
    r->base = base;
    if (rc == SB_OK && member(r, node, "lang") == NULL)
        rc = sb_err_at(r->err, SB_EINVAL, config_line(node), "a runtime needs lang");
    return rc == SB_OK ? take_entry(r, node, &entry) : rc;
}

/* ---- the list, or the short form ---- */

#define OWN(lang) offsetof(config_t, runtimes) + (lang) * sizeof(config_runtime_t) + AT(interpreter)

static sb_code_t short_form(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    static const config_key_t keys[] = {
        {"python", value_interpreter, OWN(STAGE_PYTHON), 0, STAGE_PATH_LEN, NULL},
        {"node", value_interpreter, OWN(STAGE_NODE), 0, STAGE_PATH_LEN, NULL},
        {"bash", value_interpreter, OWN(STAGE_BASH), 0, STAGE_PATH_LEN, NULL},
        {0}};

    return config_map(r, key->name, keys, node);
}

sb_code_t config_runtimes(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    sb_code_t rc = SB_OK;

    if (node->type == YAML_MAPPING_NODE)
        return short_form(r, key, node);
    if (node->type != YAML_SEQUENCE_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a list or a map",
                         key->name);
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         rc == SB_OK && i < node->data.sequence.items.top; i++)
        rc = read_entry(r, yaml_document_get_node(r->doc, *i));
    return rc;
}

/* ---- before and after ---- */

void config_runtimes_defaults(config_t *c)
{
    for (int i = 0; i < STAGE_LANGS; i++) {
        c->runtimes[i].lang = (enum stage_lang)i;
        c->runtimes[i].warm = -1;
        snprintf(c->runtimes[i].name, sizeof c->runtimes[i].name, "%s", lang_words[i]);
    }
    c->nruntimes = STAGE_LANGS;
}

/* What an entry leaves out is as in `limits`, but for a default above its own maximum. */
static bool complete(int64_t *def, int64_t *max, int64_t all_def, int64_t all_max)
{
    if (*max == 0)
        *max = all_max;
    if (*def == 0)
        *def = all_def < *max ? all_def : *max;
    return *def <= *max;
}

static sb_code_t finish_limits(config_runtime_t *rt, const stage_limits_t *all, sb_err_t *err)
{
    stage_limits_t *l = &rt->limits;
    const char *bad = NULL;

    if (!complete(&l->timeout_default_ms, &l->timeout_max_ms, all->timeout_default_ms,
                  all->timeout_max_ms))
        bad = "timeout";
    if (!complete(&l->memory_default, &l->memory_max, all->memory_default, all->memory_max))
        bad = "memory";
    if (!complete(&l->cpu_default_milli, &l->cpu_max_milli, all->cpu_default_milli,
                  all->cpu_max_milli))
        bad = "cpu";
    if (bad == NULL)
        return SB_OK;
    return sb_err_at(err, SB_EINVAL, rt->line, "%s: default is larger than max", bad);
}

/* The name of an imported image becomes its folder. */
static sb_code_t finish_root(config_t *c, config_runtime_t *rt, sb_err_t *err)
{
    char name[sizeof rt->root];

    if (rt->root[0] == '\0' || rt->root[0] == '/')
        return SB_OK;
    if (c->runtimes_dir[0] == '\0')
        return sb_err_at(err, SB_EINVAL, rt->line,
                         "root: \"%.64s\" is a name below runtimes_dir, which is not set",
                         rt->root);
    memcpy(name, rt->root, sizeof name);
    if (snprintf(rt->root, sizeof rt->root, "%s/%s", c->runtimes_dir, name) >= (int)sizeof rt->root)
        return sb_err_at(err, SB_EINVAL, rt->line, "root is longer than %d bytes", STAGE_PATH_LEN);
    return SB_OK;
}

sb_code_t config_runtimes_finish(config_t *c, sb_err_t *err)
{
    sb_code_t rc = SB_OK;

    for (size_t i = 0; rc == SB_OK && i < c->nruntimes; i++) {
        rc = finish_limits(&c->runtimes[i], &c->limits, err);
        if (rc == SB_OK)
            rc = finish_root(c, &c->runtimes[i], err);
    }
    return rc;
}
