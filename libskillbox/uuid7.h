/*
 * uuid7.h - UUID version 7 (RFC 9562 5.7): 48 bits of Unix milliseconds, then
 * randomness; ids made by one thread increase strictly, as text and as bytes.
 */
#ifndef SB_UUID7_H
#define SB_UUID7_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SB_UUID_LEN 36

/* Writes lower-case text and a NUL.  State is per thread, so any thread and any forked child may
 * call it: 62 bits of every id are fresh from getrandom(2).  Aborts when the kernel has no
 * randomness to give. */
void sb_uuid7(char out[SB_UUID_LEN + 1]);
/* Canonical 8-4-4-4-12 text of any version, either case; out (16 bytes, may be NULL) gets the
 * binary form. */
bool sb_uuid_parse(const char *s, size_t len, unsigned char out[16]);
void sb_uuid_format(const unsigned char in[16], char out[SB_UUID_LEN + 1]);

#endif
