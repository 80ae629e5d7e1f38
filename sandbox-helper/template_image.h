/*
 * template_image.h - the part of a template's root that an unpacked image fills
 * instead of the host: its folders right below the root, its /etc.
 *
 * Nothing of the image is trusted: it is looked at by descriptors, none of its links
 * is followed outside it, and one with something mounted in it is refused.
 */
#ifndef SB_TEMPLATE_IMAGE_H
#define SB_TEMPLATE_IMAGE_H

#include <stddef.h>

/* Where the image's /etc is; /etc itself has links to what is in it. */
#define TEMPLATE_IMAGE_ETC ".etc"
/* Folders right below the image's root, at most; each is a mount. */
#define TEMPLATE_IMAGE_DIRS 64

/*
 * Shows the image's folders read-only, nosuid, nodev below root, links as links.  Not shown: plain
 * files, names with a dot in front, and what a sandbox has of its own (/etc, /dev, /proc, /sys,
 * /run, /tmp, /sandbox, /skill). 0, or -1 with errno and, when one is to blame, the entry's name in
 * what.
 */
int template_image_folders(const char *image, int root, char *what, size_t len);

/* Fills /etc below root with links to what is in the image's, but for the names that are there
 * already.  As above. */
int template_image_etc(const char *image, int root, char *what, size_t len);

/* Is that entry of the root a folder of the image (for Landlock's rules)? */
int template_image_shows(const char *name);

#endif
