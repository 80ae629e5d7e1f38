/*
 * config_zygote.c - the `zygote` part of helper.yaml; see config.h and docs/helper.md.
 */
#include <stdio.h>
#include <string.h>

#include "../libskillbox/names.h"
#include "config_internal.h"

#define AT(field)   offsetof(config_t, field)
#define SIZE(field) (int64_t)sizeof(((config_t *)0)->field)

/* What scripts import most; each brings what it needs itself. */
#define MODULES                                                                                    \
    "json re csv datetime collections math statistics pathlib base64 hashlib urllib.parse "        \
    "itertools"

void config_zygote_defaults(config_t *c)
{
    c->zygote = true;
    snprintf(c->zygote_modules, sizeof c->zygote_modules, "%s", MODULES);
    c->zygote_warm = 4;
    c->zygote_recycle_runs = 1000;
    c->zygote_recycle_ms = 600000;
}

static sb_code_t add_module(config_reader_t *r, const config_key_t *key, const yaml_node_t *node,
                            char *list)
{
    const char *s;
    size_t len, used = strlen(list);
    sb_code_t rc = config_scalar(r, key->name, node, &s, &len);

    if (rc != SB_OK)
        return rc;
    if (!sb_module_valid(s, len))
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s: \"%.64s\" is no module's name",
                         key->name, s);
    if (used + len + 2 > (size_t)key->max)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s is longer than %lld bytes",
                         key->name, (long long)key->max - 1);
    snprintf(list + used, (size_t)key->max - used, "%s%s", used > 0 ? " " : "", s);
    return SB_OK;
}

sb_code_t config_modules(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    char *list = (char *)r->base + key->at;
    sb_code_t rc = SB_OK;

    if (node->type != YAML_SEQUENCE_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a list", key->name);
    list[0] = '\0';
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         rc == SB_OK && i < node->data.sequence.items.top; i++)
        rc = add_module(r, key, yaml_document_get_node(r->doc, *i), list);
    return rc;
}

/* "tenant" or "tenant/skill" */
static bool names_tenant(const char *s, size_t len)
{
    const char *slash = memchr(s, '/', len);
    const size_t tenant = slash == NULL ? len : (size_t)(slash - s);

    if (!sb_tenant_valid(s, tenant))
        return false;
    return slash == NULL || sb_name_valid(slash + 1, len - tenant - 1);
}

static sb_code_t value_not_for(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    config_t *c = r->config;

    if (node->type != YAML_SEQUENCE_NODE)
        return sb_err_at(r->err, SB_EINVAL, config_line(node), "%s must be a list", key->name);
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top;
         i++) {
        const yaml_node_t *item = yaml_document_get_node(r->doc, *i);
        const char *s;
        size_t len;
        sb_code_t rc = config_scalar(r, key->name, item, &s, &len);

        if (rc != SB_OK)
            return rc;
        if (!names_tenant(s, len))
            return sb_err_at(r->err, SB_EINVAL, config_line(item),
                             "%s: \"%.64s\" is neither a tenant nor tenant/skill", key->name, s);
        if (c->nzygote_not_for == CONFIG_NOT_FOR)
            return sb_err_at(r->err, SB_EINVAL, config_line(item), "%s has more than %d entries",
                             key->name, CONFIG_NOT_FOR);
        memcpy(c->zygote_not_for[c->nzygote_not_for++], s, len + 1);
    }
    return SB_OK;
}

static const config_key_t keys[] = {
    {"enabled", config_bool, AT(zygote), 0, 0, NULL},
    {"modules", config_modules, AT(zygote_modules), 0, SIZE(zygote_modules), NULL},
    {"warm", config_number, AT(zygote_warm), 0, 16, NULL},
    {"recycle_runs", config_number, AT(zygote_recycle_runs), 0, 1000000000, NULL},
    {"recycle_after", config_duration, AT(zygote_recycle_ms), 0, 86400000, NULL},
    {"not_for", value_not_for, 0, 0, 0, NULL},
    {0}};

sb_code_t config_zygote(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    return config_map(r, key->name, keys, node);
}
