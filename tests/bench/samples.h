/*
 * samples.h - latencies of a measurement and what is said of them: the JSON
 * members that all tools here print the same way, and the clock they use.
 *
 * One thread a set, or the caller's lock.  Whole microseconds, rounded down.
 */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SAMPLES_MAX 4000000 /* 16 MB; more make samples_add() fail */

typedef struct {
    uint32_t *us;
    size_t count, room;
} samples_t;

/* CLOCK_MONOTONIC. */
int64_t now_ns(void);
/* Sleeps until then; returns at once when that is past. */
void sleep_until(int64_t when_ns);

/* False: no memory, or SAMPLES_MAX are there. */
bool samples_add(samples_t *s, int64_t ns);
/* Sorts them, and prints `"<prefix>p50_us":..` and p25, p75, p95, p99 and max, comma-separated;
 * with `all` also "<prefix>us", an array of every one of them.  Nothing when there is none. */
void samples_print(FILE *out, const char *prefix, samples_t *s, bool all);
void samples_free(samples_t *s);

/* A whole number from min to max; says what is wrong with it on stderr and exits with 2. */
long argument(const char *name, const char *text, long min, long max);

#endif
