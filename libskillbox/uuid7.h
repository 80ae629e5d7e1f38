/*
 * uuid7.h - UUID version 7 (RFC 9562 5.7): 48 bits of Unix milliseconds, then
 * randomness; ids of one process increase strictly.
 */
#ifndef SB_UUID7_H
#define SB_UUID7_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SB_UUID_LEN 36

/* Writes lower-case text and a NUL.  State is per process and not thread-safe: call it from one thread.
 * Randomness: getrandom(2). */
void sb_uuid7(char out[SB_UUID_LEN + 1]);
/* Canonical 8-4-4-4-12 text of any version, either case; out (16 bytes, may be NULL) gets the binary form. */
bool sb_uuid_parse(const char *s, size_t len, unsigned char out[16]);
void sb_uuid_format(const unsigned char in[16], char out[SB_UUID_LEN + 1]);

#endif
