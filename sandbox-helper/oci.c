/*
 * oci.c - see oci.h.
 */
#include "oci.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

static int fail(char why[OCI_WHY_MAX], const char *text)
{
    snprintf(why, OCI_WHY_MAX, "%s", text);
    return -1;
}

static json_t *parse(const char *json, size_t len, const char *what, char why[OCI_WHY_MAX])
{
    json_error_t error;
    json_t *root =
        len <= OCI_JSON_MAX ? json_loadb(json, len, JSON_REJECT_DUPLICATES, &error) : NULL;

    if (root == NULL)
        snprintf(why, OCI_WHY_MAX, "%s is no JSON, or too large", what);
    return root;
}

static bool take_hex(const char *digest, char hex[65])
{
    static const char prefix[] = "sha256:";

    if (digest == NULL || strncmp(digest, prefix, sizeof(prefix) - 1) != 0)
        return false;
    digest += sizeof(prefix) - 1;
    if (strlen(digest) != 64 || strspn(digest, "0123456789abcdef") != 64)
        return false;
    memcpy(hex, digest, 65);
    return true;
}

static bool take_descriptor(const json_t *o, oci_digest_t *out)
{
    const json_t *size = json_object_get(o, "size");

    if (!take_hex(json_string_value(json_object_get(o, "digest")), out->hex) ||
        !json_is_integer(size) || json_integer_value(size) < 0)
        return false;
    out->size = json_integer_value(size);
    return true;
}

/* ---- OCI ---- */

static bool is_index(const json_t *descriptor)
{
    const char *type = json_string_value(json_object_get(descriptor, "mediaType"));

    return type != NULL &&
           (strcmp(type, "application/vnd.oci.image.index.v1+json") == 0 ||
            strcmp(type, "application/vnd.docker.distribution.manifest.list.v2+json") == 0);
}

/* One that says nothing of a platform is for all. */
static bool fits(const json_t *descriptor, const char *arch)
{
    const json_t *platform = json_object_get(descriptor, "platform");
    const char *os = json_string_value(json_object_get(platform, "os"));
    const char *its = json_string_value(json_object_get(platform, "architecture"));

    return platform == NULL ||
           (os != NULL && strcmp(os, "linux") == 0 && its != NULL && strcmp(its, arch) == 0);
}

static int pick(const json_t *root, const char *arch, oci_digest_t *out, bool *index,
                char why[OCI_WHY_MAX])
{
    const json_t *list = json_object_get(root, "manifests"), *found = NULL, *o;
    size_t i, n = 0;

    json_array_foreach(list, i, o)
    {
        if (!fits(o, arch))
            continue;
        found = o;
        n++;
    }
    if (n != 1) {
        snprintf(why, OCI_WHY_MAX, "the index has %zu images for linux/%s instead of one", n, arch);
        return -1;
    }
    if (!take_descriptor(found, out))
        return fail(why, "the index has no SHA-256 digest and size of its image");
    *index = is_index(found);
    return 0;
}

int oci_pick(const char *json, size_t len, const char *arch, oci_digest_t *out, bool *index,
             char why[OCI_WHY_MAX])
{
    json_t *root = parse(json, len, "the index", why);
    int rc = root == NULL ? -1 : pick(root, arch, out, index, why);

    json_decref(root);
    return rc;
}

static int read_manifest(const json_t *root, oci_manifest_t *out, char why[OCI_WHY_MAX])
{
    const json_t *layers = json_object_get(root, "layers"), *o;
    size_t i;

    out->nlayers = 0;
    if (!take_descriptor(json_object_get(root, "config"), &out->config))
        return fail(why, "the manifest has no SHA-256 digest and size of its configuration");
    if (!json_is_array(layers) || json_array_size(layers) == 0 ||
        json_array_size(layers) > OCI_LAYERS_MAX)
        return fail(why, "the manifest has no layers, or more than 128");
    json_array_foreach(layers, i, o)
    {
        if (!take_descriptor(o, &out->layers[out->nlayers++]))
            return fail(why, "the manifest has a layer without SHA-256 digest and size");
    }
    return 0;
}

int oci_manifest(const char *json, size_t len, oci_manifest_t *out, char why[OCI_WHY_MAX])
{
    json_t *root = parse(json, len, "the manifest", why);
    int rc = root == NULL ? -1 : read_manifest(root, out, why);

    json_decref(root);
    return rc;
}

/* ---- docker save ---- */

static bool take_name(const json_t *o, char out[OCI_NAME_MAX + 1])
{
    const char *s = json_string_value(o);

    if (s == NULL || s[0] == '\0' || strlen(s) > OCI_NAME_MAX)
        return false;
    strcpy(out, s);
    return true;
}

static int read_docker(const json_t *root, oci_docker_t *out, char why[OCI_WHY_MAX])
{
    const json_t *image = json_array_get(root, 0), *layers = json_object_get(image, "Layers"), *o;
    size_t i;

    out->nlayers = 0;
    if (json_array_size(root) != 1) {
        snprintf(why, OCI_WHY_MAX, "manifest.json has %zu images instead of one",
                 json_array_size(root));
        return -1;
    }
    if (!take_name(json_object_get(image, "Config"), out->config))
        return fail(why, "manifest.json does not name the image's configuration");
    if (!json_is_array(layers) || json_array_size(layers) == 0 ||
        json_array_size(layers) > OCI_LAYERS_MAX)
        return fail(why, "manifest.json has no layers, or more than 128");
    json_array_foreach(layers, i, o)
    {
        if (!take_name(o, out->layers[out->nlayers++]))
            return fail(why, "manifest.json has a layer without a name");
    }
    return 0;
}

int oci_docker(const char *json, size_t len, oci_docker_t *out, char why[OCI_WHY_MAX])
{
    json_t *root = parse(json, len, "manifest.json", why);
    int rc = root == NULL ? -1 : read_docker(root, out, why);

    json_decref(root);
    return rc;
}

static int read_diff_ids(const json_t *root, char hex[OCI_LAYERS_MAX][65], size_t *n,
                         char why[OCI_WHY_MAX])
{
    const json_t *ids = json_object_get(json_object_get(root, "rootfs"), "diff_ids"), *o;
    size_t i;

    *n = 0;
    if (!json_is_array(ids) || json_array_size(ids) > OCI_LAYERS_MAX)
        return fail(why, "the image's configuration has no diff_ids, or more than 128");
    json_array_foreach(ids, i, o)
    {
        if (!take_hex(json_string_value(o), hex[(*n)++]))
            return fail(why, "the image's configuration has a diff_id that is no SHA-256 digest");
    }
    return 0;
}

int oci_diff_ids(const char *json, size_t len, char hex[OCI_LAYERS_MAX][65], size_t *n,
                 char why[OCI_WHY_MAX])
{
    json_t *root = parse(json, len, "the image's configuration", why);
    int rc = root == NULL ? -1 : read_diff_ids(root, hex, n, why);

    json_decref(root);
    return rc;
}
