/* kmeans: the inner loop of k-means, as kmeans.dasm has it. */

#include "timing.h"

#ifndef N
#define N 200000
#endif
#ifndef DIMS
#define DIMS 4
#endif
#ifndef K
#define K 10
#endif

ARRAY double points[N][DIMS];
ARRAY double centroids[K][DIMS];
ARRAY double sums[K][DIMS + 1];

static inline double squared_distance(const double *x, const double *c)
{
    double distance = (x[0] - c[0]) * (x[0] - c[0]);
    for (int d = 1; d < DIMS; d++)
        distance += (x[d] - c[d]) * (x[d] - c[d]);
    return distance;
}

CALLED void kernel(void)
{
    double centroid[K][DIMS], total[K][DIMS + 1] = {{0}};
    __builtin_memcpy(centroid, centroids, sizeof centroid);
    for (int64_t i = 0; i < N; i++) {
        double least = squared_distance(points[i], centroid[0]);
        int nearest = 0;
        for (int k = 1; k < K; k++) {
            double distance = squared_distance(points[i], centroid[k]);
            if (distance < least) {
                least = distance;
                nearest = k;
            }
        }
        for (int d = 0; d < DIMS; d++)
            total[nearest][d] += points[i][d];
        total[nearest][DIMS] += 1;
    }
    __builtin_memcpy(sums, total, sizeof sums);
}

int main(void)
{
    uint64_t state = 1;
    for (int64_t i = 0; i < N * DIMS; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        (&points[0][0])[i] = (double)(state >> 33);
    }
    __builtin_memcpy(centroids, points, sizeof centroids);
    for (int repeat = 0; repeat < REPEATS; repeat++)
        timed(kernel);
    print_checksum(checksum_words(0, sums, sizeof sums));
    return 0;
}
