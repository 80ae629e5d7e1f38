/* test_signature.c - the promises of signature.h. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../libskillbox/limits.h"
#include "../../libskillbox/signature.h"

static const unsigned char secret[] = "0123456789abcdef0123456789abcdef";
#define SECRET_LEN 32
#define PATH       "/v1/executions/01234567-89ab-7def-8edc-ba9876543210/files.tar.gz"
#define EXPIRES    1800000000

static void sha256_of_the_standards_examples(void **state)
{
    unsigned char out[SB_SHA256_LEN];
    char hex[SB_SHA256_HEX + 1];

    sb_sha256("abc", 3, out);
    sb_hex(out, sizeof(out), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sb_sha256("", 0, out);
    sb_hex(out, sizeof(out), hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void hex_both_ways(void **state)
{
    unsigned char out[4] = {0};
    char text[9];

    assert_true(sb_unhex("00fFa510", 8, out));
    sb_hex(out, 4, text);
    assert_string_equal(text, "00ffa510");
    assert_false(sb_unhex("0", 1, out));
    assert_false(sb_unhex("0g", 2, out));
    assert_false(sb_unhex("-1", 2, out));
    assert_true(sb_unhex("", 0, out));
}

/* The value was computed by another implementation (Python's hmac and base64). */
static void the_signature_is_the_documented_one(void **state)
{
    char sig[SB_SIGNATURE_LEN + 1];

    assert_true(sb_sign_path(secret, SECRET_LEN, "k1", "acme", PATH, strlen(PATH), EXPIRES, sig));
    assert_string_equal(sig, "cVyIEOvJZaLZ25PHaWb9UHjbmDqz3PTsWH3D4nfheHo");
    assert_true(sb_verify_path(secret, SECRET_LEN, "k1", "acme", PATH, strlen(PATH), EXPIRES, sig,
                               SB_SIGNATURE_LEN));
}

static void any_change_breaks_it(void **state)
{
    static const unsigned char other[] = "0123456789abcdef0123456789abcdeX";
    char sig[SB_SIGNATURE_LEN + 1];
    size_t n = strlen(PATH);

    assert_true(sb_sign_path(secret, SECRET_LEN, "k1", "acme", PATH, n, EXPIRES, sig));
    assert_false(sb_verify_path(other, 32, "k1", "acme", PATH, n, EXPIRES, sig, SB_SIGNATURE_LEN));
    assert_false(sb_verify_path(secret, 32, "k2", "acme", PATH, n, EXPIRES, sig, SB_SIGNATURE_LEN));
    assert_false(sb_verify_path(secret, 32, "k1", "acm", PATH, n, EXPIRES, sig, SB_SIGNATURE_LEN));
    assert_false(
        sb_verify_path(secret, 32, "k1", "acme", PATH, n - 1, EXPIRES, sig, SB_SIGNATURE_LEN));
    assert_false(
        sb_verify_path(secret, 32, "k1", "acme", PATH, n, EXPIRES + 1, sig, SB_SIGNATURE_LEN));
    assert_false(
        sb_verify_path(secret, 32, "k1", "acme", PATH, n, -EXPIRES, sig, SB_SIGNATURE_LEN));
    assert_false(
        sb_verify_path(secret, 32, "k1", "acme", PATH, n, EXPIRES, sig, SB_SIGNATURE_LEN - 1));
    assert_false(sb_verify_path(secret, 32, "k1", "acme", PATH, n, EXPIRES, "", 0));
    for (size_t i = 0; i < SB_SIGNATURE_LEN; i++) {
        char was = sig[i];
        sig[i] = was == 'A' ? 'B' : 'A';
        assert_false(
            sb_verify_path(secret, 32, "k1", "acme", PATH, n, EXPIRES, sig, SB_SIGNATURE_LEN));
        sig[i] = was;
    }
}

