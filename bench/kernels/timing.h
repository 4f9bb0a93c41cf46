/* What all kernels share; timing.dasm is the same for DISA, and says what is printed. */

#ifndef TIMING_H
#define TIMING_H

#define _POSIX_C_SOURCE 200112L
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#ifndef REPEATS
#define REPEATS 5
#endif

/* CLOCK_PROCESS_CPUTIME_ID is for a machine that others use. */
#ifndef CLOCK
#define CLOCK CLOCK_MONOTONIC
#endif

/* Arrays begin on a page of their own, as DISA's do. */
#define ARRAY static __attribute__((aligned(4096)))

/* A function that is called, and not made part of its caller. */
#define CALLED static __attribute__((noinline))

static int64_t time_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* The first `bytes` at `data`, a multiple of eight, as words: of doubles the bits. */
static inline uint64_t checksum_words(uint64_t checksum, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (const unsigned char *end = at + bytes; at < end; at += 8) {
        uint64_t word;
        __builtin_memcpy(&word, at, 8);
        checksum = checksum * UINT64_C(0x9E3779B97F4A7C15) + word;
    }
    return checksum;
}

static void timed(void (*kernel)(void))
{
    int64_t began = time_ns();
    kernel();
    printf("time %" PRId64 "\n", time_ns() - began);
}

static void print_checksum(uint64_t checksum)
{
    printf("checksum %" PRId64 "\n", (int64_t)checksum);
}

#endif
