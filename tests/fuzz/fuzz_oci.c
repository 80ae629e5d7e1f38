/*
 * fuzz_oci.c - the JSON files of image archives: text of whoever made the archive in;
 * digests and names within their bounds, or a sentence that says why not, out.  The first
 * byte chooses the file.
 */
#include <assert.h>
#include <string.h>

#include "../../sandbox-helper/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_hex(const char *hex)
{
    assert(strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64);
}

static void check_digest(const oci_digest_t *d)
{
    check_hex(d->hex);
    assert(d->size >= 0);
}

static void check_refusal(int rc, const char *why)
{
    assert(rc == -1);
    assert(strnlen(why, OCI_WHY_MAX) > 0 && strnlen(why, OCI_WHY_MAX) < OCI_WHY_MAX);
}

static int try_pick(const char *text, size_t len, char *why)
{
    oci_digest_t d;
    bool index;
    int rc = oci_pick(text, len, "amd64", &d, &index, why);

    if (rc == 0)
        check_digest(&d);
    return rc;
}

static int try_manifest(const char *text, size_t len, char *why)
{
    static oci_manifest_t m;
    int rc = oci_manifest(text, len, &m, why);

    if (rc != 0)
        return rc;
    assert(m.nlayers > 0 && m.nlayers <= OCI_LAYERS_MAX);
    check_digest(&m.config);
    for (size_t i = 0; i < m.nlayers; i++)
        check_digest(&m.layers[i]);
    return 0;
}

static int try_docker(const char *text, size_t len, char *why)
{
    static oci_docker_t d;
    int rc = oci_docker(text, len, &d, why);

    if (rc != 0)
        return rc;
    assert(d.nlayers > 0 && d.nlayers <= OCI_LAYERS_MAX && d.config[0] != '\0');
    for (size_t i = 0; i < d.nlayers; i++)
        assert(strnlen(d.layers[i], OCI_NAME_MAX + 1) <= OCI_NAME_MAX && d.layers[i][0] != '\0');
    return 0;
}

static int try_diff_ids(const char *text, size_t len, char *why)
{
    static char hex[OCI_LAYERS_MAX][65];
    size_t n;
    int rc = oci_diff_ids(text, len, hex, &n, why);

    for (size_t i = 0; rc == 0 && i < n; i++)
        check_hex(hex[i]);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const tries[])(const char *, size_t, char *) = {try_pick, try_manifest, try_docker,
                                                                 try_diff_ids};
    char why[OCI_WHY_MAX] = "";

    if (size == 0)
        return 0;
    int rc = tries[data[0] % 4]((const char *)data + 1, size - 1, why);
    if (rc != 0)
        check_refusal(rc, why);
    return 0;
}
