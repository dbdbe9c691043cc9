variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "Where everything is."
  type        = string
  default     = "europe-west1"
}

variable "make_cluster" {
  description = "Whether to make an Autopilot cluster and a network for it; false: there is a GKE cluster in the project, with Workload Identity Federation and managed collection."
  type        = bool
  default     = true
}

variable "operators" {
  description = "Networks in CIDR notation, by a name each, that may reach the new cluster's API server."
  type        = map(string)
  default     = {}
}

variable "namespace" {
  description = "Namespace that the manifests are applied to."
  type        = string
  default     = "ranker"
}

variable "service_account" {
  description = "The server's Kubernetes ServiceAccount, as deploy/kubernetes names it."
  type        = string
  default     = "ranker"
}

variable "writes_metrics" {
  description = "Whether the server writes metrics to Cloud Monitoring by itself: the component gcp-export."
  type        = bool
  default     = false
}

variable "publishers" {
  description = "IAM members that push images and publish versions of models; none of them can write over one."
  type        = set(string)
  default     = []
}

variable "loaders" {
  description = "IAM members that read the ranking log and load it into BigQuery."
  type        = set(string)
  default     = []
}

variable "rankings_days" {
  description = "Days after which the ranking log is deleted, in the bucket and in BigQuery."
  type        = number
  default     = 90
}

variable "notification_channels" {
  description = "Names of the notification channels that hear of alerts: projects/PROJECT/notificationChannels/NUMBER."
  type        = list(string)
  default     = []
}
