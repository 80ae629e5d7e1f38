/*
 * fault.h - the places where a test may stop one of our programs, to see what is
 * left when it, or another of them, dies just there.
 *
 * In every build that is installed the macro is nothing.  The test build
 * (tests/fault/faults.mk, SB_FAULTS) has the points of tests/fault/fault_points.c.
 * A test walks all of them; a new step of a run's set-up or end deserves one.
 */
#ifndef SB_FAULT_H
#define SB_FAULT_H

#ifdef SB_FAULTS
/* Returns at once, but for the one point that a test has armed: there it waits for the test. */
void sb_fault_point(const char *name);
#define SB_FAULT_POINT(name) sb_fault_point(name)
#else
#define SB_FAULT_POINT(name) ((void)0)
#endif

#endif
