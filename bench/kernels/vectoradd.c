/* vectoradd: c = a + b for vectors of N doubles, PASSES times, as vectoradd.dasm does. */

#include "timing.h"

#ifndef N
#define N 65536
#endif
#ifndef PASSES
#define PASSES 200
#endif

ARRAY double a[N];
ARRAY double b[N];
ARRAY double c[N];

CALLED void kernel(void)
{
    for (int pass = 0; pass < PASSES; pass++) {
        for (int64_t i = 0; i < N; i++)
            c[i] = a[i] + b[i];
        /* Every pass is to be done: what it stored may be looked at. */
        __asm__ volatile("" ::: "memory");
    }
}

int main(void)
{
    for (int64_t i = 0; i < N; i++) {
        a[i] = (double)i;
        b[i] = __builtin_sqrt((double)i);
    }
    for (int repeat = 0; repeat < REPEATS; repeat++)
        timed(kernel);
    print_checksum(checksum_words(0, c, sizeof c));
    return 0;
}
