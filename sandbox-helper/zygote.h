/*
 * zygote.h - a Python interpreter that has started, in the root of its runtime, and makes
 * sandboxes by forking itself.
 *
 * A sandbox-stage that is told to be one (stage_config_t.zygote) enters the template as any other,
 * then executes the runtime's interpreter with zygote_start().  That interpreter loads
 * sandbox-zygote.so, which imports the operator's modules and from then on does what the stage did:
 * it is a nursery (nursery.h) whose children run the very same steps (sandbox.c).  Their pid 2
 * holds a warm interpreter and becomes the script without execve(2).
 *
 * A zygote never runs a byte of a skill.  Its environment is what every run's begins with, its
 * descriptors are those below, and of the helper's configuration it knows what a run of its runtime
 * is made of: all that a run, which is a copy of it, may find in its memory.
 */
#ifndef SB_ZYGOTE_H
#define SB_ZYGOTE_H

#include "sandbox.h"

#define ZYGOTE_PROGRAM "sandbox-zygote.so"

/*
 * What the interpreter starts with.  0: an empty regular file; 1 and 2: a pipe, so that the
 * streams it makes of them are of the kind a run's are; SB_STAGE_FD: main.
 */
enum {
    ZYGOTE_FD_PROGRAM = SB_STAGE_FD + 1, /* sandbox-zygote.so, in memory */
    ZYGOTE_FD_BOOT,                      /* zygote_boot_t, then the second filter's code */
    ZYGOTE_FD_AFTER
};

typedef struct {
    uint32_t magic;
    int32_t landlock_abi;
    uint32_t missing; /* for the hello */
    uint32_t no_proc;
    uint32_t second_len;   /* of the filter, in instructions */
    stage_config_t config; /* scrubbed */
} zygote_boot_t;

/* Opens the program, from outside the template.  0, or -1 with errno. */
int zygote_open(const stage_config_t *config);

/* In the template, without capabilities: becomes the interpreter.  Returns -1 with errno. */
int zygote_start(const stage_t *stage, const stage_hello_t *hello);

#endif
