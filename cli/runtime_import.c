/*
 * runtime_import.c - `skillbox runtime import`; see importer.h.
 *
 * Started as root it becomes the owner of the folder of runtimes once archive and
 * program are open: an archive is never unpacked as root.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/names.h"
#include "../libskillbox/units.h"
#include "../sandbox-helper/stage.h"
#include "cli.h"
#include "importer.h"
#include "output.h"
#include "process.h"
#include "runtime.h"

#define BYTES_DEFAULT   (4 * SB_GIB)
#define ENTRIES_DEFAULT 500000

static const sb_option_t import_options[] = {
    {"name", "NAME", "what the runtime is called (default: the file's name without endings)",
     false},
    {"dir", "DIR",
     "folder of runtimes, runtimes_dir in helper.yaml (default:\nthat of the state folder)", false},
    {"state", "DIR", "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)",
     false},
    {"replace", NULL, "replace the runtime of that name", false},
    {"max-size", "SIZE", "bytes it may have unpacked, at most 64Gi (default: 4Gi)", false},
    {"max-entries", "N", "files and folders it may have (default: 500000)", false},
    {"json", NULL,
     "print {\"name\",\"root\",\"format\",\"layers\",\"entries\",\"bytes\",\n\"left_out\"}", false},
    {NULL, NULL, NULL, false},
};

/* python-3.12.tar.gz -> python-3.12 */
static bool name_of(const char *path, char out[STAGE_IMAGE_MAX + 1])
{
    static const char *const endings[] = {".gz", ".xz", ".zst", ".bz2", ".tgz", ".tar", ".oci"};
    const char *slash = strrchr(path, '/');
    bool again = true;

    if (snprintf(out, STAGE_IMAGE_MAX + 1, "%s", slash != NULL ? slash + 1 : path) >
        STAGE_IMAGE_MAX) {
        return false;
    }
    while (again) {
        again = false;
        for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
            size_t len = strlen(out), end = strlen(endings[i]);

            if (len > end && strcmp(out + len - end, endings[i]) == 0) {
                out[len - end] = '\0';
                again = true;
            }
        }
    }
    return true;
}

static bool take_limits(const sb_args_t *args, sb_import_t *import)
{
    const char *size = sb_args_get(args, "max-size"), *entries = sb_args_get(args, "max-entries");
    char rest;

    import->bytes_max = BYTES_DEFAULT;
    import->entries_max = ENTRIES_DEFAULT;
    if (size != NULL && (sb_memory_parse(size, strlen(size), &import->bytes_max, NULL) != SB_OK ||
                         import->bytes_max > IMPORT_BYTES_MAX || import->bytes_max < 1)) {
        sb_say_error("--max-size is a size like 4Gi, at most 64Gi");
        return false;
    }
    if (entries != NULL) {
        long long n;

        if (strlen(entries) > 9 || sscanf(entries, "%lld%c", &n, &rest) != 1 || n < 1 ||
            n > IMPORT_ENTRIES_MAX) {
            sb_say_error("--max-entries is a number from 1 to %d", IMPORT_ENTRIES_MAX);
            return false;
        }
        import->entries_max = n;
    }
    return true;
}

