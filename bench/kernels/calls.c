/* calls: calls a small function COUNT times, as calls.dasm does. */

#include "timing.h"

#ifndef COUNT
#define COUNT 10000000
#endif

static uint64_t total;

CALLED uint64_t mix(uint64_t x, uint64_t y)
{
    return (x * 3) ^ (y + (x >> 7));
}

CALLED void kernel(void)
{
    uint64_t value = 0;
    for (int64_t number = 0; number < COUNT; number++)
        value = mix(value, (uint64_t)number);
    total = value;
}

int main(void)
{
    for (int repeat = 0; repeat < REPEATS; repeat++)
        timed(kernel);
    print_checksum(total);
    return 0;
}
