/*
 * remedy.h - what an operator can do when this host refuses a step of a sandbox's
 * set-up: the sentence in the log, in --check and in /ready.
 */
#ifndef SB_REMEDY_H
#define SB_REMEDY_H

/*
 * step and errnum as stage_hello_t has them: the name of the step of sandbox-stage or
 * sandbox-packer that failed, and its errno.  A static string, never NULL; "" when there is
 * nothing to advise.
 */
const char *remedy_for(const char *step, int errnum);

#endif
