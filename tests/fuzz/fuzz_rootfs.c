/*
 * fuzz_rootfs.c - laying a root file system out: entries with names and targets of
 * whoever made the archive in; whatever they are, nothing outside the tree and the trash
 * is made, changed or linked to.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../sandbox-helper/rmtree.h"
#include "../../sandbox-helper/rootfs.h"
#include "taker.h"

#define ENTRIES 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char top[] = "/tmp/fuzz_rootfs.XXXXXX";
static int top_fd, tree, trash;
static struct stat canary, before_top;

static int make_folder(const char *name)
{
    assert(mkdirat(top_fd, name, 0700) == 0);
    return openat(top_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void clean_up(void)
{
    rmtree_t rt;

    rmtree_begin(&rt, top_fd);
    while (rmtree_step(&rt, 1000))
        ;
    rmtree_end(&rt);
    rmdir(top);
}

static void begin(void)
{
    int fd;

    assert(mkdtemp(top) != NULL);
    top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fd = openat(top_fd, "canary", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert(top_fd >= 0 && fd >= 0 && write(fd, "canary", 6) == 6);
    close(fd);
    tree = make_folder("tree");
    trash = make_folder("trash");
    assert(tree >= 0 && trash >= 0);
    assert(fstatat(top_fd, "canary", &canary, 0) == 0 && fstat(top_fd, &before_top) == 0);
    atexit(clean_up);
}

static void empty(int fd)
{
    rmtree_t rt;

    rmtree_begin(&rt, fd);
    while (rmtree_step(&rt, 1000))
        ;
    rmtree_end(&rt);
    assert(rt.failed_errno == 0);
}

/* Few letters, so that entries meet; "C" is the way to the canary. */
static void take_name(taker_t *t, char *out, size_t max)
{
    static const char letters[] = "ab./..//../ab/.wh.";
    size_t used = 0, n = (size_t)take_number(t, 1) % 24;

    for (size_t i = 0; i < n && used + sizeof(top) + 16 < max; i++) {
        unsigned c = (unsigned)take_number(t, 1);

        if (c % 16 == 15)
            used += (size_t)snprintf(out + used, max - used, "%s/canary", top);
        else if (c % 16 == 14)
            used += (size_t)snprintf(out + used, max - used, "../canary");
        else
            out[used++] = letters[c % (sizeof(letters) - 1)];
    }
    out[used] = '\0';
}

static int add_file(rootfs_t *r, const char *name, unsigned mode)
{
    int fd;

    if (rootfs_file_begin(r, name, 4, &fd) != 0)
        return -1;
    int rc = rootfs_file_write(r, name, fd, "evil", 4, 0, 4);
    if (rc == 0)
        rc = rootfs_file_end(r, name, fd, mode, 4, 1);
    close(fd);
    return rc;
}

static int one(rootfs_t *r, taker_t *t)
{
    char name[512], target[512];
    unsigned what = (unsigned)take_number(t, 1), mode = (unsigned)take_number(t, 2);

    take_name(t, name, sizeof(name));
    take_name(t, target, sizeof(target));
    switch (what % 7) {
    case 0:
        return rootfs_folder(r, name, mode);
    case 1:
        return add_file(r, name, mode);
    case 2:
        return rootfs_symlink(r, name, target, 1);
    case 3:
        return rootfs_hardlink(r, name, target);
    case 4:
        return rootfs_remove(r, name);
    case 5:
        return rootfs_empty(r, name);
    default:
        return rootfs_leave_out(r, name);
    }
}

static void check_outside(void)
{
    struct stat st;

    assert(fstatat(top_fd, "canary", &st, AT_SYMLINK_NOFOLLOW) == 0);
    assert(st.st_ino == canary.st_ino && st.st_nlink == 1 && st.st_size == 6);
    assert(st.st_mtim.tv_sec == canary.st_mtim.tv_sec &&
           st.st_mtim.tv_nsec == canary.st_mtim.tv_nsec);
    assert(st.st_ctim.tv_nsec == canary.st_ctim.tv_nsec);
    assert(fstat(top_fd, &st) == 0 && st.st_mtim.tv_nsec == before_top.st_mtim.tv_nsec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    taker_t t = {data, size};
    rootfs_t r = {.bytes_max = 64, .entries_max = 30};

    if (top_fd == 0)
        begin();
    r.tree = tree;
    r.trash = trash;
    for (int i = 0; i < ENTRIES && t.left > 0; i++) {
        r.why[0] = '\0';
        if (one(&r, &t) != 0)
            assert(r.why[0] != '\0');
        assert(r.bytes <= r.bytes_max && r.entries <= r.entries_max);
    }
    check_outside();
    empty(tree);
    empty(trash);
    return 0;
}
