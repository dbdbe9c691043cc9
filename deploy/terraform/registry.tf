locals {
  labels = { app = "ranker" }
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84:Encrypted with Google's keys
  repository_id = "ranker"
  description   = "Images of the ranking server, and of models on top of it."
  format        = "DOCKER"
  location      = var.region
  labels        = local.labels

  docker_config {
    # What a tag names stays what was tested.
    immutable_tags = true
  }
  depends_on = [google_project_service.used]
}
