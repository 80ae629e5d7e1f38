/*
 * samples.c - see samples.h.
 */
#include "samples.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void sleep_until(int64_t when_ns)
{
    struct timespec t = {.tv_sec = when_ns / 1000000000, .tv_nsec = when_ns % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

bool samples_add(samples_t *s, int64_t ns)
{
    if (s->count == s->room) {
        size_t room = s->room == 0 ? 1024 : s->room * 2;
        uint32_t *us = room > SAMPLES_MAX ? NULL : realloc(s->us, room * sizeof(*us));

        if (us == NULL)
            return false;
        s->us = us;
        s->room = room;
    }
    s->us[s->count++] = (uint32_t)(ns / 1000);
    return true;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

void samples_print(FILE *out, const char *prefix, samples_t *s, bool all)
{
    static const int percent[] = {25, 50, 75, 95, 99};

    if (s->count == 0)
        return;
    qsort(s->us, s->count, sizeof(*s->us), by_value);
    for (size_t i = 0; i < sizeof(percent) / sizeof(percent[0]); i++)
        fprintf(out, ",\"%sp%d_us\":%u", prefix, percent[i],
                s->us[s->count * (size_t)percent[i] / 100]);
    fprintf(out, ",\"%smax_us\":%u", prefix, s->us[s->count - 1]);
    if (!all)
        return;
    fprintf(out, ",\"%sus\":[", prefix);
    for (size_t i = 0; i < s->count; i++)
        fprintf(out, i == 0 ? "%u" : ",%u", s->us[i]);
    fputc(']', out);
}

void samples_free(samples_t *s)
{
    free(s->us);
    *s = (samples_t){0};
}

long argument(const char *name, const char *text, long min, long max)
{
    char *end = NULL;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < min || value > max) {
        fprintf(stderr, "%s: \"%s\" is no whole number from %ld to %ld\n", name, text, min, max);
        exit(2);
    }
    return value;
}
