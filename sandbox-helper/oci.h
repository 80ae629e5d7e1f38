/*
 * oci.h - the JSON files of image archives: OCI image layouts (image-spec 1.x) and
 * what `docker save` writes.  Pure: text in, names and digests out.  The text is
 * hostile; every list is bounded.
 */
#ifndef SB_OCI_H
#define SB_OCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OCI_LAYERS_MAX 128
#define OCI_NAME_MAX   255 /* bytes of a file's name in the archive */
#define OCI_JSON_MAX   (4 << 20)
#define OCI_WHY_MAX    200

typedef struct {
    char hex[65]; /* SHA-256; nothing else is understood */
    int64_t size;
} oci_digest_t;

typedef struct {
    oci_digest_t config;
    oci_digest_t layers[OCI_LAYERS_MAX];
    size_t nlayers;
} oci_manifest_t;

typedef struct {
    char config[OCI_NAME_MAX + 1]; /* names of files in the archive */
    char layers[OCI_LAYERS_MAX][OCI_NAME_MAX + 1];
    size_t nlayers;
} oci_docker_t;

/* All: 0, or -1 with a sentence in why. */

/* The one image of an index for this architecture; *index: it is an index itself. */
int oci_pick(const char *json, size_t len, const char *arch, oci_digest_t *out, bool *index,
             char why[OCI_WHY_MAX]);
int oci_manifest(const char *json, size_t len, oci_manifest_t *out, char why[OCI_WHY_MAX]);
/* manifest.json of `docker save`. */
int oci_docker(const char *json, size_t len, oci_docker_t *out, char why[OCI_WHY_MAX]);
/* rootfs.diff_ids of an image's configuration: the digests of the layers unpacked. */
int oci_diff_ids(const char *json, size_t len, char hex[OCI_LAYERS_MAX][65], size_t *n,
                 char why[OCI_WHY_MAX]);

#endif
