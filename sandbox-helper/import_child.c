/*
 * import_child.c - see import_child.h.  Runs as pid 1 of its own pid namespace in the
 * packer's empty root.  Holds four descriptors: status socket, the archive (read), the
 * staging folder, the answer file.  It confines itself before it looks at the archive, and
 * everything it makes lies below the staging folder.  It ends by _exit(2).
 */
#include "import_child.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/buf.h"
#include "confine.h"
#include "import_image.h"
#include "landlock.h"
#include "layer.h"
#include "sys.h"

#define IMPORT_FDS 4
#define ANSWER_MAX (16 * SB_KIB)

typedef struct {
    int status, staging, answer;
    rootfs_t tree;
    import_image_t image;
    packer_report_t report;
} import_t;

/* The last words, and the end. */
static void __attribute__((noreturn)) finish(import_t *in)
{
    in->report.magic = STAGE_MAGIC;
    _exit(sys_send_fds(in->status, &in->report, sizeof(in->report), NULL, 0) == 0 ? 0 : 1);
}

static void __attribute__((noreturn)) broken(import_t *in, const char *what, int err)
{
    in->report.http_status = 500;
    in->report.answer_len = 0;
    snprintf(in->report.text, sizeof(in->report.text), "%s: %s", what, strerror(err));
    finish(in);
}

static void confine(import_t *in, const int *given, int ngiven)
{
    const uint64_t access = LL_READ | LL_WRITE_FILE | LL_TRUNCATE | LL_MAKE_DIR | LL_MAKE_REG |
                            LL_MAKE_SYM | LL_REMOVE_DIR | LL_REMOVE_FILE | LL_REFER;
    const char *step = "landlock";
    int fds[IMPORT_FDS];

    if (ngiven != IMPORT_FDS)
        _exit(125); /* the two programs do not speak the same words */
    memcpy(fds, given, sizeof(fds));
    in->status = given[0];
    if (confine_child(PACKER_IMPORT, fds, IMPORT_FDS, &step) != 0)
        broken(in, step, errno);
    in->status = fds[0];
    in->image.archive = fds[1];
    in->staging = fds[2];
    in->answer = fds[3];
    if (confine_paths(&in->staging, 1, access) != 0)
        broken(in, "landlock", errno);
    if (confine_syscalls(PACKER_IMPORT) != 0)
        broken(in, "seccomp", errno);
}

static int open_folder(import_t *in, const char *name)
{
    int fd = sys_openat2(in->staging, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0,
                         SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS);

    if (fd < 0)
        broken(in, name, errno);
    return fd;
}

static bool has(const import_t *in, const char *name)
{
    struct stat st;

    return fstatat(in->tree.tree, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int import(import_t *in)
{
    int image = import_is_image(&in->tree, in->image.archive);

    in->image.format = "rootfs";
    if (image < 0)
        return -1;
    if ((image ? import_image(&in->tree, &in->image)
               : layer_apply(&in->tree, in->image.archive, LAYER_ALONE)) != 0)
        return -1;
    if (has(in, "usr") || has(in, "bin"))
        return 0;
    snprintf(
        in->tree.why, sizeof(in->tree.why),
        "this is no root file system, it has neither usr nor bin, and no image archive either");
    return -1;
}

static void answer(import_t *in, bool good)
{
    sb_buf_t b = SB_BUF_INIT(ANSWER_MAX);

    sb_buf_char(&b, '{');
    if (good) {
        sb_json_key_str(&b, "format", in->image.format);
        sb_json_key_int(&b, "layers", in->image.layers);
        sb_json_key_int(&b, "entries", (int64_t)in->tree.entries);
        sb_json_key_int(&b, "bytes", (int64_t)in->tree.bytes);
        sb_json_key_int(&b, "left_out", (int64_t)in->tree.left_out);
    } else {
        sb_json_key_str(&b, "error", "invalid_archive");
        sb_json_key_str(&b, "message", in->tree.why);
    }
    sb_buf_char(&b, '}');
    if (!sb_buf_ok(&b) || sys_write_all(in->answer, b.data, b.len) != 0)
        broken(in, "answer file", errno);
    in->report.http_status = good ? 200 : 422;
    in->report.answer_len = b.len;
}

void import_child(const stage_request_t *request, const int *fds, int nfds)
{
    static import_t in; /* static: zero, and off the stack */

    confine(&in, fds, nfds);
    in.tree.tree = open_folder(&in, IMPORT_TREE);
    in.tree.trash = open_folder(&in, IMPORT_TRASH);
    in.image.blobs = open_folder(&in, IMPORT_BLOBS);
    in.tree.bytes_max =
        request->package_max < IMPORT_BYTES_MAX ? request->package_max : IMPORT_BYTES_MAX;
    in.tree.entries_max = request->entries_max;
    bool good = import(&in) == 0;
    /* whoever runs skills with it may be another user than who imports it */
    if (good && fchmod(in.tree.tree, 0755) != 0)
        broken(&in, "root folder", errno);
    answer(&in, good);
    finish(&in);
}
