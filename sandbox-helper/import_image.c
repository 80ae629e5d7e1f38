/*
 * import_image.c - see import_image.h.  Runs in the confined import child.
 */
#include "import_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive_entry.h>
#include <openssl/evp.h>

#include "layer.h"
#include "oci.h"
#include "sys.h"

#define FILES_MAX   1024 /* of an image archive */
#define INDEX_DEPTH 3    /* an index may name an index */

#if defined(__x86_64__)
#define ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define ARCHITECTURE "arm64"
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE "riscv64"
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define ARCHITECTURE "ppc64le"
#elif defined(__s390x__)
#define ARCHITECTURE "s390x"
#elif defined(__i386__)
#define ARCHITECTURE "386"
#elif defined(__arm__)
#define ARCHITECTURE "arm"
#else
#define ARCHITECTURE "unknown"
#endif

/* A file of the archive: its content is the blob with its number. */
typedef struct {
    char name[OCI_NAME_MAX + 1];
    char link[OCI_NAME_MAX + 1]; /* a symbolic link's target as a name in the archive; "" = none */
    char hex[65];
    int64_t size;
} blob_t;

typedef struct {
    rootfs_t *r;
    import_image_t *image;
    blob_t *blobs;
    size_t count;
} spool_t;

static int fail(rootfs_t *r, const char *text)
{
    snprintf(r->why, sizeof(r->why), "%s", text);
    return -1;
}

static int broken(rootfs_t *r, const char *what)
{
    snprintf(r->why, sizeof(r->why), "%s: %s", what, strerror(errno));
    return -1;
}

static const char *without_dot(const char *name)
{
    return strncmp(name, "./", 2) == 0 ? name + 2 : name;
}

/* ---- what sort of archive? ---- */

/* A name that only one sort has: 1 an image's, 0 a root's, -1 it may be either. */
static int judge(const char *name)
{
    static const char *const image[] = {"oci-layout", "index.json", "manifest.json"};
    static const char *const root[] = {"usr", "bin", "etc", "lib", "sbin", "var", "opt"};
    size_t len = strcspn(name, "/");

    for (size_t i = 0; i < sizeof(image) / sizeof(image[0]); i++)
        if (strcmp(image[i], name) == 0)
            return 1;
    for (size_t i = 0; i < sizeof(root) / sizeof(root[0]); i++)
        if (strlen(root[i]) == len && memcmp(root[i], name, len) == 0)
            return 0;
    return -1;
}

int import_is_image(rootfs_t *r, int archive)
{
    struct archive *a = layer_open(r, archive, false);
    struct archive_entry *e;
    const char *name;
    int rc, verdict = -1;

    if (a == NULL)
        return -1;
    while (verdict < 0 && (rc = layer_next(r, a, &e, &name)) > 0)
        verdict = judge(without_dot(name));
    archive_read_free(a);
    if (verdict >= 0)
        return verdict;
    return rc < 0 ? -1 : 0;
}

/* ---- spooling ---- */

static void finish_hash(EVP_MD_CTX *md, char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[32];

    EVP_DigestFinal_ex(md, sum, NULL);
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[sum[i] >> 4];
        hex[2 * i + 1] = digits[sum[i] & 15];
    }
    hex[64] = '\0';
}

