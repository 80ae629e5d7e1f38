/*
 * image.c - see image.h.
 */
#include "image.h"

#include <stdbool.h>
#include <string.h>

static bool matches(const stage_image_t *image, const char *key)
{
    size_t len = strlen(image->key);
    bool prefix = len > 0 && image->key[len - 1] == '*';

    return prefix ? strncmp(image->key, key, len - 1) == 0 : strcmp(image->key, key) == 0;
}

int image_find(const stage_image_t *images, size_t nimages, const char *key, int lang, int *other)
{
    int found = IMAGE_UNKNOWN;

    for (int named = 1; named >= 0; named--) {
        for (size_t i = 0; i < nimages; i++) {
            if ((images[i].runtime >= STAGE_LANGS) != named || !matches(&images[i], key))
                continue;
            if (lang < 0 || images[i].lang == (uint32_t)lang)
                return (int)images[i].runtime;
            if (found == IMAGE_UNKNOWN && other != NULL)
                *other = (int)images[i].lang;
            found = IMAGE_OTHER;
        }
    }
    return found;
}
