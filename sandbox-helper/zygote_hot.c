/*
 * zygote_hot.c - see zygote_hot.h.  Runs in the interpreter that is a zygote, and in its children
 * before they have a run.
 */
#include "zygote_hot.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sys.h"

#define MAPS_MAX  1024 /* lines looked at */
#define AT_ONCE   512  /* pages of which the kernel is asked */
#define PRESENT   (1ull << 63)
#define EXCLUSIVE (1ull << 56) /* proc_pid_pagemap(5): mapped by this process alone */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

hot_t *hot_share(void)
{
    void *p = mmap(NULL, sizeof(hot_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

hot_t *hot_keep(hot_t *shared)
{
    const size_t size = offsetof(hot_t, ranges) + shared->count * sizeof(*shared->ranges);
    hot_t *own = shared->count > 0 ? malloc(size) : NULL;

    if (own != NULL)
        memcpy(own, shared, size);
    (void)munmap(shared, sizeof(*shared));
    return own;
}

static void note_page(hot_t *hot, uintptr_t at, size_t page)
{
    hot_range_t *last = hot->count > 0 ? &hot->ranges[hot->count - 1] : NULL;

    if (last == NULL || last->start + last->len != at) {
        if (hot->count == HOT_RANGES_MAX)
            return;
        last = &hot->ranges[hot->count++];
        *last = (hot_range_t){.start = at};
    }
    last->len += page;
    hot->pages++;
}

static int note_mapping(hot_t *hot, int pagemap, uintptr_t start, uintptr_t end)
{
    static uint64_t entries[AT_ONCE];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    while (start < end) {
        size_t n = (end - start) / page < AT_ONCE ? (end - start) / page : AT_ONCE;

        if (sys_pread_all(pagemap, entries, n * sizeof(*entries),
                          (off_t)(start / page * sizeof(*entries))) != 0)
            return -1;
        for (size_t i = 0; i < n; i++)
            if ((entries[i] & PRESENT) != 0 && (entries[i] & EXCLUSIVE) != 0)
                note_page(hot, start + i * page, page);
        start += n * page;
    }
    return 0;
}

/* Private and writable: what a write makes a copy of. */
static bool copied_on_write(const char *line, uintptr_t *start, uintptr_t *end)
{
    char flags[5];

    return sscanf(line, "%lx-%lx %4s", start, end, flags) == 3 && flags[1] == 'w' &&
           flags[3] == 'p';
}

int hot_note(hot_t *hot)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int rc = maps == NULL || pagemap < 0 ? -1 : 0;
    uintptr_t start, end;
    char line[512];

    for (int i = 0; rc == 0 && i < MAPS_MAX && fgets(line, sizeof(line), maps) != NULL; i++)
        if (copied_on_write(line, &start, &end))
            rc = note_mapping(hot, pagemap, start, end);
    if (rc != 0)
        hot->count = 0;
    if (maps != NULL)
        fclose(maps);
    if (pagemap >= 0)
        close(pagemap);
    return rc;
}

bool hot_touch(const hot_t *hot)
{
    for (size_t i = 0; hot != NULL && i < hot->count; i++) {
        const hot_range_t *r = &hot->ranges[i];

        /* one that is not there in this child is no loss: its page is made when it is needed */
        if (madvise((void *)r->start, r->len, MADV_POPULATE_WRITE) != 0 && i == 0) /* NOLINT */
            return false;
    }
    return hot != NULL && hot->count > 0;
}
