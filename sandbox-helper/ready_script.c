/*
 * ready_script.c - node_ready.cjs as a string; see ready.h.  The Makefile knows that it depends on
 * it.
 */
#include "ready.h"

__asm__(".pushsection .rodata\n"
        ".globl ready_node_script\n"
        ".type ready_node_script, %object\n"
        "ready_node_script:\n"
        ".incbin \"sandbox-helper/node_ready.cjs\"\n"
        ".byte 0\n"
        ".size ready_node_script, . - ready_node_script\n"
        ".popsection\n");
