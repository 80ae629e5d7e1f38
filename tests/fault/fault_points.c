/*
 * fault_points.c - the points of fault.h, in test builds of sandbox-helper's programs.
 *
 * The file "faults" beside the program is mapped, shared, before main(); the mapping
 * goes with fork(2) and survives pivot_root(2), so a point works in a sandbox, too,
 * until the script is executed.  A test (fault_points.py) reads the names of the
 * points that were passed, or arms one: whoever passes it next waits there until
 * the test lets go.  One shot: the second to come passes.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../../sandbox-helper/fault.h"

enum { NAME = 96, NAMES = 8192, PATIENCE_S = 60 };
enum { IDLE, RECORD, ARMED, HELD };

/* As fault_points.py has it. */
typedef struct {
    _Atomic uint32_t state;
    _Atomic uint32_t count; /* names recorded */
    char armed[NAME];
    char names[NAMES][NAME];
} board_t;

static board_t *board;
static char program[32];

static void __attribute__((constructor)) open_board(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof "faults");
    char *slash;
    int fd;

    if (n <= 0)
        return;
    path[n] = '\0';
    slash = strrchr(path, '/') + 1;
    snprintf(program, sizeof program, "%s", slash);
    strcpy(slash, "faults");
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (board == MAP_FAILED)
        board = NULL;
}

static int64_t seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

/* A filter may refuse the nap: then this spins, for the moment that the test takes. */
static void wait_for_test(void)
{
    const struct timespec nap = {.tv_nsec = 200000};
    int64_t end = seconds() + PATIENCE_S;

    while (atomic_load(&board->state) == HELD && seconds() < end)
        nanosleep(&nap, NULL);
}

static void record(const char *full)
{
    uint32_t i = atomic_fetch_add(&board->count, 1);

    if (i < NAMES)
        snprintf(board->names[i], NAME, "%s", full);
}

void sb_fault_point(const char *name)
{
    char full[NAME];
    uint32_t state = board != NULL ? atomic_load(&board->state) : IDLE;

    if (state != RECORD && state != ARMED)
        return;
    snprintf(full, sizeof full, "%s: %s", program, name);
    if (state == RECORD) {
        record(full);
        return;
    }
    if (strncmp(full, board->armed, NAME) != 0 ||
        !atomic_compare_exchange_strong(&board->state, &state, HELD))
        return;
    wait_for_test();
}
