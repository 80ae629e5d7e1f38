/*
 * zygote_end.h - how a script's end becomes its process's end; in pid 2 of a run.
 */
#ifndef SB_ZYGOTE_END_H
#define SB_ZYGOTE_END_H

#include <Python.h>
#include <stdbool.h>

typedef struct {
    int status;
    bool exited;      /* by SystemExit */
    bool interrupted; /* KeyboardInterrupt: the process is to die by SIGINT */
} outcome_t;

/* Takes over the result of the script's code; NULL: prints the exception that is set, as python3
 * does. */
outcome_t zygote_outcome(PyObject *result);

/*
 * What the script has left running and open: threads, atexit, streams, its modules.  *status: the
 * process's, changed where it must be.  *handlers: exit(3)'s have to run.  False: there are
 * threads that only the interpreter itself can stop.
 */
bool zygote_wind_up(PyObject *functions, int *status, bool *handlers);

/* Threads, atexit, streams, the script's modules; then the process ends.  functions: the namespace
 * of zygote_boot.py. */
void zygote_end(const outcome_t *outcome, PyObject *functions) __attribute__((noreturn));

#endif
