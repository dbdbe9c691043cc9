output "images" {
  description = "REGISTRY of deploy/README.md."
  value       = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "models" {
  description = "Where models are published, and what `source` in ranker.yaml begins with."
  value       = "gs://${google_storage_bucket.models.name}/rankers"
}

output "rankings" {
  description = "For --log-rankings."
  value       = "gs://${google_storage_bucket.rankings.name}/rankings"
}

output "table" {
  description = "What the ranking log is loaded into."
  value       = "${google_bigquery_dataset.rankings.dataset_id}.${google_bigquery_table.rankings.table_id}"
}

output "credentials" {
  description = "The command by which kubectl reaches the new cluster; empty for an existing one."
  value       = var.make_cluster ? "gcloud container clusters get-credentials ranker --project ${var.project} --location ${var.region}" : ""
}
