/*
 * test_store_files.c - kept files: versions, lists, and contents that live as long as
 * a record that has them.
 */
#include "store_fixture.h"

#include <stdio.h>
#include <string.h>

#include "../../libskillbox/store_internal.h"

#define T(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)

static sb_code_t put_file(fixture_t *f, sb_file_put_t *put, sb_buf_t *json)
{
    sb_batch_t *b = NULL;
    sb_err_t err;
    sb_code_t code;

    assert_int_equal(sb_batch_begin(f->st, &b, &err), SB_OK);
    code = sb_batch_file_put(b, put, json, &err);
    assert_int_equal(sb_batch_commit(b, &err), SB_OK);
    check_consistency(f->st);
    return code;
}

/* A new file, or with `of` a version of one; its id is in put->id. */
static sb_file_put_t add(fixture_t *f, const char *tenant, const char *name, const char *of,
                         unsigned n)
{
    static char path[200];
    sb_file_put_t put = {.tenant = tenant, .name = name, .of = of, .content_type = "text/plain"};
    sb_buf_t json = SB_BUF_INIT(65536);

    snprintf(path, sizeof(path), "%s", upload(f, "upload", "text"));
    put.digest = digest_of(n);
    put.tmp = path;
    put.size = 4;
    assert_int_equal(put_file(f, &put, &json), SB_OK);
    assert_non_null(strstr(json.data, put.id));
    sb_buf_free(&json);
    return put;
}

static sb_code_t delete_file(fixture_t *f, const char *tenant, const char *id)
{
    sb_batch_t *b = NULL;
    sb_err_t err;
    sb_code_t code;

    assert_int_equal(sb_batch_begin(f->st, &b, &err), SB_OK);
    code = sb_batch_file_delete(b, tenant, id, &err);
    assert_int_equal(sb_batch_commit(b, &err), SB_OK);
    check_consistency(f->st);
    return code;
}

/* How many objects there are in the list of versions, and is each id in its place? */
static void versions_are(fixture_t *f, const char *of, const char *const *ids, size_t n)
{
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    const char *at;
    sb_err_t err;

    assert_int_equal(sb_store_file_versions(f->st, "acme", of, &b, &err), SB_OK);
    at = b.data;
    for (size_t i = 0; i < n; i++) {
        char want[64];
        snprintf(want, sizeof(want), "{\"id\":\"%s\"", ids[i]);
        at = strstr(at, want);
        assert_non_null(at);
    }
    assert_null(strstr(at + 1, "{\"id\""));
    sb_buf_free(&b);
}

static void versions_go_on_whatever_is_deleted(void **state)
{
    fixture_t *f = *state;
    sb_file_put_t one = add(f, "acme", "a.txt", NULL, 1);
    sb_file_put_t other = add(f, "acme", "b.txt", NULL, 1);
    sb_file_put_t two = add(f, "acme", NULL, one.id, 2);
    sb_file_put_t three = add(f, "acme", NULL, two.id, 3);
    const char *all[] = {three.id, two.id, one.id};
    sb_file_t file;
    sb_err_t err;

    versions_are(f, one.id, all, 3);
    versions_are(f, three.id, all, 3);
    assert_int_equal(sb_store_file_get(f->st, "acme", three.id, &file, &err), SB_OK);
    assert_string_equal(file.name.data, "a.txt");
    assert_non_null(strstr(file.json.data, "\"version\":3"));
    assert_int_equal(delete_file(f, "acme", one.id), SB_OK);
    versions_are(f, two.id, all, 2);
    assert_int_equal(delete_file(f, "acme", three.id), SB_OK);
    sb_file_put_t again = add(f, "acme", NULL, two.id, 4);
    assert_int_equal(sb_store_file_get(f->st, "acme", again.id, &file, &err), SB_OK);
    assert_non_null(strstr(file.json.data, one.id)); /* its parent is the first, though gone */
    assert_int_equal(sb_store_file_get(f->st, "acme", other.id, &file, &err), SB_OK);
}

static void a_content_stays_while_a_record_has_it(void **state)
{
    fixture_t *f = *state;
    sb_file_put_t one = add(f, "acme", "a", NULL, 7), two = add(f, "beta", "b", NULL, 7);
    char dir[100];

    snprintf(dir, sizeof(dir), "%s/packages", f->path);
    assert_int_equal(delete_file(f, "acme", one.id), SB_OK);
    assert_true(file_exists(dir, digest_of(7)));
    store_reopen(f);
    assert_true(file_exists(dir, digest_of(7)));
    assert_int_equal(delete_file(f, "beta", two.id), SB_OK);
    assert_false(file_exists(dir, digest_of(7)));
}

