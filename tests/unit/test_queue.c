/* test_queue.c - the promises of queue.h: fair between tenants, bounded, nothing left. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../sandbox-helper/queue.h"
#include "cmocka_all.h"

static queue_entry_t entry_of(const char *tenant)
{
    return (queue_entry_t){.tenant = tenant};
}

static void push(queue_t *q, queue_entry_t *e)
{
    assert_true(queue_push(q, e, e));
}

/* Whoever waits goes, whoever runs is done: nothing may be left then. */
static void leave(queue_t *q, queue_entry_t *entries, size_t n)
{
    for (queue_entry_t *e = entries; e < entries + n; e++) {
        if (e->prev != NULL)
            queue_remove(q, e);
        else if (e->of != NULL)
            queue_done(q, e);
    }
}

static void is_left_empty(const queue_t *q)
{
    assert_int_equal(q->running, 0);
    assert_int_equal(q->waiting + q->background, 0);
    assert_int_equal(q->tenants, 0);
}

static void a_thousand_jobs_of_one_do_not_keep_the_one_of_another_waiting(void **state)
{
    static queue_entry_t a[1000], b;
    queue_entry_t *e;
    queue_t q;

    queue_init(&q, 4096, 0, 1);
    for (int i = 0; i < 1000; i++) {
        a[i] = entry_of("a");
        push(&q, &a[i]);
    }
    e = queue_next(&q, NULL);
    assert_ptr_equal(e, &a[0]);
    b = entry_of("b");
    push(&q, &b);
    queue_done(&q, e);
    e = queue_next(&q, NULL); /* a's turn was before b came, b's is next at the latest */
    if (e != &b) {
        assert_ptr_equal(e, &a[1]);
        queue_done(&q, e);
        e = queue_next(&q, NULL);
    }
    assert_ptr_equal(e, &b);
    queue_done(&q, e);
    for (int i = 0; i < 1000; i++)
        queue_remove(&q, &a[i]);
    assert_int_equal(q.tenants, 0);
}

static void turns_go_round_and_are_first_come_first_served_within_a_tenant(void **state)
{
    static const char *const names[] = {"a", "a", "a", "b", "b", "c", "a"};
    static const char want[] = "abcabaa";
    queue_entry_t e[7], *got;
    int last_of_a = -1;
    queue_t q;

    queue_init(&q, 100, 0, 1);
    for (int i = 0; i < 7; i++) {
        e[i] = entry_of(names[i]);
        push(&q, &e[i]);
    }
    for (int i = 0; i < 7; i++) {
        got = queue_next(&q, NULL);
        assert_non_null(got);
        assert_int_equal(got->tenant[0], want[i]);
        if (want[i] == 'a') {
            assert_true(got - e > last_of_a);
            last_of_a = (int)(got - e);
        }
        queue_done(&q, got);
    }
    assert_null(queue_next(&q, NULL));
    assert_int_equal(q.tenants, 0);
}

static void a_tenant_at_its_cap_waits_while_others_start(void **state)
{
    queue_entry_t a[3], b = entry_of("b");
    queue_t q;

    queue_init(&q, 100, 0, 10);
    for (int i = 0; i < 3; i++) {
        a[i] = entry_of("a");
        a[i].running_cap = 1;
        push(&q, &a[i]);
    }
    push(&q, &b);
    assert_ptr_equal(queue_next(&q, NULL), &a[0]);
    assert_ptr_equal(queue_next(&q, NULL), &b);
    assert_null(queue_next(&q, NULL));
    queue_done(&q, &a[0]);
    assert_ptr_equal(queue_next(&q, NULL), &a[1]);
    assert_null(queue_next(&q, NULL));
    queue_done(&q, &a[1]);
    queue_remove(&q, &a[2]);
    queue_done(&q, &b);
    assert_int_equal(q.tenants, 0);
}

static void so_many_of_a_tenant_may_wait_beside_those_that_can_start(void **state)
{
    queue_entry_t a[5], b = entry_of("b");
    queue_t q;

    queue_init(&q, 100, 0, 10);
    for (int i = 0; i < 5; i++) {
        a[i] = entry_of("a");
        a[i].running_cap = 2;
        a[i].waiting_cap = 1 + 2; /* two may wait */
    }
    for (int i = 0; i < 4; i++)
        push(&q, &a[i]);
    assert_true(queue_tenant_full(&q, &a[4]));
    assert_false(queue_push(&q, &a[4], &a[4]));
    assert_ptr_equal(queue_next(&q, NULL), &a[0]);
    assert_ptr_equal(queue_next(&q, NULL), &a[1]);
    assert_true(queue_tenant_full(&q, &a[4])); /* two run, two wait */
    queue_done(&q, &a[0]);
    assert_false(queue_tenant_full(&q, &a[4]));
    push(&q, &a[4]);
    b.waiting_cap = 1; /* none may wait, but it can start */
    push(&q, &b);
    assert_int_equal(q.waiting, 4);
    leave(&q, a, 5);
    leave(&q, &b, 1);
    is_left_empty(&q);
}

