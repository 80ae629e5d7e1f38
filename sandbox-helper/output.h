/*
 * output.h - a run's output: /sandbox/out/output.json, or, when there is none,
 * the last line of stdout if it is a JSON object (SkillLite dialect).
 */
#ifndef SB_OUTPUT_H
#define SB_OUTPUT_H

#include "../libskillbox/buf.h"

typedef enum {
    OUTPUT_NONE, /* there is none, which is fine */
    OUTPUT_JSON, /* json holds it, compact */
    OUTPUT_BAD,  /* error says what is wrong with it */
} output_state_t;

typedef struct {
    output_state_t state;
    sb_buf_t json;
    char error[256];
} output_t;

/*
 * outfd: the /sandbox/out folder.  tailfd: memfd with the last bytes of stdout,
 * or -1.  o->json is to be freed with sb_buf_free().
 */
void output_read(int outfd, int tailfd, output_t *o);

#endif