static int blob_open(const spool_t *s, size_t number, int flags)
{
    char name[24];

    snprintf(name, sizeof(name), "%zu", number);
    return openat(s->image->blobs, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* The rest of the current entry into fd (-1: nowhere) and md; the number of bytes, or -1. */
static int64_t drain(rootfs_t *r, struct archive *a, int fd, int64_t max, EVP_MD_CTX *md)
{
    static char data[64 * 1024];
    int64_t total = 0;
    la_ssize_t n;

    while ((n = archive_read_data(a, data, sizeof(data))) > 0) {
        total += n;
        if (total > max)
            return fail(r, "the archive holds more than the bytes that are allowed");
        if (fd >= 0 && sys_write_all(fd, data, (size_t)n) != 0)
            return broken(r, "the archive's files can't be kept");
        EVP_DigestUpdate(md, data, (size_t)n);
    }
    if (n < 0) {
        snprintf(r->why, sizeof(r->why), "the archive is damaged: %.200s", archive_error_string(a));
        return -1;
    }
    return total;
}

static int spool_file(spool_t *s, struct archive *a, blob_t *blob, int64_t *room, EVP_MD_CTX *md)
{
    int fd = blob_open(s, s->count, O_WRONLY | O_CREAT | O_EXCL);

    if (fd < 0)
        return broken(s->r, "the archive's files can't be kept");
    EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    blob->size = drain(s->r, a, fd, *room, md);
    close(fd);
    if (blob->size < 0)
        return -1;
    finish_hash(md, blob->hex);
    *room -= blob->size;
    return 0;
}

/* Docker before 25 writes a layer that it has written already as a link: ../<id>/layer.tar. */
static bool resolve_link(const char *name, const char *target, char out[OCI_NAME_MAX + 1])
{
    const char *slash = strrchr(name, '/');

    if (target == NULL || slash == NULL || strncmp(target, "../", 3) != 0)
        return false;
    target += 3;
    return memchr(name, '/', (size_t)(slash - name)) == NULL && strstr(target, "..") == NULL &&
           snprintf(out, OCI_NAME_MAX + 1, "%s", target) <= OCI_NAME_MAX;
}

static int spool_entry(spool_t *s, struct archive *a, struct archive_entry *e, const char *name,
                       int64_t *room, EVP_MD_CTX *md)
{
    blob_t *blob = &s->blobs[s->count];
    int type = archive_entry_filetype(e);

    if (type == AE_IFDIR)
        return 0;
    if (s->count == FILES_MAX || strlen(name) > OCI_NAME_MAX)
        return rootfs_fail(s->r, name,
                           "is one too many for an image archive, or has too long a name");
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->blobs[i].name, name) == 0)
            return rootfs_fail(s->r, name, "is there twice");
    memset(blob, 0, sizeof(*blob));
    strcpy(blob->name, name);
    if (archive_entry_hardlink(e) != NULL || (type != AE_IFREG && type != AE_IFLNK))
        return rootfs_fail(s->r, name, "is no file, and an image archive has nothing else");
    if (type == AE_IFLNK && !resolve_link(name, archive_entry_symlink(e), blob->link))
        return rootfs_fail(s->r, name, "is a link to something that is not in the archive");
    if (type == AE_IFREG && spool_file(s, a, blob, room, md) != 0)
        return -1;
    s->count++;
    return 0;
}

static int spool_all(spool_t *s, EVP_MD_CTX *md)
{
    struct archive *a = layer_open(s->r, s->image->archive, false);
    int64_t room = (int64_t)s->r->bytes_max;
    struct archive_entry *e;
    const char *name;
    int rc;

    if (a == NULL)
        return -1;
    while ((rc = layer_next(s->r, a, &e, &name)) > 0) {
        if (spool_entry(s, a, e, without_dot(name), &room, md) != 0) {
            rc = -1;
            break;
        }
    }
    archive_read_free(a);
    return rc;
}

/* NULL: there is no such file. */
static const blob_t *find_blob(const spool_t *s, const char *name)
{
    for (int hop = 0; hop < 2; hop++) {
        const blob_t *found = NULL;

        for (size_t i = 0; i < s->count && found == NULL; i++)
            if (strcmp(s->blobs[i].name, name) == 0)
                found = &s->blobs[i];
        if (found == NULL || found->link[0] == '\0')
            return found;
        name = found->link;
    }
    return NULL;
}

static const blob_t *need_blob(spool_t *s, const char *name)
{
    const blob_t *blob = find_blob(s, name);

    if (blob == NULL)
        rootfs_fail(s->r, name, "is missing in the archive");
    return blob;
}

/* By digest: there, of that size, and with that content. */
static const blob_t *need_digest(spool_t *s, const oci_digest_t *digest)
{
    char name[sizeof("blobs/sha256/") + 64];
    const blob_t *blob;

    snprintf(name, sizeof(name), "blobs/sha256/%s", digest->hex);
    blob = need_blob(s, name);
    if (blob == NULL)
        return NULL;
    if (strcmp(blob->hex, digest->hex) == 0 && blob->size == digest->size)
        return blob;
    rootfs_fail(s->r, name, "does not have the digest or the size that is promised for it");
    return NULL;
}

/* A blob's text; the caller frees it. */
static char *load(spool_t *s, const blob_t *blob)
{
    char *text = blob->size <= OCI_JSON_MAX ? malloc((size_t)blob->size + 1) : NULL;
    int fd;

    if (text == NULL) {
        rootfs_fail(s->r, blob->name, "is too large for what it should be");
        return NULL;
    }
    fd = blob_open(s, (size_t)(blob - s->blobs), O_RDONLY);
    if (fd < 0 || sys_pread_all(fd, text, (size_t)blob->size, 0) != 0) {
        broken(s->r, "the archive's files can't be read");
        free(text);
        text = NULL;
    }
    if (fd >= 0)
        close(fd);
    return text;
}

/* ---- layers ---- */

static int lay(spool_t *s, const blob_t *blob)
{
    int fd = blob_open(s, (size_t)(blob - s->blobs), O_RDONLY);
    int rc;

    if (fd < 0)
        return broken(s->r, "the archive's files can't be read");
    rc = layer_apply(s->r, fd, LAYER_WHITEOUTS);
    if (rc == 0)
        rc = layer_apply(s->r, fd, LAYER_CONTENT);
    close(fd);
    s->image->layers++;
    return rc;
}

