/*
 * cmocka_all.h - cmocka.h with the headers it wants before it, and the few
 * assertions that most tests of libskillbox use.
 */
#ifndef SB_CMOCKA_ALL_H
#define SB_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A call that must succeed; shows its message when it does not. */
#define assert_ok(call, err)                                                                       \
    do {                                                                                           \
        if ((call) != SB_OK)                                                                       \
            fail_msg("%s: %s", #call, (err)->message);                                             \
    } while (0)

#endif
