/* The k-means job's work in C with MPI: each rank has its share of the points.
 *
 *     mpiexec -n RANKS kmeans_mpi POINTS.npy ITERATIONS
 *
 * With -DBLOCKED it takes blocks of points as the job does, in two loops; the result is the same.
 * The file has N x DIMS doubles in C order; the first K points are the first centroids. Sums and
 * counts of all ranks are added once an iteration. Rank 0 prints one line of JSON: the seconds of
 * the slowest rank, reading not included, of the work and of the same once more, and the centroids.
 */

#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DIMS
#define DIMS 4
#endif
#ifndef K
#define K 10
#endif

static void fail(const char *what)
{
    fprintf(stderr, "kmeans_mpi: %s\n", what);
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1);
}

/* The bytes of a .npy file's header, as its first ten bytes tell. */
static long header_bytes(FILE *file)
{
    unsigned char start[10];
    if (fread(start, 1, sizeof start, file) != sizeof start || memcmp(start, "\x93NUMPY\x01", 7))
        fail("no .npy file of version 1");
    return 10 + start[8] + 256L * start[9];
}

static void read_at(FILE *file, long offset, void *target, size_t bytes)
{
    if (fseek(file, offset, SEEK_SET) || fread(target, 1, bytes, file) != bytes)
        fail("the file is too short");
}

static inline double squared_distance(const double *restrict x, const double *restrict c)
{
    double distance = (x[0] - c[0]) * (x[0] - c[0]);
    for (int d = 1; d < DIMS; d++)
        distance += (x[d] - c[d]) * (x[d] - c[d]);
    return distance;
}

#ifdef BLOCKED
#define BLOCK 512

/* Writes the number of each point's nearest centroid; without a jump that depends on the points. */
static void find_nearest(const double (*restrict points)[DIMS], long count,
                         const double (*restrict centroids)[DIMS], int64_t *restrict found)
{
    for (long i = 0; i < count; i++) {
        double least = squared_distance(points[i], centroids[0]);
        int64_t nearest = 0;
        for (int64_t k = 1; k < K; k++) {
            double distance = squared_distance(points[i], centroids[k]);
            int is_nearer = distance < least;
            nearest = is_nearer ? k : nearest;
            least = is_nearer ? distance : least;
        }
        found[i] = nearest;
    }
}

/* As below, a block of points at a time, as the job does it; the order of sums is the same. */
static void add_up(const double (*restrict points)[DIMS], long count,
                   const double (*restrict centroids)[DIMS], double (*restrict sums)[DIMS + 1])
{
    int64_t found[BLOCK];
    for (long first = 0; first < count; first += BLOCK) {
        long some = count - first < BLOCK ? count - first : BLOCK;
        find_nearest(points + first, some, centroids, found);
        for (long i = 0; i < some; i++) {
            for (int d = 0; d < DIMS; d++)
                sums[found[i]][d] += points[first + i][d];
            sums[found[i]][DIMS] += 1;
        }
    }
}
#else
/* Adds each point to the sums of its nearest centroid; behind the coordinates is the number. */
static void add_up(const double (*restrict points)[DIMS], long count,
                   const double (*restrict centroids)[DIMS], double (*restrict sums)[DIMS + 1])
{
    for (long i = 0; i < count; i++) {
        double least = squared_distance(points[i], centroids[0]);
        int nearest = 0;
        for (int k = 1; k < K; k++) {
            double distance = squared_distance(points[i], centroids[k]);
            if (distance < least) {
                least = distance;
                nearest = k;
            }
        }
        for (int d = 0; d < DIMS; d++)
            sums[nearest][d] += points[i][d];
        sums[nearest][DIMS] += 1;
    }
}
#endif

/* Returns the seconds of the slowest rank. */
static double kmeans(const double (*points)[DIMS], long count, int iterations,
                     double (*centroids)[DIMS])
{
    MPI_Barrier(MPI_COMM_WORLD);
    double began = MPI_Wtime();
    for (int iteration = 0; iteration < iterations; iteration++) {
        double sums[K][DIMS + 1] = {{0}};
        add_up(points, count, (const double(*)[DIMS])centroids, sums);
        MPI_Allreduce(MPI_IN_PLACE, sums, K * (DIMS + 1), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        for (int k = 0; k < K; k++) {
            for (int d = 0; d < DIMS && sums[k][DIMS] > 0; d++)
                centroids[k][d] = sums[k][d] / sums[k][DIMS];
        }
    }
    double seconds = MPI_Wtime() - began, slowest = 0;
    MPI_Reduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    return slowest;
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (argc != 3)
        fail("usage: kmeans_mpi POINTS.npy ITERATIONS");
    int iterations = atoi(argv[2]);
    FILE *file = fopen(argv[1], "rb");
    if (!file)
        fail("the file cannot be opened");
    long header = header_bytes(file), row = DIMS * (long)sizeof(double);
    fseek(file, 0, SEEK_END);
    long all = (ftell(file) - header) / row;
    long first = all * rank / ranks, count = all * (rank + 1) / ranks - first;
    double(*points)[DIMS] = malloc((size_t)(count * row));
    if (!points)
        fail("not enough memory");
    double start[K][DIMS], centroids[K][DIMS];
    read_at(file, header + first * row, points, (size_t)(count * row));
    read_at(file, header, start, sizeof start);
    fclose(file);

    memcpy(centroids, start, sizeof centroids);
    double work = kmeans((const double(*)[DIMS])points, count, iterations, centroids);
    memcpy(centroids, start, sizeof centroids);
    double again = kmeans((const double(*)[DIMS])points, count, iterations, centroids);
    if (rank == 0) {
        printf("{\"work_s\": %.9f, \"again_s\": %.9f, \"centroids\": [", work, again);
        for (int k = 0; k < K; k++) {
            for (int d = 0; d < DIMS; d++)
                printf("%s%.17g", d ? ", " : k ? "], [" : "[", centroids[k][d]);
        }
        printf("]]}\n");
    }
    free(points);
    MPI_Finalize();
    return 0;
}
