/*
 * image.h - which runtime an image key means.  Pure; shared by the main process,
 * which runs packages, and the intake child, which writes their limits down.
 */
#ifndef SB_IMAGE_H
#define SB_IMAGE_H

#include <stddef.h>

#include "stage.h"

#define IMAGE_UNKNOWN (-1) /* nothing is listed under that key */
#define IMAGE_OTHER   (-2) /* it is, but for other languages; *other is one of them */

/*
 * The number of the runtime that serves `key` for `lang`, or one of the above.  lang < 0: any
 * language will do.  Named runtimes come before keys that mean a language's own one, in the order
 * of the file.
 */
int image_find(const stage_image_t *images, size_t nimages, const char *key, int lang, int *other);

#endif