static void one_tenant_does_not_fill_the_places_of_all(void **state)
{
    static queue_entry_t a[80], b[80];
    queue_t q;
    int n = 0;

    queue_init(&q, 64, 0, 2);
    for (int i = 0; i < 80; i++) {
        a[i] = entry_of("a");
        n += queue_push(&q, &a[i], &a[i]);
    }
    assert_int_equal(n, 64 + 2 - 64 / 8);
    n = 0;
    for (int i = 0; i < 80; i++) { /* each of another tenant */
        char name[24];

        snprintf(name, sizeof name, "tenant-%d", i);
        b[i] = entry_of(strdup(name));
        n += queue_push(&q, &b[i], &b[i]);
    }
    assert_int_equal(n, 64 / 8);
    assert_true(queue_full(&q, false));
    assert_int_equal(q.waiting, 66);
    for (int i = 0; i < 80; i++) {
        queue_remove(&q, &a[i]);
        queue_remove(&q, &b[i]);
        free((void *)(uintptr_t)b[i].tenant);
    }
    assert_int_equal(q.waiting, 0);
    assert_int_equal(q.tenants, 0);
}

static void one_that_is_returned_is_next_whoever_else_waits(void **state)
{
    queue_entry_t a = entry_of("a"), a2 = entry_of("a"), b = entry_of("b");
    queue_t q;

    queue_init(&q, 10, 0, 1);
    push(&q, &a);
    push(&q, &a2);
    push(&q, &b);
    assert_ptr_equal(queue_next(&q, NULL), &a);
    queue_return(&q, &a);
    assert_int_equal(q.running, 0);
    assert_ptr_equal(queue_next(&q, NULL), &a);
    queue_done(&q, &a);
    assert_ptr_equal(queue_next(&q, NULL), &b);
    leave(&q, &a2, 1);
    leave(&q, &b, 1);
    is_left_empty(&q);
}

static void turns_go_round_in_the_background_too_and_it_has_its_share(void **state)
{
    static const char *const names[] = {"a", "a", "a", "a", "a", "a", "b", "b"};
    queue_entry_t fore[8], back[8], *got;
    int turn_of_background = 0, seen = 0;
    char order[9] = "";
    queue_t q;

    queue_init(&q, 100, 100, 1);
    for (int i = 0; i < 8; i++) {
        fore[i] = entry_of("f");
        back[i] = entry_of(names[i]);
        back[i].background = true;
        push(&q, &fore[i]);
        push(&q, &back[i]);
    }
    for (int i = 0; i < 16; i++) {
        got = queue_next(&q, NULL);
        assert_non_null(got);
        if (got->background) {
            order[seen++] = got->tenant[0];
            turn_of_background = turn_of_background != 0 ? turn_of_background : i + 1;
        }
        queue_done(&q, got);
    }
    assert_int_equal(turn_of_background, QUEUE_SHARE);
    assert_string_equal(order, "ababaaaa");
    assert_int_equal(q.tenants, 0);
}

static void one_that_was_accepted_is_never_refused(void **state)
{
    queue_entry_t e[3];
    queue_t q;

    queue_init(&q, 0, 1, 0);
    for (int i = 0; i < 3; i++) {
        e[i] = entry_of("a");
        e[i].background = true;
        e[i].waiting_cap = 1;
        queue_restore(&q, &e[i], &e[i]);
    }
    assert_int_equal(q.background, 3);
    for (int i = 0; i < 3; i++)
        queue_remove(&q, &e[i]);
    assert_int_equal(q.tenants, 0);
}

