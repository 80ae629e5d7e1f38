/*
 * test_zip_make.c - the zips we make are zips that we take.
 */
#include "cmocka_all.h"

#include <string.h>

#include "../../libskillbox/package.h"
#include "../../libskillbox/zip_make.h"

#define SKILL "---\nname: made\ndescription: d\n---\nText.\n"

static void a_made_zip_is_read_as_it_was_meant(void **state)
{
    const sb_zip_file_t files[] = {
        {"SKILL.md", SKILL, strlen(SKILL), false},
        {"scripts/run.sh", "echo hi\n", 8, true},
        {"empty.txt", "", 0, false},
    };
    sb_buf_t zip = SB_BUF_INIT(65536);
    sb_package_t p;
    sb_err_t err;

    sb_zip_make(files, 3, &zip);
    assert_true(sb_buf_ok(&zip));
    if (sb_package_unpack(zip.data, zip.len, -1, NULL, &p, &err) != SB_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(p.nfiles, 3);
    assert_string_equal(p.files[0].path, "SKILL.md");
    assert_int_equal(p.files[0].size, strlen(SKILL));
    assert_string_equal(p.files[1].path, "empty.txt");
    assert_string_equal(p.files[2].path, "scripts/run.sh");
    assert_int_equal(p.files[2].mode, 0755);
    assert_int_equal(p.findings.count, 0);
    sb_package_free(&p);
    sb_buf_free(&zip);
}

static void a_zip_that_does_not_fit_is_told(void **state)
{
    const sb_zip_file_t file = {"a", "0123456789", 10, false};

    for (size_t max = 0; max < 30 + 1 + 10 + 46 + 1 + 22; max++) {
        sb_buf_t zip = SB_BUF_INIT(max);
        sb_zip_make(&file, 1, &zip);
        assert_false(sb_buf_ok(&zip));
        sb_buf_free(&zip);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_made_zip_is_read_as_it_was_meant),
        cmocka_unit_test(a_zip_that_does_not_fit_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
