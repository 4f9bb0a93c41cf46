/* primes: counts the primes below LIMIT by trial division, as primes.dasm does. */

#include "timing.h"

#ifndef LIMIT
#define LIMIT 500000
#endif

static int64_t count;

CALLED void kernel(void)
{
    int64_t found = 0;
    for (int64_t candidate = 2; candidate < LIMIT; candidate++) {
        int is_prime = 1;
        for (int64_t divisor = 2; divisor * divisor <= candidate; divisor++) {
            if (candidate % divisor == 0) {
                is_prime = 0;
                break;
            }
        }
        found += is_prime;
    }
    count = found;
}

int main(void)
{
    for (int repeat = 0; repeat < REPEATS; repeat++)
        timed(kernel);
    print_checksum((uint64_t)count);
    return 0;
}