static void what_is_out_of_bounds_is_not_signed(void **state)
{
    static unsigned char long_secret[SB_SIGN_KEY_MAX + 1];
    char sig[SB_SIGNATURE_LEN + 1], path[SB_SIGN_PATH_MAX + 1];
    char keyid[SB_SIGN_KEYID_MAX + 2], tenant[SB_TENANT_MAX + 2];

    memset(path, 'p', sizeof(path));
    memset(keyid, 'k', sizeof(keyid));
    memset(tenant, 't', sizeof(tenant));
    keyid[SB_SIGN_KEYID_MAX] = tenant[SB_TENANT_MAX] = '\0';
    assert_true(sb_sign_path(long_secret, SB_SIGN_KEY_MAX, keyid, tenant, path, SB_SIGN_PATH_MAX,
                             INT64_MIN, sig));
    assert_false(sb_sign_path(long_secret, SB_SIGN_KEY_MAX + 1, "k", "t", "p", 1, 1, sig));
    assert_false(sb_sign_path(secret, SB_SIGN_KEY_MIN - 1, "k", "t", "p", 1, 1, sig));
    assert_string_equal(sig, "");
    assert_false(sb_sign_path(secret, 32, "k", "t", path, SB_SIGN_PATH_MAX + 1, 1, sig));
    assert_false(sb_sign_path(secret, 32, "", "t", "p", 1, 1, sig));
    assert_false(sb_sign_path(secret, 32, "k", "", "p", 1, 1, sig));
    assert_false(sb_sign_path(secret, 32, "k", "t", "", 0, 1, sig));
    keyid[SB_SIGN_KEYID_MAX] = 'k';
    keyid[SB_SIGN_KEYID_MAX + 1] = '\0';
    assert_false(sb_sign_path(secret, 32, keyid, "t", "p", 1, 1, sig));
    tenant[SB_TENANT_MAX] = 't';
    tenant[SB_TENANT_MAX + 1] = '\0';
    assert_false(sb_sign_path(secret, 32, "k", tenant, "p", 1, 1, sig));
}

/* A newline could move a boundary: tenant "a", path "b\nc" against tenant "a\nb", path "c". */
static void fields_cant_run_into_each_other(void **state)
{
    char sig[SB_SIGNATURE_LEN + 1];

    assert_false(sb_sign_path(secret, 32, "k", "a", "b\nc", 3, 1, sig));
    assert_false(sb_sign_path(secret, 32, "k", "a\nb", "c", 1, 1, sig));
    assert_false(sb_sign_path(secret, 32, "k\n", "a", "c", 1, 1, sig));
    assert_false(sb_sign_path(secret, 32, "k", "a", "b\0c", 3, 1, sig));
}

static void api_keys(void **state)
{
    char a[SB_APIKEY_LEN + 1], b[SB_APIKEY_LEN + 1];

    for (int i = 0; i < 1000; i++) {
        sb_apikey_new(a);
        sb_apikey_new(b);
        assert_int_equal(strlen(a), SB_APIKEY_LEN);
        assert_true(sb_apikey_wellformed(a, SB_APIKEY_LEN));
        assert_true(strcmp(a, b) != 0);
    }
    assert_false(sb_apikey_wellformed(a, SB_APIKEY_LEN - 1));
    a[10] = '+';
    assert_false(sb_apikey_wellformed(a, SB_APIKEY_LEN));
    a[10] = '\0';
    assert_false(sb_apikey_wellformed(a, SB_APIKEY_LEN));
    memcpy(b, "SK-", 3);
    assert_false(sb_apikey_wellformed(b, SB_APIKEY_LEN));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_of_the_standards_examples),
        cmocka_unit_test(hex_both_ways),
        cmocka_unit_test(the_signature_is_the_documented_one),
        cmocka_unit_test(any_change_breaks_it),
        cmocka_unit_test(what_is_out_of_bounds_is_not_signed),
        cmocka_unit_test(fields_cant_run_into_each_other),
        cmocka_unit_test(api_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
