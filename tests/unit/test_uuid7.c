/* test_uuid7.c - the promises of uuid7.h. */
#include "cmocka_all.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../libskillbox/buf.h"
#include "../../libskillbox/uuid7.h"

#define IDS 20000

static void layout(void **state)
{
    char text[SB_UUID_LEN + 1];
    unsigned char id[16];
    int64_t before = sb_time_now_ms(), ms = 0;

    sb_uuid7(text);
    assert_int_equal(strlen(text), SB_UUID_LEN);
    assert_true(sb_uuid_parse(text, SB_UUID_LEN, id));
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id[i];
    assert_in_range(ms, before, sb_time_now_ms());
    assert_int_equal(id[6] >> 4, 7);
    assert_int_equal(id[8] >> 6, 2);
}

static void ids_of_a_thread_increase(void **state)
{
    char last[SB_UUID_LEN + 1] = "", id[SB_UUID_LEN + 1];

    for (int i = 0; i < IDS; i++) { /* more than a millisecond's counter holds */
        sb_uuid7(id);
        assert_true(strcmp(id, last) > 0);
        memcpy(last, id, sizeof(id));
    }
}

typedef char id_t7[SB_UUID_LEN + 1];

static void *make_ids(void *arg)
{
    id_t7 *out = arg;

    for (int i = 0; i < IDS; i++)
        sb_uuid7(out[i]);
    return NULL;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void threads_never_make_the_same(void **state)
{
    enum { THREADS = 4 };
    id_t7 *ids = calloc((size_t)THREADS * IDS, sizeof(id_t7));
    pthread_t t[THREADS];

    assert_non_null(ids);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, make_ids, ids + (size_t)i * IDS), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    qsort(ids, (size_t)THREADS * IDS, sizeof(id_t7), by_text);
    for (size_t i = 1; i < (size_t)THREADS * IDS; i++)
        assert_true(strcmp(ids[i - 1], ids[i]) != 0);
    free(ids);
}

static void a_forked_child_makes_others(void **state)
{
    char parent[SB_UUID_LEN + 1], child[SB_UUID_LEN + 1] = "";
    int pipefd[2], status;
    pid_t pid;

    sb_uuid7(parent); /* state to inherit */
    assert_int_equal(pipe(pipefd), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sb_uuid7(child);
        _exit(write(pipefd[1], child, SB_UUID_LEN) == SB_UUID_LEN ? 0 : 1);
    }
    sb_uuid7(parent);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(pipefd[0], child, SB_UUID_LEN), SB_UUID_LEN);
    assert_true(strcmp(parent, child) != 0);
    close(pipefd[0]);
    close(pipefd[1]);
}

static void text_and_bytes(void **state)
{
    static const unsigned char bytes[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                            0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10};
    static const char *const bad[] = {"",
                                      "01234567-89ab-cdef-fedc-ba987654321",
                                      "01234567-89ab-cdef-fedc-ba98765432100",
                                      "0123456789ab-cdef-fedc-ba9876543210-",
                                      "g1234567-89ab-cdef-fedc-ba9876543210",
                                      "01234567_89ab-cdef-fedc-ba9876543210",
                                      "01234567-89ab-cdef-fedc-ba987654321\n",
                                      "{1234567-89ab-cdef-fedc-ba987654321}"};
    unsigned char id[16];
    char text[SB_UUID_LEN + 1];

    sb_uuid_format(bytes, text);
    assert_string_equal(text, "01234567-89ab-cdef-fedc-ba9876543210");
    assert_true(sb_uuid_parse(text, SB_UUID_LEN, id));
    assert_memory_equal(id, bytes, 16);
    assert_true(sb_uuid_parse("01234567-89AB-CDEF-FEDC-BA9876543210", SB_UUID_LEN, id));
    assert_memory_equal(id, bytes, 16);
    assert_true(sb_uuid_parse(text, SB_UUID_LEN, NULL));
    memset(id, 0, sizeof(id));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(sb_uuid_parse(bad[i], strlen(bad[i]), id));
    assert_int_equal(id[0], 0); /* a failure writes nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(ids_of_a_thread_increase),
        cmocka_unit_test(threads_never_make_the_same),
        cmocka_unit_test(a_forked_child_makes_others),
        cmocka_unit_test(text_and_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