static void only_ones_own_files_are_there(void **state)
{
    fixture_t *f = *state;
    sb_file_put_t one = add(f, "acme", "a", NULL, 1);
    sb_file_put_t put = {.tenant = "beta", .of = one.id, .content_type = "x", .size = 4};
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    sb_file_filter_t all = {NULL, NULL, 10, 0};
    sb_file_t file;
    sb_err_t err;

    put.digest = digest_of(2);
    put.tmp = upload(f, "u", "text");
    assert_int_equal(put_file(f, &put, &b), SB_ENOTFOUND);
    put.tenant = "acme";
    put.of = "no-id";
    assert_int_equal(put_file(f, &put, &b), SB_ENOTFOUND);
    put.of = NULL;
    put.name = "../x";
    assert_int_equal(put_file(f, &put, &b), SB_EINVAL);
    assert_int_equal(delete_file(f, "beta", one.id), SB_ENOTFOUND);
    assert_int_equal(sb_store_file_get(f->st, "beta", one.id, &file, &err), SB_ENOTFOUND);
    sb_buf_clear(&b);
    assert_int_equal(sb_store_file_list(f->st, "beta", &all, &b, &err), SB_OK);
    assert_string_equal(b.data, "[]");
    sb_buf_free(&b);
}

static void lists_are_filtered_and_bounded(void **state)
{
    fixture_t *f = *state;
    const char *run = "01890a5d-ac96-774b-bcce-b302099a8057";
    sb_file_put_t put = {.tenant = "acme", .name = "\"execution_id\":\"x\"", .content_type = "x"};
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    sb_file_filter_t filter = {NULL, run, 10, 0};
    sb_err_t err;

    for (unsigned i = 0; i < 5; i++) {
        put.execution = i % 2 == 0 ? run : NULL;
        put.digest = digest_of(i);
        put.tmp = upload(f, "u", "t");
        assert_int_equal(put_file(f, &put, &b), SB_OK);
    }
    add(f, "acmf", "next tenant", NULL, 1);
    for (uint32_t limit = 0; limit < 5; limit++) {
        size_t found = 0;
        sb_buf_clear(&b);
        filter.limit = limit;
        assert_int_equal(sb_store_file_list(f->st, "acme", &filter, &b, &err), SB_OK);
        for (const char *p = b.data; (p = strstr(p, "{\"id\"")) != NULL; p++) {
            found++;
        }
        assert_int_equal(found, limit < 3 ? limit : 3);
    }
    sb_buf_clear(&b);
    filter = (sb_file_filter_t){"nonsense", NULL, 10, 0};
    assert_int_equal(sb_store_file_list(f->st, "acme", &filter, &b, &err), SB_OK);
    assert_string_equal(b.data, "[]");
    sb_buf_free(&b);
}

/* ---- artifacts ---- */

static void finish(fixture_t *f, const char *tenant, const char *id, const char *files,
                   uint32_t count)
{
    char result[400];
    sb_execution_finish_t e = {.tenant = tenant,
                               .id = id,
                               .skill = "s",
                               .status = "success",
                               .result = result,
                               .logs = "",
                               .files = count,
                               .created_ms = 1000,
                               .finished_ms = 2000};
    sb_batch_t *b = NULL;
    sb_err_t err;

    snprintf(result, sizeof(result), "{\"status\":\"success\"%s}", files);
    e.result_len = strlen(result);
    assert_int_equal(sb_batch_begin(f->st, &b, &err), SB_OK);
    assert_int_equal(sb_batch_execution_finish(b, &e, &err), SB_OK);
    assert_int_equal(sb_batch_commit(b, &err), SB_OK);
}

#define TWO ",\"files_list\":[\"a \\\"b\\\".txt\",\"d/e\"],\"files_sizes\":[12,3456789]"

/* The id of the so manyth object of a list. */
static void nth_id(const char *list, int n, char id[SB_UUID_LEN + 1])
{
    for (int i = 0; i <= n; i++) {
        list = strstr(list, "{\"id\":\"");
        assert_non_null(list);
        list += strlen("{\"id\":\"");
    }
    snprintf(id, SB_UUID_LEN + 1, "%s", list);
}

