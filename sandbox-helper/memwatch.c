/*
 * memwatch.c - see memwatch.h.  Runs in pid 1 of a run.  What it reads is written by the
 * kernel; the processes it reads about are the script's, which come and go, refuse to be
 * looked at and share memory in every way there is.
 */
#include "memwatch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../libskillbox/limits.h"

#define LOOK_MS     100
#define LOOK_MAX_MS 1000
#define LOOK_SHARE  20 /* of the time, so small a part goes into looks */
#define PROCESSES   32768
#define TEXT_MAX    8192

typedef struct {
    int pid, parent;
    bool hidden;      /* it does not let us look closely */
    bool borrowed;    /* its memory has been taken for its parent's */
    unsigned waiting; /* threads inside a vfork(2) */
    uint64_t bytes;
} process_t;

static process_t processes[PROCESSES];
static char text[TEXT_MAX];

static int64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ---- files of a process, into `text` ---- */

/* task: a thread, or 0.  False: it is gone, or does not let us; errno says which. */
static bool read_text(int proc, int pid, int task, const char *name)
{
    char path[64];
    int fd;
    ssize_t n;

    if (task == 0)
        snprintf(path, sizeof(path), "%d/%s", pid, name);
    else
        snprintf(path, sizeof(path), "%d/task/%d/%s", pid, task, name);
    fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n < 0 ? 0 : n] = '\0';
    return n > 0;
}

/* The number behind a key at the start of a line; 0 when there is none. */
static uint64_t number_of(const char *key)
{
    size_t len = strlen(key);

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) == 0)
            return strtoull(line + len, NULL, 10);
    }
    return 0;
}

/* ---- its threads ---- */

static DIR *open_folder(int proc, const char *path)
{
    int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (dir == NULL && fd >= 0)
        close(fd);
    return dir;
}

static DIR *open_threads(int proc, int pid)
{
    char path[32];

    snprintf(path, sizeof(path), "%d/task", pid);
    return open_folder(proc, path);
}

/* The next number of such a folder; 0 at its end. */
static int next_number(DIR *dir)
{
    const struct dirent *entry;

    while ((entry = readdir(dir)) != NULL) {
        int number = atoi(entry->d_name);

        if (number > 0)
            return number;
    }
    return 0;
}

/* A process whose first thread has ended shows its memory by the others only. */
static int living_thread(int proc, int pid)
{
    DIR *dir = open_threads(proc, pid);
    int task, found = 0;

    for (int n = 0; dir != NULL && found == 0 && n < PROCESSES && (task = next_number(dir)) != 0;
         n++)
        if (read_text(proc, pid, task, "status") && number_of("VmSize:") > 0)
            found = task;
    if (dir != NULL)
        closedir(dir);
    return found;
}

/*
 * vfork(2), or a clone(2) that is one: its caller waits while the child has its memory.
 * Where Yama lets nobody ask, every uninterruptible wait counts as one.
 */
static bool in_vfork(int proc, int pid, int task)
{
    const unsigned long kind = CLONE_VM | CLONE_VFORK | CLONE_THREAD;
    const char *state;
    unsigned long flags;
    char *end;
    long nr;

    if (read_text(proc, pid, task, "syscall")) {
        nr = strtol(text, &end, 10);
        flags = strtoul(end, NULL, 16);
#ifdef SYS_vfork
        if (end != text && nr == SYS_vfork)
            return true;
#endif
        return end != text && nr == SYS_clone && (flags & kind) == (CLONE_VM | CLONE_VFORK);
    }
    if (!read_text(proc, pid, task, "stat"))
        return false;
    state = strrchr(text, ')'); /* the name before it may hold anything else */
    return state != NULL && strncmp(state, ") D", 3) == 0;
}

static unsigned count_vforks(int proc, int pid)
{
    DIR *dir = open_threads(proc, pid);
    unsigned count = 0;
    int task;

    for (int n = 0; dir != NULL && n < PROCESSES && (task = next_number(dir)) != 0; n++)
        count += in_vfork(proc, pid, task);
    if (dir != NULL)
        closedir(dir);
    return count;
}

/* ---- its memory ---- */

