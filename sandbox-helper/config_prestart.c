/*
 * config_prestart.c - the `prestart` part of helper.yaml; see config.h and docs/helper.md.
 */
#include "config_internal.h"

#define AT(field) offsetof(config_t, field)

void config_prestart_defaults(config_t *c)
{
    c->prestart_max = 2;
    c->prestart_idle_ms = 120000;
}

static const config_key_t keys[] = {
    {"max", config_number, AT(prestart_max), 0, 16, NULL},
    {"idle", config_duration, AT(prestart_idle_ms), 1, 86400000, NULL},
    {0}};

sb_code_t config_prestart(config_reader_t *r, const config_key_t *key, yaml_node_t *node)
{
    return config_map(r, key->name, keys, node);
}
