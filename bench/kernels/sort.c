/* sort: sorts N unsigned integers of 32 bits by their bytes, as sort.dasm does. */

#include "timing.h"

#ifndef N
#define N 1000000
#endif

ARRAY uint32_t input[N];
ARRAY uint32_t keys[N];
ARRAY uint32_t scratch[N];

static inline void pass(const uint32_t *restrict from, uint32_t *restrict to, int shift)
{
    uint64_t frequency[256] = {0};
    uint32_t *next[256];
    for (int64_t i = 0; i < N; i++)
        frequency[from[i] >> shift & 255]++;
    for (int digit = 0; digit < 256; digit++) {
        next[digit] = to;
        to += frequency[digit];
    }
    for (int64_t i = 0; i < N; i++)
        *next[from[i] >> shift & 255]++ = from[i];
}

CALLED void kernel(void)
{
    pass(keys, scratch, 0);
    pass(scratch, keys, 8);
    pass(keys, scratch, 16);
    pass(scratch, keys, 24);
}

int main(void)
{
    uint64_t state = 1;
    for (int64_t i = 0; i < N; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        input[i] = (uint32_t)(state >> 32);
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        __builtin_memcpy(keys, input, sizeof keys);
        timed(kernel);
    }
    print_checksum(checksum_words(0, keys, sizeof keys));
    return 0;
}
