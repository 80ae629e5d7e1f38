/*
 * zygote_end.c - see zygote_end.h.  In the order of Py_FinalizeEx(), which it leaves the work to
 * whenever something of the script's may still run.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03080000
#include <Python.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "zygote_end.h"

#define STATUS_FLUSH 120 /* python3's, when a stream can't be flushed */

/* ---- the script's outcome ---- */

/* None: 0, a number: it, anything else is printed: 1. */
static int exit_status(PyObject *value)
{
    PyObject *code = value == NULL ? NULL : PyObject_GetAttrString(value, "code");
    PyObject *out = PySys_GetObject("stderr");
    int status = 1;

    if (code == NULL) {
        PyErr_Clear();
        code = value == NULL ? Py_None : value;
        Py_INCREF(code);
    }
    if (code == Py_None) {
        status = 0;
    } else if (PyLong_Check(code)) {
        status = (int)PyLong_AsLong(code);
    } else {
        if (out != NULL && out != Py_None)
            (void)PyFile_WriteObject(code, out, 1 /* Py_PRINT_RAW */);
        PySys_WriteStderr("\n");
    }
    PyErr_Clear();
    Py_DECREF(code);
    return status;
}

outcome_t zygote_outcome(PyObject *result)
{
    outcome_t outcome = {0};
    PyObject *type, *value, *trace;

    if (result != NULL) {
        Py_DECREF(result);
        return outcome;
    }
    if (!PyErr_ExceptionMatches(PyExc_SystemExit)) {
        outcome.status = 1;
        outcome.interrupted = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
        PyErr_Print();
        return outcome;
    }
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    outcome.exited = true;
    outcome.status = exit_status(value);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return outcome;
}

/* ---- the end ---- */

/* module.method(), when there is such a module; what it raises is printed, and that is all. */
static void call(const char *module, const char *method)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *m = PyDict_GetItemString(modules, module);
    PyObject *result;

    if (m == NULL || m == Py_None)
        return;
    Py_INCREF(m);
    result = PyObject_CallMethod(m, method, NULL);
    if (result == NULL)
        PyErr_WriteUnraisable(m);
    Py_XDECREF(result);
    Py_DECREF(m);
}

static bool closed(PyObject *stream)
{
    PyObject *word = PyObject_GetAttrString(stream, "closed");
    bool is = word != NULL && PyObject_IsTrue(word) == 1;

    Py_XDECREF(word);
    PyErr_Clear();
    return is;
}

static bool flush_stream(const char *name, bool tell)
{
    PyObject *stream = PySys_GetObject(name);
    PyObject *result;

    if (stream == NULL || stream == Py_None || closed(stream))
        return true;
    result = PyObject_CallMethod(stream, "flush", NULL);
    if (result == NULL && tell)
        PyErr_WriteUnraisable(stream);
    PyErr_Clear();
    Py_XDECREF(result);
    return result != NULL;
}

static bool flush(void)
{
    bool out = flush_stream("stdout", true);

    return flush_stream("stderr", false) && out;
}

static long number(PyObject *value)
{
    long n = value == NULL ? -1 : PyLong_AsLong(value);

    Py_XDECREF(value);
    PyErr_Clear();
    return n;
}

/* Daemon threads: only the interpreter can stop them. */
static bool threads_left(void)
{
    PyObject *thread = PyImport_ImportModule("_thread");
    long n = thread == NULL ? -1 : number(PyObject_CallMethod(thread, "_count", NULL));

    Py_XDECREF(thread);
    return n != 0;
}

static bool call_boot(PyObject *functions, const char *name)
{
    PyObject *result = PyObject_CallFunction(PyDict_GetItemString(functions, name), NULL);
    bool word = result != NULL && PyObject_IsTrue(result) == 1;

    if (result == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(result);
    return word;
}

static void __attribute__((noreturn)) leave(int status, bool interrupted, bool handlers)
{
    if (interrupted) {
        (void)signal(SIGINT, SIG_DFL);
        (void)kill(getpid(), SIGINT);
    }
    if (handlers)
        exit(status);
    (void)fflush(NULL);
    _exit(status);
}

bool zygote_wind_up(PyObject *functions, int *status, bool *handlers)
{
    call("threading", "_shutdown");
    call("atexit", "_run_exitfuncs");
    if (!flush())
        *status = STATUS_FLUSH;
    if (threads_left())
        return false;
    /* machine code that the script has loaded may want to be told of the end */
    *handlers = call_boot(functions, "needs_exit_handlers");
    (void)call_boot(functions, "take_apart");
    (void)flush_stream("stdout", false); /* what finalizers have printed; python3 asks no more */
    (void)flush_stream("stderr", false);
    return true;
}

void zygote_end(const outcome_t *outcome, PyObject *functions)
{
    int status = outcome->status;
    bool handlers = true;

    if (!zygote_wind_up(functions, &status, &handlers) && Py_FinalizeEx() < 0)
        status = STATUS_FLUSH;
    leave(status, outcome->interrupted, handlers);
}
