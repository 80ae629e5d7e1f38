/*
 * limits.h - the contract's numbers, each in one place.  What an operator may
 * change has a directive or a helper.yaml key whose default is taken from here.
 */
#ifndef SB_LIMITS_H
#define SB_LIMITS_H

#define SB_KIB 1024LL
#define SB_MIB (1024LL * 1024LL)
#define SB_GIB (1024LL * 1024LL * 1024LL)

/* names */
#define SB_TENANT_MAX  64  /* bytes of a tenant id */
#define SB_NAME_MAX    128 /* bytes of a skill's name */
#define SB_VERSION_MAX 64  /* bytes of a version */
#define SB_PATH_MAX    512 /* bytes of a path inside a package */
#define SB_KEYNAME_MAX 64  /* bytes of an API key's name */

/* packages */
#define SB_PACKAGE_MAX          (50 * SB_MIB) /* compressed, default of skillbox_max_package */
#define SB_PACKAGE_UNPACKED_MAX (50 * SB_MIB)
#define SB_PACKAGE_ENTRIES_MAX  500
#define SB_PACKAGE_RATIO_MAX    100 /* unpacked : packed, judged above 1 MiB unpacked */
#define SB_PACKAGE_DEPTH_MAX    32
#define SB_FINDINGS_MAX         200

/* manifest */
#define SB_SKILLMD_MAX     (1 * SB_MIB)
#define SB_FRONTMATTER_MAX (64 * SB_KIB)
#define SB_YAML_DEPTH_MAX  32
#define SB_YAML_NODES_MAX  10000
#define SB_DESCRIPTION_MAX 1024

/* a run */
#define SB_TIMEOUT_DEFAULT_MS 120000
#define SB_TIMEOUT_MAX_MS     600000
#define SB_TIMEOUT_MIN_MS     1
#define SB_MEMORY_DEFAULT     (256 * SB_MIB)
#define SB_MEMORY_MAX         (1 * SB_GIB)
#define SB_MEMORY_MIN         (16 * SB_MIB)
#define SB_CPU_DEFAULT_MILLI  500
#define SB_CPU_MAX_MILLI      4000
#define SB_CPU_MIN_MILLI      10
#define SB_INPUT_MAX          (8 * SB_MIB) /* request body of POST /v1/executions */
#define SB_ARGS_MAX           256
#define SB_ENV_MAX            256
#define SB_ENV_STRING_MAX     (120 * SB_KIB) /* one name=value; the kernel caps a string at 128 KiB */
#define SB_JOB_FILES_MAX      256

/* input_files of a run: kept files and artifacts, by id */
#define SB_INPUT_FILES_MAX       64
#define SB_INPUT_FILES_BYTES_MAX (64 * SB_MIB) /* of all of them */

/* results */
#define SB_LOG_MAX            (1 * SB_MIB)
#define SB_OUTPUT_MAX         (8 * SB_MIB)
#define SB_ARTIFACT_BYTES_MAX (256 * SB_MIB)
#define SB_ARTIFACT_FILES_MAX 4096
#define SB_RESULT_MAX         (24 * SB_MIB) /* helper's result body: output + file names */

#endif