static int open_archive(const char *path, int *fd)
{
    struct stat st;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (*fd < 0 || fstat(*fd, &st) != 0) {
        sb_say_error("%s: %s", path, strerror(errno));
        return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED;
    }
    if (!S_ISREG(st.st_mode)) {
        sb_say_error("%s is no regular file, and an archive is read more than once", path);
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

static int open_dir(const char *path, int *fd)
{
    struct stat st;
    sb_err_t err;

    if (mkdir(path, 0755) != 0 && errno != EEXIST) {
        sb_say_error("%s: %s", path, strerror(errno));
        return EXIT_FAILED;
    }
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) != 0) {
        sb_say_error("%s: %s", path, strerror(errno));
        return EXIT_FAILED;
    }
    if (geteuid() != 0) {
        return EXIT_OK;
    }
    if (st.st_uid == 0 || st.st_gid == 0) {
        sb_say_error(
            "%s belongs to root, and archives are not unpacked as root: give the folder to "
            "an ordinary user and group first (chown)",
            path);
        return EXIT_FAILED;
    }
    if (sb_proc_become(st.st_uid, st.st_gid, &err) != SB_OK) {
        sb_say_err(&err);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

static void say_what_came(const sb_args_t *args, const char *root, const char *name, json_t *answer)
{
    json_int_t left = json_integer_value(json_object_get(answer, "left_out"));
    const char *format = json_string_value(json_object_get(answer, "format"));
    char size[32];

    json_object_set_new(answer, "name", json_string(name));
    json_object_set_new(answer, "root", json_string(root));
    if (sb_args_flag(args, "json")) {
        sb_print_json(stdout, answer);
        return;
    }
    sb_bytes_format(json_integer_value(json_object_get(answer, "bytes")), size);
    printf("%s  %s  %lld entries, %s, from %s\n", name, root,
           (long long)json_integer_value(json_object_get(answer, "entries")), size,
           format != NULL && strcmp(format, "rootfs") == 0 ? "a root file system" : "an image");
    if (left > 0) {
        sb_say("left out: %lld entries that are no files, folders or links (device nodes)",
               (long long)left);
    }
    sb_say("it is offered once sandbox-helper was started again, with `image: %s` in SKILL.md",
           name);
}

static int status_of(sb_code_t code)
{
    return code == SB_ECONFLICT ? EXIT_CONFLICT : EXIT_FAILED;
}

static int do_import(const sb_args_t *args, sb_import_t *import, const char *dir)
{
    char root[SB_STATE_PATH_MAX + STAGE_IMAGE_MAX + 2];
    json_t *answer;
    sb_err_t err;
    int rc = sb_runtime_program("sandbox-packer", &import->program);

    if (rc == EXIT_OK) {
        rc = open_archive(sb_args_operand(args, 0), &import->archive);
    }
    if (rc == EXIT_OK) {
        rc = open_dir(dir, &import->dir);
    }
    if (rc != EXIT_OK) {
        return rc;
    }
    sb_code_t code = sb_import(import, &answer, &err);
    if (code != SB_OK) {
        sb_say_err(&err);
        return status_of(code);
    }
    snprintf(root, sizeof(root), "%s/%s", dir, import->name);
    say_what_came(args, root, import->name, answer);
    json_decref(answer);
    return EXIT_OK;
}

static int run_import(const sb_args_t *args)
{
    sb_import_t import = {.name = sb_args_get(args, "name"),
                          .replace = sb_args_flag(args, "replace"),
                          .archive = -1,
                          .dir = -1,
                          .program = -1};
    char dir[SB_STATE_PATH_MAX], name[STAGE_IMAGE_MAX + 1];

    if (import.name == NULL && name_of(sb_args_operand(args, 0), name)) {
        import.name = name;
    }
    if (import.name == NULL || strlen(import.name) > STAGE_IMAGE_MAX ||
        !sb_name_valid(import.name, strlen(import.name))) {
        sb_say_error("a runtime's name is 1 to 128 letters, digits, '.', '_' or '-': give --name");
        return EXIT_USAGE;
    }
    if (!take_limits(args, &import) || !sb_runtime_dir(args, dir)) {
        return EXIT_USAGE;
    }
    int rc = do_import(args, &import, dir);
    const int fds[] = {import.archive, import.dir, import.program};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    return rc;
}

const sb_command_t cmd_runtime_import = {
    .name = "runtime import",
    .operands = "<archive>",
    .summary = "unpack a root file system or a container image as a runtime",
    .details =
        "Takes a tar of a root file system (debootstrap, `docker export`), an OCI image layout in "
        "a\n"
        "tar, or what `docker save` writes; plain or compressed by gzip, bzip2, xz or zstd.  It "
        "is\n"
        "unpacked by a confined process, in full or not at all: digests are verified, names that\n"
        "lead outside are refused, device nodes are left out, set-user-id bits are dropped, and "
        "all\n"
        "files belong to you.  As root: to the owner of the folder of runtimes.\n"
        "\n"
        "Everything in it can be read by every skill that names it.  The helper offers it after "
        "its\n"
        "next start.  Exit status 6: there is one of that name.",
    .options = import_options,
    .examples = "docker save python:3.12-slim | gzip > py312.tar.gz; skillbox runtime import "
                "py312.tar.gz\n"
                "skillbox runtime import debian.tar.zst --name debian --dir "
                "/var/lib/skillbox/runtimes",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_import,
};
