/*
 * zygote_python.c - sandbox-zygote.so: the nursery inside an interpreter.  See zygote.h.
 *
 * Loaded by the runtime's own python3, of any version with the stable ABI, as its only extension
 * of ours; it is never in sys.modules.  The nursery runs in a thread of its own: what Python calls
 * from there has no frame below it, and the fork leaves only that thread, which the interpreter
 * then takes for its main one.  So a script finds itself at the bottom of the stack, as it does
 * when python3 is started for it.
 *
 * In pid 2 of a run `become` makes the interpreter one that was started for the script, runs it and
 * ends as python3 does (zygote_end.c).  Whatever it can't do faithfully it leaves to execve(2).
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03080000
#include <Python.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"
#include "nursery.h"
#include "privileges.h"
#include "report.h"
#include "sys.h"
#include "zygote.h"
#include "zygote_end.h"
#include "zygote_hot.h"

#define THREAD_STACK (8 << 20) /* a main thread's */

extern const char zygote_boot_py[];

typedef struct {
    stage_t stage;
    stage_hello_t hello;
    PyObject *functions; /* the namespace of zygote_boot.py */
    PyObject *preloaded; /* sorted names that must not be found beside a script */
    char *args;          /* where the kernel reads this process's command line */
    size_t args_len;
    hot_t *hot; /* NULL, or what each child has copied ahead */
} zygote_t;

static zygote_t zygote;

/* In the place of the C library's stdin for jansson, which never reads it here (Makefile). */
extern FILE *zygote_no_stdin;
FILE *zygote_no_stdin;

/* ---- small tools ---- */

static PyObject *function(const char *name)
{
    return PyDict_GetItemString(zygote.functions, name);
}