static void artifacts_are_files_of_their_execution(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1], other[SB_UUID_LEN + 1], first[SB_UUID_LEN + 1],
        second[SB_UUID_LEN + 1], want[600];
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    sb_file_filter_t filter = {NULL, id, 10, 0};
    sb_file_t file;
    sb_err_t err;

    sb_uuid7(id);
    sb_uuid7(other); /* of the same millisecond, most likely */
    finish(f, "acme", id, TWO, 2);
    finish(f, "acme", other, TWO, 2);
    assert_int_equal(sb_store_file_list(f->st, "acme", &filter, &b, &err), SB_OK);
    nth_id(b.data, 0, first);
    nth_id(b.data, 1, second);
    snprintf(
        want, sizeof(want),
        "[{\"id\":\"%s\",\"tenant_id\":\"acme\",\"execution_id\":\"%s\",\"name\":\"a "
        "\\\"b\\\".txt\",\"content_type\":\"text/plain\",\"size_bytes\":12,\"version\":1,"
        "\"created_at\":\"1970-01-01T00:00:02.000Z\",\"updated_at\":\"1970-01-01T00:00:02.000Z\"}"
        ",{\"id\":\"%s\"",
        first, id, second);
    assert_memory_equal(b.data, want, strlen(want));
    assert_int_equal(sb_store_file_get(f->st, "acme", second, &file, &err), SB_OK);
    assert_string_equal(file.name.data, "d/e");
    assert_string_equal(file.execution, id);
    assert_int_equal(file.index, 1);
    assert_int_equal(file.size, 3456789);
    assert_int_equal(file.digest.len, 0);
    assert_int_equal(sb_store_artifact_find(f->st, "acme", id, "a \"b\".txt", &file, &err), SB_OK);
    assert_int_equal(file.index, 0);
    assert_int_equal(sb_store_artifact_find(f->st, "acme", id, "d", &file, &err), SB_ENOTFOUND);
    assert_int_equal(sb_store_file_get(f->st, "beta", second, &file, &err), SB_ENOTFOUND);
    assert_int_equal(sb_store_file_get(f->st, "acme", id, &file, &err), SB_ENOTFOUND);
    assert_int_equal(delete_file(f, "acme", second), SB_ECONFLICT);
    assert_int_equal(delete_file(f, "beta", second), SB_ENOTFOUND);
    filter = (sb_file_filter_t){NULL, id, 1, 1};
    sb_buf_clear(&b);
    assert_int_equal(sb_store_file_list(f->st, "acme", &filter, &b, &err), SB_OK);
    assert_non_null(strstr(b.data, second));
    assert_null(strstr(b.data, first));
    sb_buf_free(&b);
}

/* All 4,096 places give ids of their own, and none is the execution's while there are fewer. */
static void every_place_has_an_id(void **state)
{
    fixture_t *f = *state;
    sb_buf_t files = SB_BUF_INIT(SB_MIB), b = SB_BUF_INIT(4 * SB_MIB);
    char execution[SB_UUID_LEN + 1], id[SB_UUID_LEN + 1];
    sb_execution_finish_t e = {.tenant = "acme",
                               .id = execution,
                               .status = "success",
                               .logs = "",
                               .files = SB_ARTIFACT_FILES_MAX,
                               .created_ms = 1,
                               .finished_ms = 2};
    sb_file_filter_t filter = {NULL, execution, SB_ARTIFACT_FILES_MAX, 0};
    sb_batch_t *batch = NULL;
    sb_file_t file;
    sb_err_t err;

    sb_uuid7(execution);
    sb_buf_str(&files, "{\"status\":\"success\",\"files_list\":[");
    for (int i = 0; i < SB_ARTIFACT_FILES_MAX; i++)
        sb_buf_fmt(&files, "%s\"f%04d\"", i ? "," : "", i);
    sb_buf_str(&files, "]}"); /* of a program that kept no sizes */
    e.result = files.data;
    e.result_len = files.len;
    assert_int_equal(sb_batch_begin(f->st, &batch, &err), SB_OK);
    assert_int_equal(sb_batch_execution_finish(batch, &e, &err), SB_OK);
    assert_int_equal(sb_batch_commit(batch, &err), SB_OK);
    assert_int_equal(sb_store_file_list(f->st, "acme", &filter, &b, &err), SB_OK);
    for (int i = 0; i < SB_ARTIFACT_FILES_MAX; i += i < 4000 ? 97 : 1) {
        nth_id(b.data, i, id);
        assert_int_equal(sb_store_file_get(f->st, "acme", id, &file, &err), SB_OK);
        assert_int_equal(file.index, i);
        if (i < SB_ARTIFACT_FILES_MAX - 1)
            assert_string_not_equal(id, execution);
    }
    sb_buf_free(&files);
    sb_buf_free(&b);
}

static void odd_lists_of_artifacts_are_read_within_their_bounds(void **state)
{
    static const char *const lists[] = {
        "",
        ",\"files_list\":[]",
        ",\"files_list\":\"x\"",
        ",\"files_list\":[5,{},null]",
        ",\"files_list\":[\"..\"],\"files_sizes\":[1]",
        ",\"files_list\":[\"/a\"]",
        ",\"files_list\":[\"\"]",
        ",\"files_list\":[\"a\\\\\"]",
    };
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1];
    sb_file_filter_t filter = {NULL, id, 10, 0};
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    sb_file_t file;
    sb_err_t err;

    for (size_t i = 0; i < COUNT(lists); i++) {
        sb_uuid7(id);
        finish(f, "acme", id, lists[i], 1);
        sb_buf_clear(&b);
        assert_int_equal(sb_store_file_list(f->st, "acme", &filter, &b, &err), SB_OK);
        assert_string_equal(b.data, "[]");
        assert_int_equal(sb_store_artifact_find(f->st, "acme", id, "a", &file, &err), SB_ENOTFOUND);
    }
    sb_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(versions_go_on_whatever_is_deleted),
        T(a_content_stays_while_a_record_has_it),
        T(only_ones_own_files_are_there),
        T(lists_are_filtered_and_bounded),
        T(artifacts_are_files_of_their_execution),
        T(every_place_has_an_id),
        T(odd_lists_of_artifacts_are_read_within_their_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
