// Ranks books for one reader: java ... RankBooks [HOST:PORT]; README.md says how to compile it.

import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import ranker.v1.Context;
import ranker.v1.Matrix;
import ranker.v1.RankRequest;
import ranker.v1.RankResponse;
import ranker.v1.RankingServiceGrpc;

public final class RankBooks {
  private static final List<String> FEATURES =
      List.of("genre_affinity", "recency_days", "completion_rate");
  private static final List<String> TITLES =
      List.of("The Salt Orchard", "Letters from Pine Station", "Moss Country", "The Copper Roads");
  // The features of each title for this reader; NaN is missing.
  private static final float[][] BOOKS = {
    {0.48f, 35, 0.71f}, {0.32f, 412, Float.NaN}, {Float.NaN, 3, 0.64f}, {0.05f, 1200, 0.52f}
  };

  public static void main(String[] arguments) throws InterruptedException {
    String target = arguments.length > 0 ? arguments[0] : "localhost:50051";
    ManagedChannel channel =
        ManagedChannelBuilder.forTarget(target)
            .usePlaintext()
            .defaultLoadBalancingPolicy("round_robin")
            .build();
    RankRequest request =
        RankRequest.newBuilder()
            .setCandidates(matrix(BOOKS))
            .addAllFeatureNames(FEATURES)
            .setContext(
                Context.newBuilder()
                    .addFeatureNames("reader_age_days")
                    .addValues(812)
                    .addFeatureNames("hour_of_day")
                    .addValues(20))
            .addAllCandidateIds(TITLES)
            .setTopK(3)
            .build();
    try {
      RankResponse ranking =
          RankingServiceGrpc.newBlockingStub(channel)
              .withDeadlineAfter(2, TimeUnit.SECONDS)
              .rank(request);
      for (int place = 0; place < ranking.getScoresCount(); place++) {
        System.out.printf(
            Locale.ROOT,
            "%8.4f  %s%n",
            ranking.getScores(place),
            ranking.getCandidateIds(place));
      }
    } catch (StatusRuntimeException error) {
      // No ranking in time: the order of retrieval is better than an empty page.
      System.err.println("not ranked: " + error.getStatus());
      TITLES.forEach(System.out::println);
    } finally {
      channel.shutdownNow().awaitTermination(1, TimeUnit.SECONDS);
    }
  }

  /** Rows of float32, little-endian, one after the other. */
  private static Matrix matrix(float[][] rows) {
    int columns = rows[0].length;
    ByteBuffer data =
        ByteBuffer.allocate(rows.length * columns * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    for (float[] row : rows) {
      for (float value : row) {
        data.putFloat(value);
      }
    }
    return Matrix.newBuilder()
        .setRows(rows.length)
        .setColumns(columns)
        .setData(ByteString.copyFrom(data.flip()))
        .build();
  }

  private RankBooks() {}
}
