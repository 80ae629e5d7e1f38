/*
 * signature.h - HMAC-SHA256 over a file's address and expiry (RFC 2104), API
 * keys and SHA-256.  OpenSSL's libcrypto does the arithmetic.
 */
#ifndef SB_SIGNATURE_H
#define SB_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define SB_SHA256_LEN     32
#define SB_SHA256_HEX     64
#define SB_SIGN_KEY_MIN   32 /* bytes of a signing secret */
#define SB_SIGN_KEY_MAX   1024
#define SB_SIGN_KEYID_MAX 32   /* [A-Za-z0-9_-] */
#define SB_SIGN_PATH_MAX  1024 /* bytes of a signed path */
#define SB_SIGNATURE_LEN  43   /* base64url without padding */

/* Each thread keeps some memory for it, until sb_sha256_end().  Aborts when libcrypto can't provide
 * SHA-256: no key could be told from another. */
void sb_sha256(const void *data, size_t len, unsigned char out[SB_SHA256_LEN]);
/* Gives that memory back, of all threads: none of them may hash any more.  For programs that look
 * for leaks. */
void sb_sha256_end(void);
void sb_hex(const unsigned char *in, size_t len,
            char *out); /* lower case, 2*len digits and a NUL */
bool sb_unhex(const char *in, size_t len, unsigned char *out); /* len even; both cases */

/*
 * What is signed: "skillbox1\n" keyid "\n" tenant "\n" path "\n" expires "\n".  path is the decoded
 * URL path without the mount prefix ("/v1/executions/<id>/files.tar.gz"), expires decimal Unix
 * seconds. out gets SB_SIGNATURE_LEN characters and a NUL.  False, and out empty, when something is
 * over its bound: secret not SB_SIGN_KEY_MIN..MAX long, keyid or tenant empty or too long, path
 * over SB_SIGN_PATH_MAX, or a newline in one of them (it could shift a boundary between fields).
 */
bool sb_sign_path(const unsigned char *secret, size_t secret_len, const char *keyid,
                  const char *tenant, const char *path, size_t path_len, int64_t expires,
                  char out[SB_SIGNATURE_LEN + 1]);
/* Constant time in the signature.  Does not look at the clock: the caller compares expires. */
bool sb_verify_path(const unsigned char *secret, size_t secret_len, const char *keyid,
                    const char *tenant, const char *path, size_t path_len, int64_t expires,
                    const char *sig, size_t sig_len);

/* A new API key: "sk-" and 43 base64url characters (256 bits, getrandom). */
#define SB_APIKEY_LEN 46
void sb_apikey_new(char out[SB_APIKEY_LEN + 1]);
/* What it looks like from outside, before any look-up: "sk-" + 43 base64url characters. */
bool sb_apikey_wellformed(const char *s, size_t len);

#endif
