/* fib: the INDEX-th Fibonacci number by recursion, as fib.dasm has it. */

#include "timing.h"

#ifndef INDEX
#define INDEX 32
#endif

static int64_t result;
static volatile int64_t argument = INDEX;

CALLED int64_t fib(int64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

CALLED void kernel(void)
{
    result = fib(argument);
}

int main(void)
{
    for (int repeat = 0; repeat < REPEATS; repeat++)
        timed(kernel);
    print_checksum((uint64_t)result);
    return 0;
}
