/*
 * test_fold.c - words are found whatever their case.
 */
#include "cmocka_all.h"

#include <string.h>

#include "../../libskillbox/fold.h"

static void folds_to(const char *s, const char *want)
{
    sb_buf_t b = SB_BUF_INIT(256);

    sb_fold(&b, s, strlen(s));
    assert_true(sb_buf_ok(&b));
    assert_string_equal(b.data != NULL ? b.data : "", want);
    sb_buf_free(&b);
}

static void capitals_become_small_letters(void **state)
{
    folds_to("", "");
    folds_to("CSV to JSON [@Z`{]", "csv to json [@z`{]");
    folds_to("ÀÖ×ØÞß÷ÿ", "àö×øþß÷ÿ");
    folds_to("ĀāĶķĹĺŇňŊŋŶŷŸŹźŽž", "āāķķĺĺňňŋŋŷŷÿźźžž");
    folds_to("ΑΡΣΫ Ϗ", "αρσϋ Ϗ");
    folds_to("АЯ ЀЏ ая", "ая ѐџ ая");
    folds_to("日本 🙂 İ", "日本 🙂 ı");
}

static void ill_formed_bytes_stay(void **state)
{
    folds_to("A\xff\xc3", "a\xff\xc3");
    folds_to("\xc3(B", "\xc3(b");
}

static bool has(const char *text, const char *words)
{
    return sb_fold_has_words(text, strlen(text), words, strlen(words));
}

static void all_words_must_be_there_in_any_order(void **state)
{
    assert_true(has("reads csv files", "csv"));
    assert_true(has("reads csv files", "files csv"));
    assert_true(has("reads csv files", "  ead\t "));
    assert_true(has("reads csv files", ""));
    assert_true(has("", " \n"));
    assert_false(has("reads csv files", "csv json"));
    assert_false(has("", "a"));
    assert_false(has("ab", "abc"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capitals_become_small_letters),
        cmocka_unit_test(ill_formed_bytes_stay),
        cmocka_unit_test(all_words_must_be_there_in_any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
