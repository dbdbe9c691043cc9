# The new cluster's network. Nodes have no public address and no way to the internet: images come from
# Artifact Registry, and Google's APIs are reached on private.googleapis.com's addresses, the only ones
# that the network policy of the component gcp-export lets through.

locals {
  made = var.make_cluster ? 1 : 0
}

resource "google_compute_network" "ranker" {
  # checkov:skip=CKV2_GCP_18:Nothing may come in but what GKE's own rules let in
  count                   = local.made
  name                    = "ranker"
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "ranker" {
  count                    = local.made
  name                     = "ranker"
  network                  = google_compute_network.ranker[0].id
  region                   = var.region
  ip_cidr_range            = "10.0.0.0/20"
  private_ip_google_access = true

  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = "10.4.0.0/14"
  }
  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = "10.1.0.0/20"
  }
  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

# https://cloud.google.com/vpc/docs/configure-private-google-access#domain-options
resource "google_dns_managed_zone" "google" {
  for_each   = var.make_cluster ? toset(["googleapis.com.", "pkg.dev."]) : toset([])
  name       = replace(trimsuffix(each.key, "."), ".", "-")
  dns_name   = each.key
  visibility = "private"

  private_visibility_config {
    networks {
      network_url = google_compute_network.ranker[0].id
    }
  }
  depends_on = [google_project_service.used]
}

resource "google_dns_record_set" "addresses" {
  for_each     = google_dns_managed_zone.google
  managed_zone = each.value.name
  name         = each.key == "googleapis.com." ? "private.googleapis.com." : each.key
  type         = "A"
  ttl          = 300
  rrdatas      = [for last in range(8, 12) : "199.36.153.${last}"]
}

resource "google_dns_record_set" "names" {
  for_each     = google_dns_managed_zone.google
  managed_zone = each.value.name
  name         = "*.${each.key}"
  type         = "CNAME"
  ttl          = 300
  rrdatas      = [google_dns_record_set.addresses[each.key].name]
}
