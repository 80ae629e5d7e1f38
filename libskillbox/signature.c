/*
 * signature.c - SHA-256, signed paths, API keys.
 *
 * Every request hashes a key, and OpenSSL 3's one-shot SHA256() looks the algorithm
 * up anew each time: 0.99 us, against 0.20 us with a context that is kept.  So each
 * thread has one; it is memory only, right after a fork, too.  They are freed together, by the
 * program: a destructor of the thread's would be called in a library that is gone, since nginx
 * unloads its modules while the threads of its pools are still ending.  Touches getrandom(2);
 * secrets that were copied are wiped.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "signature.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "limits.h"

/* version, keyid, tenant, path and a signed 64-bit number, each with its newline */
#define MESSAGE_MAX (10 + SB_SIGN_KEYID_MAX + 1 + SB_TENANT_MAX + 1 + SB_SIGN_PATH_MAX + 1 + 21 + 1)

#define KEY_PREFIX     "sk-"
#define KEY_PREFIX_LEN 3

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

typedef struct sha256_s sha256_t;

struct sha256_s {
    EVP_MD_CTX *ctx;
    sha256_t *next;
};

static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256_md;          /* as long as the process */
static _Atomic(sha256_t *) sha256; /* all threads' */
static _Thread_local EVP_MD_CTX *sha256_ctx;

static void sha256_start(void)
{
    sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (sha256_md == NULL)
        abort();
}

static EVP_MD_CTX *sha256_make(void)
{
    sha256_t *own = malloc(sizeof(*own));

    pthread_once(&sha256_once, sha256_start);
    if (own == NULL || (own->ctx = EVP_MD_CTX_new()) == NULL)
        abort();
    own->next = atomic_load(&sha256);
    while (!atomic_compare_exchange_weak(&sha256, &own->next, own))
        ;
    return own->ctx;
}

void sb_sha256_end(void)
{
    sha256_t *one = atomic_exchange(&sha256, NULL), *next;

    sha256_ctx = NULL;
    for (; one != NULL; one = next) {
        next = one->next;
        EVP_MD_CTX_free(one->ctx);
        free(one);
    }
}

void sb_sha256(const void *data, size_t len, unsigned char out[SB_SHA256_LEN])
{
    if (sha256_ctx == NULL)
        sha256_ctx = sha256_make();
    if (EVP_DigestInit_ex2(sha256_ctx, sha256_md, NULL) != 1 ||
        EVP_DigestUpdate(sha256_ctx, data, len) != 1 ||
        EVP_DigestFinal_ex(sha256_ctx, out, NULL) != 1)
        abort();
}

void sb_hex(const unsigned char *in, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[2 * len] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool sb_unhex(const char *in, size_t len, unsigned char *out)
{
    if (len % 2 != 0)
        return false;
    for (size_t i = 0; i < len; i += 2) {
        int hi = hex_value(in[i]), lo = hex_value(in[i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        out[i / 2] = (unsigned char)(hi << 4 | lo);
    }
    return true;
}

/* 32 bytes -> 43 characters and a NUL (RFC 4648 5, no padding) */
static void encode32(const unsigned char in[32], char out[SB_SIGNATURE_LEN + 1])
{
    uint32_t bits = 0;
    int have = 0, n = 0;

    for (int i = 0; i < 32; i++) {
        bits = bits << 8 | in[i];
        for (have += 8; have >= 6; have -= 6)
            out[n++] = base64url[bits >> (have - 6) & 63];
    }
    out[n++] = base64url[bits << (6 - have) & 63];
    out[n] = '\0';
}

static bool field_ok(const char *s, size_t len, size_t max)
{
    return len != 0 && len <= max && memchr(s, '\n', len) == NULL;
}

bool sb_sign_path(const unsigned char *secret, size_t secret_len, const char *keyid,
                  const char *tenant, const char *path, size_t path_len, int64_t expires,
                  char out[SB_SIGNATURE_LEN + 1])
{
    unsigned char mac[SB_SHA256_LEN];
    char message[MESSAGE_MAX + 1];
    unsigned mac_len = 0;
    int n;

    out[0] = '\0';
    if (secret_len < SB_SIGN_KEY_MIN || secret_len > SB_SIGN_KEY_MAX ||
        !field_ok(keyid, strlen(keyid), SB_SIGN_KEYID_MAX) ||
        !field_ok(tenant, strlen(tenant), SB_TENANT_MAX) ||
        !field_ok(path, path_len, SB_SIGN_PATH_MAX) || memchr(path, '\0', path_len) != NULL)
        return false;
    n = snprintf(message, sizeof(message), "skillbox1\n%s\n%s\n%.*s\n%" PRId64 "\n", keyid, tenant,
                 (int)path_len, path, expires);
    if (n < 0 || (size_t)n >= sizeof(message))
        return false;
    if (HMAC(EVP_sha256(), secret, (int)secret_len, (const unsigned char *)message, (size_t)n, mac,
             &mac_len) == NULL ||
        mac_len != sizeof(mac))
        return false;
    encode32(mac, out);
    OPENSSL_cleanse(mac, sizeof(mac));
    return true;
}

bool sb_verify_path(const unsigned char *secret, size_t secret_len, const char *keyid,
                    const char *tenant, const char *path, size_t path_len, int64_t expires,
                    const char *sig, size_t sig_len)
{
    char want[SB_SIGNATURE_LEN + 1];
    bool same;

    if (sig_len != SB_SIGNATURE_LEN ||
        !sb_sign_path(secret, secret_len, keyid, tenant, path, path_len, expires, want))
        return false;
    same = CRYPTO_memcmp(want, sig, SB_SIGNATURE_LEN) == 0;
    OPENSSL_cleanse(want, sizeof(want));
    return same;
}

void sb_apikey_new(char out[SB_APIKEY_LEN + 1])
{
    unsigned char secret[32];
    ssize_t n;

    do {
        n = getrandom(secret, sizeof(secret), 0);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(secret))
        abort(); /* a guessable key must never leave this function */
    memcpy(out, KEY_PREFIX, KEY_PREFIX_LEN);
    encode32(secret, out + KEY_PREFIX_LEN);
    OPENSSL_cleanse(secret, sizeof(secret));
}

bool sb_apikey_wellformed(const char *s, size_t len)
{
    if (len != SB_APIKEY_LEN || memcmp(s, KEY_PREFIX, KEY_PREFIX_LEN) != 0)
        return false;
    for (size_t i = KEY_PREFIX_LEN; i < len; i++) {
        char c = s[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '-' && c != '_')
            return false;
    }
    return true;
}
