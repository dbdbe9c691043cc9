# Who may do what. The server is its Kubernetes ServiceAccount, by Workload Identity Federation: it has no
# service account of Google's, and nobody has a key.
# https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity

locals {
  pool   = "projects/${data.google_project.this.number}/locations/global/workloadIdentityPools/${var.project}.svc.id.goog"
  server = "principal://iam.googleapis.com/${local.pool}/subject/ns/${var.namespace}/sa/${var.service_account}"
}

resource "google_storage_bucket_iam_member" "server_reads_models" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = local.server
}

resource "google_storage_bucket_iam_member" "server_adds_rankings" {
  bucket = google_storage_bucket.rankings.name
  role   = "roles/storage.objectCreator"
  member = local.server
}

resource "google_project_iam_member" "server_writes_metrics" {
  count   = var.writes_metrics ? 1 : 0
  project = var.project
  role    = "roles/monitoring.metricWriter"
  member  = local.server
}

resource "google_artifact_registry_repository_iam_member" "publishers_push_images" {
  for_each   = var.publishers
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = each.key
}

resource "google_storage_bucket_iam_member" "publishers_read_models" {
  for_each = var.publishers
  bucket   = google_storage_bucket.models.name
  role     = "roles/storage.objectViewer"
  member   = each.key
}

resource "google_storage_bucket_iam_member" "publishers_add_models" {
  for_each = var.publishers
  bucket   = google_storage_bucket.models.name
  role     = "roles/storage.objectCreator"
  member   = each.key
}

resource "google_storage_bucket_iam_member" "loaders_read_rankings" {
  for_each = var.loaders
  bucket   = google_storage_bucket.rankings.name
  role     = "roles/storage.objectViewer"
  member   = each.key
}

resource "google_bigquery_dataset_iam_member" "loaders_write_rankings" {
  for_each   = var.loaders
  dataset_id = google_bigquery_dataset.rankings.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = each.key
}

resource "google_project_iam_member" "loaders_run_jobs" {
  for_each = var.loaders
  project  = var.project
  role     = "roles/bigquery.jobUser"
  member   = each.key
}

# The new cluster's nodes, in place of the project's default account, which may do much more.
resource "google_service_account" "nodes" {
  count        = local.made
  account_id   = "ranker-nodes"
  display_name = "Nodes of the ranker's cluster"
}

resource "google_project_iam_member" "nodes" {
  count   = local.made
  project = var.project
  role    = "roles/container.defaultNodeServiceAccount"
  member  = google_service_account.nodes[0].member
}

resource "google_artifact_registry_repository_iam_member" "nodes_pull_images" {
  count      = local.made
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.nodes[0].member
}
