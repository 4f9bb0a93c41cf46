/* random: ACCESSES accesses at random places of a table, as random.dasm does them. */

#include "timing.h"

#ifndef BITS
#define BITS 23
#endif
#ifndef ACCESSES
#define ACCESSES 4000000
#endif
#ifndef UPDATES
#define UPDATES 0
#endif

ARRAY uint64_t table[UINT64_C(1) << BITS];
static uint64_t sum;

CALLED void kernel(void)
{
    uint64_t state = 1, total = sum;
    for (int64_t access = 0; access < ACCESSES; access++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
#if UPDATES
        table[state >> (64 - BITS)] ^= state;
#else
        total += table[state >> (64 - BITS)];
#endif
    }
    sum = total;
}

int main(void)
{
    for (uint64_t i = 0; i < UINT64_C(1) << BITS; i++)
        table[i] = i * UINT64_C(0x9E3779B97F4A7C15);
    for (int repeat = 0; repeat < REPEATS; repeat++)
        timed(kernel);
    print_checksum(UPDATES ? checksum_words(sum, table, sizeof table) : sum);
    return 0;
}
