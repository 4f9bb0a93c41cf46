/* matmul: c = a b by the plain triple loop, in the two orders of matmul.dasm. */

#include "timing.h"

#ifndef N
#define N 512
#endif
#ifndef ORDER
#define ORDER 0
#endif

ARRAY double a[N][N];
ARRAY double b[N][N];
ARRAY double c[N][N];

#if ORDER == 0
CALLED void kernel(void)
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < N; k++)
                sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
    }
}
#else
CALLED void kernel(void)
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++)
            c[i][j] = 0;
        for (int k = 0; k < N; k++) {
            for (int j = 0; j < N; j++)
                c[i][j] += a[i][k] * b[k][j];
        }
    }
}
#endif

static uint64_t state = 1;

static void fill(double *matrix)
{
    for (int64_t i = 0; i < N * N; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        matrix[i] = (double)((int64_t)state >> 33) * 0x1p-30;
    }
}

int main(void)
{
    fill(&a[0][0]);
    fill(&b[0][0]);
    for (int repeat = 0; repeat < REPEATS; repeat++)
        timed(kernel);
    print_checksum(checksum_words(0, c, sizeof c));
    return 0;
}
