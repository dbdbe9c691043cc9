# NAME/VERSION/model.onnx and manifest.json under rankers/, by `ranker publish`.
resource "google_storage_bucket" "models" {
  # checkov:skip=CKV_GCP_62:Cloud Audit Logs say who reads, if they are on
  name                        = "${var.project}-ranker-models"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = local.labels

  versioning {
    enabled = true
  }
  lifecycle_rule {
    condition {
      num_newer_versions = 3
      with_state         = "ARCHIVED"
    }
    action {
      type = "Delete"
    }
  }
  depends_on = [google_project_service.used]
}

# The ranking log, for `--log-rankings gs://BUCKET/rankings`.
resource "google_storage_bucket" "rankings" {
  # checkov:skip=CKV_GCP_62:Cloud Audit Logs say who reads, if they are on
  # checkov:skip=CKV_GCP_78:What is deleted has to be gone: it is about readers
  name                        = "${var.project}-ranker-rankings"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = local.labels

  lifecycle_rule {
    condition {
      age = var.rankings_days
    }
    action {
      type = "Delete"
    }
  }
  # Nor kept for a week after that, as is the default.
  soft_delete_policy {
    retention_duration_seconds = 0
  }
  depends_on = [google_project_service.used]
}