static int oci_find_manifest(spool_t *s, oci_manifest_t *manifest)
{
    const blob_t *blob = need_blob(s, "index.json");
    bool index = true;

    for (int depth = 0; index; depth++) {
        oci_digest_t next;
        char *text = blob == NULL ? NULL : load(s, blob);
        int rc = -1;

        if (text != NULL && depth < INDEX_DEPTH)
            rc = oci_pick(text, (size_t)blob->size, ARCHITECTURE, &next, &index, s->r->why);
        else if (text != NULL)
            fail(s->r, "the index leads to too many others");
        free(text);
        if (rc != 0)
            return -1;
        blob = need_digest(s, &next);
    }
    char *text = blob == NULL ? NULL : load(s, blob);
    int rc = text == NULL ? -1 : oci_manifest(text, (size_t)blob->size, manifest, s->r->why);
    free(text);
    return rc;
}

static int import_oci(spool_t *s)
{
    static oci_manifest_t manifest;

    s->image->format = "oci";
    if (oci_find_manifest(s, &manifest) != 0 || need_digest(s, &manifest.config) == NULL)
        return -1;
    /* all of them before the first is used */
    for (size_t i = 0; i < manifest.nlayers; i++)
        if (need_digest(s, &manifest.layers[i]) == NULL)
            return -1;
    for (size_t i = 0; i < manifest.nlayers; i++)
        if (lay(s, need_digest(s, &manifest.layers[i])) != 0)
            return -1;
    return 0;
}

/* The digest of a layer as it is when unpacked. */
static int hash_unpacked(spool_t *s, const blob_t *blob, EVP_MD_CTX *md, char hex[65])
{
    int fd = blob_open(s, (size_t)(blob - s->blobs), O_RDONLY);
    struct archive *a = fd < 0 ? NULL : layer_open(s->r, fd, true);
    struct archive_entry *e;
    int64_t n = -1;

    if (fd < 0)
        broken(s->r, "the archive's files can't be read");
    EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    if (a != NULL && archive_read_next_header(a, &e) == ARCHIVE_OK)
        n = drain(s->r, a, -1, (int64_t)s->r->bytes_max, md);
    else if (a != NULL)
        rootfs_fail(s->r, blob->name, "can't be read");
    archive_read_free(a);
    if (fd >= 0)
        close(fd);
    finish_hash(md, hex);
    return n < 0 ? -1 : 0;
}

/* <digest>.json, or blobs/sha256/<digest>. */
static bool name_is_digest(const blob_t *blob)
{
    const char *slash = strrchr(blob->name, '/');

    return strncmp(slash != NULL ? slash + 1 : blob->name, blob->hex, 64) == 0;
}

static int docker_layers(spool_t *s, const oci_docker_t *docker, char hex[][65], size_t n,
                         EVP_MD_CTX *md)
{
    char unpacked[65];

    if (n != docker->nlayers)
        return fail(s->r, "the image's configuration and manifest.json differ in their layers");
    for (size_t i = 0; i < n; i++) {
        const blob_t *layer = need_blob(s, docker->layers[i]);

        if (layer == NULL || hash_unpacked(s, layer, md, unpacked) != 0)
            return -1;
        if (strcmp(unpacked, hex[i]) != 0)
            return rootfs_fail(s->r, layer->name,
                               "does not have the digest that is promised for it");
    }
    for (size_t i = 0; i < n; i++)
        if (lay(s, need_blob(s, docker->layers[i])) != 0)
            return -1;
    return 0;
}

static int import_docker(spool_t *s, EVP_MD_CTX *md)
{
    static oci_docker_t docker;
    static char hex[OCI_LAYERS_MAX][65];
    const blob_t *blob = need_blob(s, "manifest.json");
    char *text = blob == NULL ? NULL : load(s, blob);
    int rc = text == NULL ? -1 : oci_docker(text, (size_t)blob->size, &docker, s->r->why);
    size_t n;

    s->image->format = "docker";
    free(text);
    blob = rc != 0 ? NULL : need_blob(s, docker.config);
    if (blob != NULL && !name_is_digest(blob)) {
        rootfs_fail(s->r, blob->name, "does not have the digest that is its name");
        blob = NULL;
    }
    text = blob == NULL ? NULL : load(s, blob);
    rc = text == NULL ? -1 : oci_diff_ids(text, (size_t)blob->size, hex, &n, s->r->why);
    free(text);
    return rc != 0 ? -1 : docker_layers(s, &docker, hex, n, md);
}

int import_image(rootfs_t *r, import_image_t *image)
{
    spool_t s = {.r = r, .image = image, .blobs = calloc(FILES_MAX + 1, sizeof(blob_t))};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int rc = -1;

    if (s.blobs == NULL || md == NULL)
        fail(r, "out of memory");
    else if (spool_all(&s, md) == 0)
        rc = find_blob(&s, "index.json") != NULL ? import_oci(&s) : import_docker(&s, md);
    EVP_MD_CTX_free(md);
    free(s.blobs);
    return rc;
}