static const char *value_in(char *const env[], const char *name, size_t len)
{
    for (; *env != NULL; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

/* ---- can this interpreter be the one for that run? ---- */

/* Variables that python3, its C library or its modules look at before the script does. */
static bool read_at_start(const char *variable)
{
    static const char *const names[] = {"PYTHON", "LC_",     "LANG=",  "LANGUAGE=",      "TZ=",
                                        "LD_",    "MALLOC_", "GCONV_", "GLIBC_TUNABLES="};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool all_in(char *const env[], char *const other[], const char *but)
{
    for (; *env != NULL; env++) {
        const size_t len = strcspn(*env, "=");
        const char *value;

        if (!read_at_start(*env) || (but != NULL && strncmp(*env, but, strlen(but)) == 0))
            continue;
        value = value_in(other, *env, len);
        if (value == NULL || strcmp(value, *env + len + 1) != 0)
            return false;
    }
    return true;
}

/* *package: what PYTHONPATH has besides what the zygote's had, or NULL. */
static bool same_start(char *const env[], const char **package)
{
    const char *path = value_in(env, "PYTHONPATH", strlen("PYTHONPATH"));
    const char *own = value_in(environ, "PYTHONPATH", strlen("PYTHONPATH"));

    *package = path != NULL && own == NULL ? path : NULL;
    if (*package != NULL && strchr(*package, ':') != NULL)
        return false;
    return all_in(env, environ, *package != NULL ? "PYTHONPATH=" : NULL) &&
           all_in(environ, env, NULL);
}

static bool preloaded(const char *name)
{
    const size_t len = strcspn(name, ".");
    PyObject *key = PyUnicode_DecodeFSDefaultAndSize(name, (Py_ssize_t)len);
    bool found = key != NULL && PySet_Contains(zygote.preloaded, key) == 1;

    Py_XDECREF(key);
    PyErr_Clear();
    return found;
}

/* Would an import there find something else than what is imported already? */
static bool shadows(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *e;
    bool found = dir == NULL;

    for (int i = 0; !found && i < SB_PACKAGE_ENTRIES_MAX + 2 && (e = readdir(dir)) != NULL; i++)
        found = preloaded(e->d_name);
    if (dir != NULL)
        closedir(dir);
    return found;
}

static bool script_shadows(const char *script)
{
    char folder[SB_PATH_MAX + 64];
    const char *slash = strrchr(script, '/');
    struct stat st;

    /* python3 takes a link's target's folder, and runs folders and archives, too */
    if (slash == NULL || lstat(script, &st) != 0 || !S_ISREG(st.st_mode))
        return true;
    snprintf(folder, sizeof(folder), "%.*s", (int)(slash - script), script);
    return shadows(folder);
}

static bool suits(char *const argv[], char *const env[], uint32_t mode, const char **package)
{
    if (!same_start(env, package) || (*package != NULL && shadows(*package)))
        return false;
    return !(mode == STAGE_MODULE ? shadows(".") : script_shadows(argv[1]));
}

/* ---- becoming the script ---- */

static PyObject *list_of(char *const strings[], PyObject *(*make)(const char *))
{
    PyObject *list = PyList_New(0);

    for (; list != NULL && *strings != NULL; strings++) {
        PyObject *item = make(*strings);

        if (item == NULL || PyList_Append(list, item) != 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* What ps and /proc/self/cmdline show. */
static void set_command_line(char *const argv[])
{
    size_t used = 0;

    if (zygote.args == NULL)
        return;
    memset(zygote.args, 0, zygote.args_len);
    for (; *argv != NULL && used + 1 < zygote.args_len; argv++) {
        size_t room = zygote.args_len - used - 1, len = strlen(*argv);

        memcpy(zygote.args + used, *argv, len < room ? len : room);
        used += (len < room ? len : room) + 1;
    }
}

static int enter(char *const argv[], char *const env[], bool module, const char *package)
{
    PyObject *args = list_of(argv, PyUnicode_DecodeFSDefault);
    PyObject *variables = list_of(env, PyBytes_FromString);
    PyObject *done = NULL;

    if (args != NULL && variables != NULL)
        done =
            PyObject_CallFunction(function("enter"), "OOiz", args, variables, (int)module, package);
    Py_XDECREF(args);
    Py_XDECREF(variables);
    Py_XDECREF(done);
    environ = (char **)env;
    return done == NULL ? -1 : 0;
}

static outcome_t run_module(const char *name)
{
    PyObject *runpy = PyImport_ImportModule("runpy");
    PyObject *run = runpy == NULL ? NULL : PyObject_GetAttrString(runpy, "_run_module_as_main");
    PyObject *result = run == NULL ? NULL : PyObject_CallFunction(run, "si", name, 1);

    Py_XDECREF(run);
    Py_XDECREF(runpy);
    return zygote_outcome(result);
}

/* False: it does not compile, or can't be read: python3 itself has the words for that. */
static bool run_script(const char *path, outcome_t *outcome)
{
    PyObject *names = PyModule_GetDict(PyImport_AddModule("__main__"));
    PyObject *code = PyObject_CallFunction(function("load"), "s", path);

    if (code == NULL)
        return false;
    *outcome = zygote_outcome(PyEval_EvalCode(code, names, names));
    Py_DECREF(code);
    if (!outcome->exited && (PyDict_DelItemString(names, "__file__") != 0 ||
                             PyDict_DelItemString(names, "__cached__") != 0))
        PyErr_Clear();
    return true;
}

/* The interpreter ignores some signals, and an ignored one stays so in what is executed. */
static void default_signals(void)
{
    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            (void)signal(sig, SIG_DFL);
}

static void become(char *const argv[], char *const env[], uint32_t mode, void (*started)(void))
{
    const char *package;
    outcome_t outcome;
    bool ran = true;

    if (!suits(argv, env, mode, &package) || enter(argv, env, mode == STAGE_MODULE, package) != 0) {
        default_signals();
        return;
    }
    set_command_line(argv);
    started();
    (void)privileges_dumpable(true); /* as execve(2) would leave it */
    if (mode == STAGE_MODULE)
        outcome = run_module(argv[2]);
    else
        ran = run_script(argv[1], &outcome);
    if (ran)
        zygote_end(&outcome, zygote.functions);
    default_signals();
    execve(argv[0], argv, env);
    _exit(126);
}

static void warm_up(void)
{
    (void)hot_touch(zygote.hot); /* else the run itself has the faults */
}

static const script_form_t form = {
    .born = PyOS_AfterFork_Child, .warm_up = warm_up, .become = become};

/* ---- what a run will write to ---- */

/* A run of nothing, and of what scripts do most; in a child that nobody hears of. */
static void __attribute__((noreturn)) rehearse(hot_t *hot)
{
    static char script[] = "/dev/null";
    char *const argv[] = {
        (char *)zygote.stage.config.runtimes[zygote.stage.config.zygote - 1].interpreter, script,
        NULL};
    PyObject *result;
    outcome_t outcome;
    bool handlers;
    int status = 0;

    PyOS_AfterFork_Child();
    result = PyObject_CallFunction(function("warm_up"), NULL);
    if (result == NULL || enter(argv, environ, false, NULL) != 0 || !run_script(script, &outcome))
        _exit(1);
    Py_DECREF(result);
    if (!zygote_wind_up(zygote.functions, &status, &handlers) || privileges_dumpable(true) != 0)
        _exit(1);
    _exit(hot_note(hot) == 0 ? 0 : 1);
}

/* Without it (no /proc, an old kernel) runs only take longer. */
static void learn_hot_pages(void)
{
    hot_t *shared = hot_share();
    int wstatus = 1;
    pid_t pid;

    if (shared == NULL)
        return;
    PyOS_BeforeFork();
    pid = fork();
    if (pid == 0)
        rehearse(shared);
    PyOS_AfterFork_Parent();
    if (pid > 0 && (waitpid(pid, &wstatus, 0) != pid || wstatus != 0))
        shared->count = 0;
    zygote.hot = hot_keep(shared);
}

/* ---- the nursery ---- */

static uint64_t clone_flags(const stage_request_t *request)
{
    return sandbox_clone_flags();
}

static void __attribute__((noreturn))
child(const stage_request_t *request, const int *fds, int nfds)
{
    sandbox_run(&zygote.stage, request, fds, nfds);
}

static const nursery_ops_t ops = {
    .name = "sandbox-zygote",
    .clone_flags = clone_flags,
    .before_fork = PyOS_BeforeFork,
    .after_fork = PyOS_AfterFork_Parent,
    .child = child,
};

static void *serve(void *unused)
{
    (void)PyGILState_Ensure(); /* for ever: no other thread has any business here */
    learn_hot_pages();
    zygote.hello.ok = 1;
    _exit(nursery_serve(&ops, &zygote.hello));
}

static int start_thread(void)
{
    pthread_attr_t attr;
    pthread_t thread;

    return pthread_attr_init(&attr) != 0 || pthread_attr_setstacksize(&attr, THREAD_STACK) != 0 ||
                   pthread_create(&thread, &attr, serve, NULL) != 0
               ? -1
               : 0;
}

/* ---- start ---- */

static int read_filter(uint32_t len, off_t at)
{
    filter_t *filter = &zygote.stage.second;
    const size_t size = len * sizeof(*filter->code);

    if (len == 0 || len > FILTER_SECOND_MAX || (filter->code = malloc(size)) == NULL)
        return -1;
    filter->len = (unsigned short)len;
    return sys_pread_all(ZYGOTE_FD_BOOT, filter->code, size, at);
}

static int read_boot(void)
{
    static zygote_boot_t boot;

    if (sys_pread_all(ZYGOTE_FD_BOOT, &boot, sizeof(boot), 0) != 0 || boot.magic != STAGE_MAGIC)
        return -1;
    zygote.stage.config = boot.config;
    zygote.stage.landlock_abi = boot.landlock_abi;
    zygote.stage.no_proc = boot.no_proc != 0;
    zygote.stage.form = &form;
    zygote.hello = (stage_hello_t){
        .magic = STAGE_MAGIC, .missing = boot.missing, .landlock_abi = boot.landlock_abi};
    if (read_filter(boot.second_len, sizeof(boot)) != 0)
        return -1;
    memset(&boot, 0, sizeof(boot));
    close(ZYGOTE_FD_BOOT);
    close(ZYGOTE_FD_PROGRAM);
    return sandbox_prepare_rules(&zygote.stage);
}

/* Fields 48 and 49 of proc(5)'s stat; the name, field 2, may hold blanks. */
static void find_command_line(void)
{
    char text[1024];
    unsigned long start = 0, last = 0;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    char *p;

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return;
    text[n] = '\0';
    p = strrchr(text, ')');
    for (int field = 2; p != NULL && field < 48; field++)
        p = strchr(p + 1, ' ');
    if (p == NULL)
        return;
    start = strtoul(p, &p, 10);
    last = strtoul(p, NULL, 10);
    if (start == 0 || last <= start)
        return;
    zygote.args = (char *)start; /* NOLINT(performance-no-int-to-ptr): the kernel's word for it */
    zygote.args_len = last - start;
}

static int run_boot_script(void)
{
    PyObject *code = Py_CompileString(zygote_boot_py, "<zygote>", Py_file_input);
    PyObject *result;

    zygote.functions = PyDict_New();
    if (code == NULL || zygote.functions == NULL ||
        PyDict_SetItemString(zygote.functions, "__builtins__", PyEval_GetBuiltins()) != 0)
        return -1;
    result = PyEval_EvalCode(code, zygote.functions, zygote.functions);
    Py_DECREF(code);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* names: separated by blanks */
static int preload(const char *names)
{
    PyObject *text = PyUnicode_FromString(names);
    PyObject *list = text == NULL ? NULL : PyUnicode_Split(text, NULL, -1);
    PyObject *loaded =
        list == NULL ? NULL : PyObject_CallFunctionObjArgs(function("preload"), list, NULL);

    zygote.preloaded = loaded == NULL ? NULL : PyFrozenSet_New(loaded);
    Py_XDECREF(text);
    Py_XDECREF(list);
    Py_XDECREF(loaded);
    return zygote.preloaded == NULL ? -1 : 0;
}

/* Main logs the step: with it the exception. */
static const char *exception_text(char *out, size_t size)
{
    PyObject *type, *value, *trace, *text, *bytes;

    PyErr_Fetch(&type, &value, &trace);
    text = value == NULL ? NULL : PyObject_Str(value);
    bytes = text == NULL ? NULL : PyUnicode_AsUTF8String(text);
    snprintf(out, size, "modules: %s", bytes == NULL ? "?" : PyBytes_AsString(bytes));
    return out;
}

static void __attribute__((noreturn)) give_up(const char *step, int err)
{
    zygote.hello.magic = STAGE_MAGIC;
    zygote.hello.ok = 0;
    (void)report_hello(&zygote.hello, step, err);
    (void)sys_send_fds(SB_STAGE_FD, &zygote.hello, sizeof(zygote.hello), NULL, 0);
    _exit(1);
}

PyMODINIT_FUNC PyInit__skillbox_zygote(void);

PyMODINIT_FUNC PyInit__skillbox_zygote(void)
{
    char text[sizeof(zygote.hello.failed_step)];
    sigset_t set;

    if (privileges_dumpable(false) != 0 || read_boot() != 0)
        give_up("zygote boot", errno);
    if (run_boot_script() != 0 || preload(zygote.stage.config.zygote_modules) != 0)
        give_up(exception_text(text, sizeof(text)), ENOEXEC);
    find_command_line();
    /* in this thread, too: a signal that some thread would ignore is not kept for the other */
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        give_up("zygote signals", errno);
    (void)PyEval_SaveThread();
    if (start_thread() != 0)
        give_up("zygote thread", errno);
    for (;;)
        (void)pause();
}
