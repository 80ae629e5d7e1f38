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
#include "../libskillbox/limits.h"
#include "log.h"
#include "stage.h"

#define CONFIG_FILE_MAX        (64 * 1024)
#define CONFIG_PATH_MAX        1024
#define CONFIG_ALLOW_USERS     32
#define CONFIG_RUNTIME_PATHS   8
#define CONFIG_ROOTS           16 /* different roots, each with a sandbox-stage of its own */
#define CONFIG_NOT_FOR         64
#define CONFIG_CONCURRENCY_MAX 128 /* what fits into one socket buffer of requests to the stage */

typedef enum { CGROUP_AUTO, CGROUP_OFF } config_cgroup_t;

/* One interpreter in one root.  The first STAGE_LANGS are the languages' own: what runs a package
 * that names no image. */
typedef struct {
    char name[STAGE_IMAGE_MAX + 1]; /* its first image key, or the language */
    enum stage_lang lang;
    char root[STAGE_PATH_LEN];        /* "" = the host's /usr */
    char interpreter[STAGE_PATH_LEN]; /* "" = look for it in the root; "off" = not offered */
    char readonly[CONFIG_RUNTIME_PATHS][STAGE_PATH_LEN]; /* beside `readonly`, which is the host
                                                            root's only */
    size_t nreadonly;
    char env[STAGE_ENV_BYTES]; /* as in stage_runtime_t */
    size_t env_len;
    stage_limits_t limits; /* complete once the file was read */
    int64_t warm;          /* sandboxes kept waiting, ready children of a zygote; -1 = not given */
    bool no_zygote;        /* for Python: plain starts only */
    bool have_modules;     /* then these instead of the common ones */
    char zygote_modules[STAGE_MODULES];
    int line; /* in the file; 0: not from it */
} config_runtime_t;

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

    char completion[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": no asynchronous runs */

    int64_t concurrency;
    int64_t queue;
    int64_t async_queue; /* asynchronous runs that may wait, beside `queue` */
    int64_t queue_timeout_ms;
    int64_t stop_timeout_ms;
    int64_t package_idle_ms; /* how long an unused one stays unpacked; 0: for ever */

    stage_limits_t limits;
    int64_t package_bytes;  /* an upload's body */
    int64_t unpacked_bytes; /* a package unpacked */
    int64_t tmp_bytes, out_bytes, work_bytes, shm_bytes;
    int64_t inodes;
    int64_t nofile;
    int64_t nproc;

    char readonly[STAGE_PATHS][STAGE_PATH_LEN];
    size_t nreadonly;
    char runtimes_dir[STAGE_PATH_LEN - 80]; /* where imported images are; "" = nowhere */
    config_runtime_t runtimes[STAGE_RUNTIMES];
    size_t nruntimes; /* STAGE_LANGS at least */
    stage_image_t images[STAGE_IMAGES];
    size_t nimages;

    int64_t warm; /* sandboxes kept waiting in the host's root; -1 = `concurrency` */
    bool zygote;
    char zygote_modules[STAGE_MODULES]; /* separated by blanks */
    int64_t zygote_warm;                /* ready children of the host's Python */
    int64_t zygote_recycle_runs;        /* 0 = never for that reason */
    int64_t zygote_recycle_ms;
    char zygote_not_for[CONFIG_NOT_FOR][SB_TENANT_MAX + 1 + SB_NAME_MAX + 1];
    size_t nzygote_not_for;

    int64_t prestart_max;     /* interpreters that wait, for each Node.js runtime at most */
    int64_t prestart_idle_ms; /* what nobody used for so long goes */

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

/* Adds an image key for a runtime; false: there is no room, or the key does not fit. */
bool config_image_add(config_t *c, const char *key, size_t len, size_t runtime);

#endif