/* The same numbers each time: Numerical Recipes' generator, its upper bits. */
static unsigned next(void)
{
    static uint32_t state = 4711;

    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* Any order of calls leaves the counts right and every entry served or taken out once. */
static void the_counts_are_right_after_any_order_of_calls(void **state)
{
    enum { N = 60 };
    static const char *const names[] = {"a", "b", "c", "d", NULL};
    static queue_entry_t e[N];
    int where[N]; /* 0 out, 1 waits, 2 runs */
    queue_t q;

    queue_init(&q, 12, 8, 5);
    memset(where, 0, sizeof where);
    for (int step = 0; step < 20000; step++) {
        unsigned i = next() % N;
        size_t waiting = 0, running = 0;
        queue_entry_t *got;

        if (where[i] == 0) {
            e[i] = entry_of(names[i % 5]);
            e[i].background = i % 3 == 0;
            where[i] = queue_push(&q, &e[i], &e[i]);
        } else if (where[i] == 1 && next() % 4 == 0) {
            queue_remove(&q, &e[i]);
            where[i] = 0;
        } else if (where[i] == 2) {
            if (next() % 4 == 0)
                queue_return(&q, &e[i]);
            else
                queue_done(&q, &e[i]);
            where[i] = e[i].prev != NULL ? 1 : 0;
        }
        if (next() % 2 == 0 && (got = queue_next(&q, NULL)) != NULL) {
            assert_int_equal(where[got - e], 1);
            where[got - e] = 2;
        }
        for (int k = 0; k < N; k++) {
            waiting += where[k] == 1;
            running += where[k] == 2;
        }
        assert_int_equal(q.waiting + q.background, waiting);
        assert_int_equal(q.running, running);
        assert_true(q.tenants <= 5);
    }
    for (int i = 0; i < N; i++) {
        queue_remove(&q, &e[i]);
        if (where[i] == 2)
            queue_done(&q, &e[i]);
    }
    assert_int_equal(q.tenants, 0);
    assert_null(q.turn[0]);
    assert_null(q.turn[1]);
}

static void the_queue_is_first_come_first_served_and_bounded(void **state)
{
    queue_t q;
    queue_entry_t e[6] = {0};
    int owners[6];

    queue_init(&q, 2, 0, 3);
    for (int i = 0; i < 5; i++)
        assert_true(queue_push(&q, &e[i], &owners[i]));
    assert_false(queue_push(&q, &e[5], &owners[5]));
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(queue_next(&q, NULL), &owners[i]);
    assert_null(queue_next(&q, NULL)); /* no place free */
    queue_remove(&q, &e[3]);
    queue_remove(&q, &e[3]); /* idempotent */
    queue_done(&q, &e[0]);
    assert_ptr_equal(queue_next(&q, NULL), &owners[4]);
    assert_int_equal(q.running, 3);
    assert_int_equal(q.waiting, 0);
    leave(&q, e, 6);
    is_left_empty(&q);
}

static void one_that_could_not_start_is_the_next_in_turn(void **state)
{
    queue_t q;
    queue_entry_t e[2] = {0};
    int owners[2];

    queue_init(&q, 4, 0, 1);
    assert_true(queue_push(&q, &e[0], &owners[0]));
    assert_true(queue_push(&q, &e[1], &owners[1]));
    assert_ptr_equal(queue_next(&q, NULL), &owners[0]);
    queue_return(&q, &e[0]);
    assert_ptr_equal(queue_next(&q, NULL), &owners[0]);
    leave(&q, e, 2);
    is_left_empty(&q);
}

static bool is_not_seven(const void *owner)
{
    return *(const int *)owner != 7;
}

static void one_that_cannot_start_lets_others_pass_and_keeps_its_turn(void **state)
{
    queue_t q;
    queue_entry_t e[2] = {0};
    int owners[2] = {7, 8};

    queue_init(&q, 4, 0, 2);
    assert_true(queue_push(&q, &e[0], &owners[0]));
    assert_true(queue_push(&q, &e[1], &owners[1]));
    assert_ptr_equal(queue_next(&q, is_not_seven), &owners[1]);
    assert_null(queue_next(&q, is_not_seven));
    assert_ptr_equal(queue_next(&q, NULL), &owners[0]);
    leave(&q, e, 2);
    is_left_empty(&q);
}

static void the_background_has_its_own_bound_and_every_fourth_turn(void **state)
{
    queue_t q;
    queue_entry_t front[8] = {0}, back[4] = {0};
    int f[8], b[4];
    const int *want[] = {&f[0], &f[1], &f[2], &b[0], &f[3], &f[4],
                         &f[5], &b[1], &f[6], &f[7], &b[2]};

    queue_init(&q, 10, 2, 0); /* nothing runs yet; the last place is for another tenant */
    for (int i = 0; i < 4; i++)
        back[i].background = true;
    assert_true(queue_push(&q, &back[0], &b[0]));
    assert_true(queue_push(&q, &back[1], &b[1]));
    assert_false(queue_push(&q, &back[2], &b[2])); /* full ... */
    assert_true(queue_full(&q, true));
    queue_restore(&q, &back[2], &b[2]); /* ... but not for one that was accepted before */
    for (int i = 0; i < 8; i++)
        assert_true(queue_push(&q, &front[i], &f[i]));
    assert_int_equal(q.waiting, 8);
    assert_int_equal(q.background, 3);
    q.max_running = 100;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_ptr_equal(queue_next(&q, NULL), want[i]);
    assert_null(queue_next(&q, NULL));
    assert_int_equal(q.waiting + q.background, 0);
    leave(&q, front, 8);
    leave(&q, back, 4);
    is_left_empty(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_jobs_of_one_do_not_keep_the_one_of_another_waiting),
        cmocka_unit_test(turns_go_round_and_are_first_come_first_served_within_a_tenant),
        cmocka_unit_test(a_tenant_at_its_cap_waits_while_others_start),
        cmocka_unit_test(so_many_of_a_tenant_may_wait_beside_those_that_can_start),
        cmocka_unit_test(one_tenant_does_not_fill_the_places_of_all),
        cmocka_unit_test(one_that_is_returned_is_next_whoever_else_waits),
        cmocka_unit_test(turns_go_round_in_the_background_too_and_it_has_its_share),
        cmocka_unit_test(one_that_was_accepted_is_never_refused),
        cmocka_unit_test(the_queue_is_first_come_first_served_and_bounded),
        cmocka_unit_test(one_that_could_not_start_is_the_next_in_turn),
        cmocka_unit_test(one_that_cannot_start_lets_others_pass_and_keeps_its_turn),
        cmocka_unit_test(the_background_has_its_own_bound_and_every_fourth_turn),
        cmocka_unit_test(the_counts_are_right_after_any_order_of_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
