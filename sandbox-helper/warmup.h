/*
 * warmup.h - makes libraries load now what they would load at first use.
 */
#ifndef SB_WARMUP_H
#define SB_WARMUP_H

/*
 * For the nursery, before its root is emptied: the locale, jansson's hash seed, and
 * libarchive, zlib, iconv, libyaml and libcrypto by one small package and one small
 * archive of our own.  NULL, or the name of what does not work.
 */
const char *warm_up(void);

#endif
