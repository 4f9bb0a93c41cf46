import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.api.java.JavaSparkContext;

/**
 * The k-means job's work on Spark: an RDD of two partitions, each one array of doubles, cached as it is.
 *
 * <p>Arguments: the .npy file, clusters, dimensions, iterations. The first points are the first
 * centroids. Prints one line of JSON: the seconds of the work, of the same once more, the centroids.
 */
public final class KmeansSpark {
    private static final int PARTITIONS = 2;

    private static long headerBytes(RandomAccessFile file) throws IOException {
        file.seek(8);
        return 10 + file.read() + 256L * file.read();
    }

    private static double[] read(String path, int dimensions, int part, int parts) throws IOException {
        try (RandomAccessFile file = new RandomAccessFile(path, "r")) {
            long header = headerBytes(file);
            long row = 8L * dimensions;
            long count = (file.length() - header) / row;
            long first = count * part / parts;
            long bytes = (count * (part + 1) / parts - first) * row;
            ByteBuffer content =
                    file.getChannel().map(FileChannel.MapMode.READ_ONLY, header + first * row, bytes);
            double[] numbers = new double[(int) (bytes / 8)];
            content.order(ByteOrder.LITTLE_ENDIAN).asDoubleBuffer().get(numbers);
            return numbers;
        }
    }

    /** Sums of the coordinates of each centroid's points, and behind them their number. */
    private static double[] addedUp(double[] points, double[] centroids, int dimensions) {
        int clusters = centroids.length / dimensions;
        double[] sums = new double[clusters * (dimensions + 1)];
        for (int at = 0; at < points.length; at += dimensions) {
            double least = Double.POSITIVE_INFINITY;
            int nearest = 0;
            for (int k = 0; k < clusters; k++) {
                double distance = 0;
                for (int d = 0; d < dimensions; d++) {
                    double offset = points[at + d] - centroids[k * dimensions + d];
                    distance += offset * offset;
                }
                if (distance < least) {
                    least = distance;
                    nearest = k;
                }
            }
            int cluster = nearest * (dimensions + 1);
            for (int d = 0; d < dimensions; d++) {
                sums[cluster + d] += points[at + d];
            }
            sums[cluster + dimensions] += 1;
        }
        return sums;
    }

    private static double[] sum(double[] left, double[] right) {
        double[] result = new double[left.length];
        for (int i = 0; i < left.length; i++) {
            result[i] = left[i] + right[i];
        }
        return result;
    }

    private static double[] work(JavaRDD<double[]> points, double[] first, int dimensions, int iterations) {
        double[] centroids = first.clone();
        for (int iteration = 0; iteration < iterations; iteration++) {
            double[] tried = centroids.clone();
            double[] sums = points.map(part -> addedUp(part, tried, dimensions)).reduce(KmeansSpark::sum);
            for (int at = 0; at < centroids.length; at++) {
                int cluster = at / dimensions * (dimensions + 1);
                if (sums[cluster + dimensions] > 0) {
                    centroids[at] = sums[cluster + at % dimensions] / sums[cluster + dimensions];
                }
            }
        }
        return centroids;
    }

    public static void main(String[] arguments) throws IOException {
        String path = arguments[0];
        int clusters = Integer.parseInt(arguments[1]);
        int dimensions = Integer.parseInt(arguments[2]);
        int iterations = Integer.parseInt(arguments[3]);
        SparkConf settings = new SparkConf().setAppName("kmeans").set("spark.ui.enabled", "false");
        try (JavaSparkContext spark = new JavaSparkContext(settings)) {
            spark.setLogLevel("ERROR");
            List<Integer> parts = new ArrayList<>();
            for (int part = 0; part < PARTITIONS; part++) {
                parts.add(part);
            }
            JavaRDD<double[]> points =
                    spark.parallelize(parts, PARTITIONS)
                            .mapPartitions(
                                    (Iterator<Integer> numbers) ->
                                            List.of(read(path, dimensions, numbers.next(), PARTITIONS))
                                                    .iterator())
                            .cache();
            points.count();
            double[] all = read(path, dimensions, 0, 1);
            double[] first = Arrays.copyOf(all, clusters * dimensions);
            double[] seconds = new double[2];
            double[] centroids = first;
            for (int run = 0; run < seconds.length; run++) {
                long began = System.nanoTime();
                centroids = work(points, first, dimensions, iterations);
                seconds[run] = (System.nanoTime() - began) * 1e-9;
            }
            StringBuilder rows = new StringBuilder();
            for (int k = 0; k < clusters; k++) {
                rows.append(k == 0 ? "" : ", ")
                        .append(Arrays.toString(Arrays.copyOfRange(
                                centroids, k * dimensions, (k + 1) * dimensions)));
            }
            System.out.println(
                    "{\"work_s\": " + seconds[0] + ", \"again_s\": " + seconds[1] + ", \"centroids\": ["
                            + rows + "]}");
        }
    }
}
