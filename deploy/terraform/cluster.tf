resource "google_container_cluster" "ranker" {
  # checkov:skip=CKV_GCP_12:Autopilot has Dataplane V2, which enforces network policies
  # checkov:skip=CKV_GCP_61:Autopilot has it on; the subnetwork logs flows
  # checkov:skip=CKV_GCP_65:Who may use the cluster is its owner's to say
  # checkov:skip=CKV_GCP_66:There is no attestor here; the registry's tags are immutable
  # checkov:skip=CKV_GCP_69:Autopilot has no other
  count               = local.made
  name                = "ranker"
  location            = var.region
  enable_autopilot    = true
  deletion_protection = true
  network             = google_compute_network.ranker[0].id
  subnetwork          = google_compute_subnetwork.ranker[0].id
  resource_labels     = local.labels

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }
  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = false
  }
  master_authorized_networks_config {
    dynamic "cidr_blocks" {
      for_each = var.operators
      content {
        display_name = cidr_blocks.key
        cidr_block   = cidr_blocks.value
      }
    }
  }
  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }
  release_channel {
    channel = "REGULAR"
  }
  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }
  cluster_autoscaling {
    auto_provisioning_defaults {
      service_account = google_service_account.nodes[0].email
      oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    }
  }
  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS"]
    managed_prometheus {
      enabled = true
    }
  }
  depends_on = [google_project_service.used]
}
