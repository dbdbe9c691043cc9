// Ranks books for one reader: npm install && node rank.js [HOST:PORT]
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const PROTOS = path.join(__dirname, "../../protos");
const FEATURES = ["genre_affinity", "recency_days", "completion_rate"];
const BOOKS = {
  // As retrieval found them: title, and its features for this reader; NaN is missing.
  "The Salt Orchard": [0.48, 35, 0.71],
  "Letters from Pine Station": [0.32, 412, NaN],
  "Moss Country": [NaN, 3, 0.64],
  "The Copper Roads": [0.05, 1200, 0.52],
};

const definition = protoLoader.loadSync("ranker/v1/ranking.proto", {
  includeDirs: [PROTOS],
  keepCase: true,
});
const { RankingService } = grpc.loadPackageDefinition(definition).ranker.v1;

// The service config: spread calls over all addresses, retry what is safe to retry.
const client = new RankingService(
  process.argv[2] ?? "localhost:50051",
  grpc.credentials.createInsecure(),
  {
    "grpc.service_config": JSON.stringify({
      loadBalancingConfig: [{ round_robin: {} }],
      methodConfig: [
        {
          name: [{ service: "ranker.v1.RankingService", method: "Rank" }],
          retryPolicy: {
            maxAttempts: 3,
            initialBackoff: "0.02s",
            maxBackoff: "0.2s",
            backoffMultiplier: 2,
            retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
          },
        },
      ],
    }),
  },
);

// Row by row. Float32Array has the machine's own byte order, which is little-endian wherever
// Node runs today but on s390x.
const rows = Object.values(BOOKS);
const data = Buffer.from(Float32Array.from(rows.flat()).buffer);

client.Rank(
  {
    candidates: { rows: rows.length, columns: FEATURES.length, data },
    feature_names: FEATURES,
    context: { feature_names: ["reader_age_days", "hour_of_day"], values: [812, 20] },
    candidate_ids: Object.keys(BOOKS),
    top_k: 3,
  },
  { deadline: Date.now() + 1000 },
  (error, ranking) => {
    if (error) {
      // No ranking in time: the order of retrieval is better than an empty page.
      console.error(`not ranked: ${error.message}`);
      console.log(Object.keys(BOOKS).join("\n"));
    } else {
      ranking.candidate_ids.forEach((title, place) => {
        console.log(`${ranking.scores[place].toFixed(4).padStart(8)}  ${title}`);
      });
    }
    client.close();
  },
);