/* What it holds, shared pages in full. */
static void read_status(int proc, process_t *p, int *task)
{
    *task = 0;
    p->bytes = 0;
    if (!read_text(proc, p->pid, 0, "status"))
        return;
    p->parent = (int)number_of("PPid:");
    if (number_of("VmSize:") == 0 && number_of("Threads:") > 1) {
        *task = living_thread(proc, p->pid);
        if (*task == 0)
            return;
    }
    p->bytes = SB_KIB * (number_of("RssAnon:") + number_of("RssShmem:") + number_of("VmSwap:") +
                         number_of("VmPTE:"));
}

/* The same with each shared page divided by how many share it; who hides is counted in full. */
static void read_exactly(int proc, process_t *p)
{
    uint64_t tables;
    int task;

    read_status(proc, p, &task);
    if (p->bytes == 0)
        return;
    tables = SB_KIB * number_of("VmPTE:");
    if (read_text(proc, p->pid, task, "smaps_rollup"))
        p->bytes = tables + SB_KIB * (number_of("Pss_Anon:") + number_of("Pss_Shmem:") +
                                      number_of("SwapPss:"));
    else
        p->hidden = true;
}

/* ---- all processes but pid 1 ---- */

static size_t list(int proc)
{
    DIR *dir = open_folder(proc, ".");
    size_t n = 0;
    int pid;

    while (dir != NULL && n < PROCESSES && (pid = next_number(dir)) != 0)
        if (pid > 1)
            processes[n++] = (process_t){.pid = pid};
    if (dir != NULL)
        closedir(dir);
    return n;
}

static uint64_t quick_sum(int proc)
{
    size_t n = list(proc);
    uint64_t sum = 0;
    int task;

    for (size_t i = 0; i < n; i++) {
        read_status(proc, &processes[i], &task);
        sum += processes[i].bytes;
    }
    return sum;
}

static process_t *largest_child(size_t n, int parent)
{
    process_t *found = NULL;

    for (size_t i = 0; i < n; i++) {
        process_t *p = &processes[i];

        if (p->parent == parent && !p->borrowed && (found == NULL || p->bytes > found->bytes))
            found = p;
    }
    return found;
}

/* What children in a vfork(2) only have from their parent. */
static uint64_t borrowed(size_t n, const process_t *parent)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < parent->waiting; i++) {
        process_t *child = largest_child(n, parent->pid);

        if (child == NULL)
            break;
        child->borrowed = true;
        sum += child->bytes < parent->bytes ? child->bytes : parent->bytes;
    }
    return sum;
}

/*
 * A child of vfork(2) has its parent's memory, which must not count twice.  In this order:
 * who is seen not to wait has no such child any more among those that were listed before
 * and are read later.
 */
static uint64_t exact_sum(int proc)
{
    size_t n = list(proc);
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        processes[i].waiting = count_vforks(proc, processes[i].pid);
    for (size_t i = 0; i < n; i++) {
        read_exactly(proc, &processes[i]);
        sum += processes[i].bytes;
    }
    for (size_t i = 0; i < n; i++)
        if (processes[i].waiting > 0 && !processes[i].hidden)
            sum -= borrowed(n, &processes[i]);
    return sum;
}

/* ---- the watch ---- */

void memwatch_start(memwatch_t *w, uint64_t limit)
{
    w->limit = limit;
    w->proc = openat(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    w->due_us = now_us() + LOOK_MS * 1000;
}

int memwatch_timeout(const memwatch_t *w)
{
    int64_t left = w->due_us - now_us();

    if (w->proc < 0)
        return -1;
    return left <= 0 ? 0 : (int)(left / 1000 + 1);
}

bool memwatch_over(memwatch_t *w)
{
    int64_t begun = now_us(), pause;
    bool over;

    if (w->proc < 0 || begun < w->due_us)
        return false;
    over = quick_sum(w->proc) > w->limit && exact_sum(w->proc) > w->limit &&
           exact_sum(w->proc) > w->limit;
    pause = (now_us() - begun) * LOOK_SHARE;
    if (pause < LOOK_MS * 1000)
        pause = LOOK_MS * 1000;
    if (pause > LOOK_MAX_MS * 1000)
        pause = LOOK_MAX_MS * 1000;
    w->due_us = now_us() + pause;
    return over;
}
