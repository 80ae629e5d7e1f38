/*
 * config.h - helper.yaml: every key, its default and its bounds.  Read once at
 * start with libyaml, before anything is served; nothing here changes later.
 * docs/helper.md is the reference for operators.
 */
#ifndef SB_HELPER_CONFIG_H
#define SB_HELPER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "../libskillbox/err.h"
#include "log.h"
#include "stage.h"

#define CONFIG_FILE_MAX        (64 * 1024)
#define CONFIG_PATH_MAX        1024
#define CONFIG_ALLOW_USERS     32
#define CONFIG_IMAGES          32
#define CONFIG_IMAGE_LEN       128
#define CONFIG_CONCURRENCY_MAX 128 /* what fits into one socket buffer of requests to the stage */

typedef enum { CGROUP_AUTO, CGROUP_OFF } config_cgroup_t;

/* An image key packages may ask for, and the language whose interpreter serves it.
 * A trailing '*' matches any rest. */
typedef struct {
    char key[CONFIG_IMAGE_LEN + 1];
    enum stage_lang lang;
} config_image_t;

typedef struct {
    char listen[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int64_t socket_mode;
    uid_t allow_users[CONFIG_ALLOW_USERS];
    size_t nallow_users;
    bool have_user; /* `user` was given; uid and gid are what it means */
    char user[64];
    uid_t uid;
    gid_t gid;
    char state_dir[STAGE_PATH_LEN - 16]; /* room for "/packages" and "/tmp" */
    char artifacts[CONFIG_PATH_MAX];

    int64_t concurrency;
    int64_t queue;
    int64_t queue_timeout_ms;
    int64_t stop_timeout_ms;

    int64_t timeout_default_ms, timeout_max_ms;
    int64_t memory_default, memory_max;
    int64_t cpu_default_milli, cpu_max_milli;
    int64_t package_bytes;  /* an upload's body */
    int64_t unpacked_bytes; /* a package unpacked */
    int64_t tmp_bytes, out_bytes, work_bytes, shm_bytes;
    int64_t inodes;
    int64_t nofile;
    int64_t nproc;

    char readonly[STAGE_PATHS][STAGE_PATH_LEN];
    size_t nreadonly;
    /* "" = look for it on the host; "off" = not offered */
    char interpreter[STAGE_RUNTIMES][STAGE_PATH_LEN];
    config_image_t images[CONFIG_IMAGES];
    size_t nimages;

    int64_t cgroup; /* config_cgroup_t */
    bool exec_writable;
    bool proc_full;
    bool allow_no_procfs, allow_no_landlock, allow_no_cgroup;
    int64_t log_level; /* log_level_t */
} config_t;

/*
 * Reads and checks the file.  SB_EINVAL with a line when its content is wrong
 * (unknown keys are), SB_ESYSTEM when it can't be read.  Names of users are
 * looked up here.
 */
sb_code_t config_load(const char *path, config_t *c, sb_err_t *err);

/* "python", "node", "bash" */
const char *config_lang_name(enum stage_lang lang);
bool config_lang_parse(const char *s, size_t len, enum stage_lang *lang);

/* Which language's interpreter serves that image key; false: not listed. */
bool config_image_find(const config_t *c, const char *key, enum stage_lang *lang);

#endif
