# The ranking log as a table: `ranker log convert`, then `bq load`; docs/quality.md has both.
resource "google_bigquery_dataset" "rankings" {
  # checkov:skip=CKV_GCP_81:Encrypted with Google's keys
  dataset_id  = "ranker"
  description = "What the ranking server was asked and has answered."
  location    = var.region
  labels      = local.labels
  depends_on  = [google_project_service.used]
}

resource "google_bigquery_table" "rankings" {
  # checkov:skip=CKV_GCP_80:Encrypted with Google's keys
  dataset_id          = google_bigquery_dataset.rankings.dataset_id
  table_id            = "rankings"
  deletion_protection = true
  clustering          = ["request_id"]
  labels              = local.labels

  time_partitioning {
    type          = "DAY"
    field         = "time"
    expiration_ms = var.rankings_days * 24 * 60 * 60 * 1000
  }
  schema = jsonencode([
    { name = "request_id", type = "STRING" },
    { name = "unit", type = "STRING" },
    { name = "time", type = "TIMESTAMP" },
    { name = "model", type = "STRING" },
    { name = "version", type = "STRING" },
    { name = "model_sha256", type = "STRING" },
    { name = "arm", type = "STRING" },
    { name = "trace_id", type = "STRING" },
    { name = "sample_rate", type = "FLOAT" },
    { name = "index", type = "INTEGER" },
    { name = "candidate_id", type = "STRING" },
    { name = "position", type = "INTEGER" },
    { name = "score", type = "FLOAT" },
  ])
  lifecycle {
    # Loads add a column for each feature.
    ignore_changes = [schema]
  }
}
