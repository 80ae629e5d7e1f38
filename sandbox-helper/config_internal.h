/*
 * config_internal.h - between config.c and config_runtimes.c: how a value of the
 * file becomes a field.  Nobody else includes it.
 */
#ifndef SB_HELPER_CONFIG_INTERNAL_H
#define SB_HELPER_CONFIG_INTERNAL_H

#include <yaml.h>

#include "config.h"

typedef struct {
    yaml_document_t *doc;
    config_t *config;
    void *base; /* the struct whose fields the keys at hand are */
    sb_err_t *err;
} config_reader_t;

typedef struct config_key_s config_key_t;
typedef sb_code_t (*config_value_fn)(config_reader_t *r, const config_key_t *key,
                                     yaml_node_t *node);

struct config_key_s {
    const char *name;
    config_value_fn parse;
    size_t at;               /* offset of the value in its struct */
    int64_t min, max;        /* numbers; strings: max = size of the array */
    const config_key_t *sub; /* maps */
};

/* 1-based line of a node. */
int config_line(const yaml_node_t *node);
/* The text of a node that must be a single value, without NUL inside. */
sb_code_t config_scalar(config_reader_t *r, const char *name, const yaml_node_t *node,
                        const char **s, size_t *len);
/* One of the words, whose index is the value. */
sb_code_t config_word(config_reader_t *r, const char *name, const yaml_node_t *node,
                      const char *const *words, int *index);
/* A map with the keys of the table (ends with a NULL name), each at most once. */
sb_code_t config_map(config_reader_t *r, const char *what, const config_key_t *keys,
                     yaml_node_t *node);
/* A list of absolute paths. */
sb_code_t config_paths(config_reader_t *r, const char *name, yaml_node_t *node,
                       char (*paths)[STAGE_PATH_LEN], size_t *npaths, size_t max);

/* config_value_fn: each fills the field at key->at. */
sb_code_t config_text(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
sb_code_t config_path(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
sb_code_t config_number(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
/* timeout, memory and cpu: a map with default and max, of a stage_limits_t at key->at. */
sb_code_t config_timeout(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
sb_code_t config_memory(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
sb_code_t config_cpu(config_reader_t *r, const config_key_t *key, yaml_node_t *node);

#define CONFIG_LIMIT_KEYS(at)                                                                      \
    {"timeout", config_timeout, at, 0, 0, NULL}, {"memory", config_memory, at, 0, 0, NULL},        \
    {                                                                                              \
        "cpu", config_cpu, at, 0, 0, NULL                                                          \
    }

sb_code_t config_bool(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
sb_code_t config_duration(config_reader_t *r, const config_key_t *key, yaml_node_t *node);

/* ---- config_zygote.c ---- */
void config_zygote_defaults(config_t *c);
sb_code_t config_zygote(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
/* A list of module names, into STAGE_MODULES bytes at key->at. */
sb_code_t config_modules(config_reader_t *r, const config_key_t *key, yaml_node_t *node);

/* ---- config_prestart.c ---- */
void config_prestart_defaults(config_t *c);
sb_code_t config_prestart(config_reader_t *r, const config_key_t *key, yaml_node_t *node);

/* ---- config_runtimes.c ---- */
sb_code_t config_runtimes(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
sb_code_t config_images(config_reader_t *r, const config_key_t *key, yaml_node_t *node);
void config_runtimes_defaults(config_t *c);
/* Completes and checks them once the whole file was read. */
sb_code_t config_runtimes_finish(config_t *c, sb_err_t *err);

#endif
