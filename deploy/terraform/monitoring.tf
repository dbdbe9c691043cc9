# What Managed Service for Prometheus has collected (the overlay gke), as a dashboard and alerts.

resource "google_monitoring_dashboard" "ranker" {
  dashboard_json = file("${path.module}/../dashboards/cloud-monitoring.json")
  depends_on     = [google_project_service.used]

  lifecycle {
    # The API writes it in a form of its own.
    ignore_changes = [dashboard_json]
  }
}

locals {
  rules   = flatten([for group in yamldecode(file("${path.module}/../prometheus/alerts.yaml")).groups : group.rules])
  records = { for rule in local.rules : rule.record => rule.expr if can(rule.record) }
  alerts  = { for rule in local.rules : rule.alert => rule if can(rule.alert) }

  # Nobody records here: each name that a rule records is replaced by what it stands for.
  queries = {
    for name, alert in local.alerts : name => join("", [
      for part in regexall("(?s)\\w+(?::\\w+)+|.", alert.expr) :
      contains(keys(local.records), part) ? "(${trimspace(local.records[part])})" : part
    ])
  }
  seconds = { m = 60, h = 3600 }
}

resource "google_monitoring_alert_policy" "ranker" {
  for_each     = local.alerts
  display_name = each.key
  combiner     = "OR"
  severity     = each.value.labels.severity == "page" ? "CRITICAL" : "WARNING"
  user_labels  = local.labels

  conditions {
    display_name = each.key
    condition_prometheus_query_language {
      query               = trimspace(local.queries[each.key])
      duration            = can(each.value.for) ? "${tonumber(regex("\\d+", each.value.for)) * local.seconds[regex("[mh]$", each.value.for)]}s" : "0s"
      evaluation_interval = "30s"
      # A metric that has not been written yet is no mistake.
      disable_metric_validation = true
    }
  }
  documentation {
    mime_type = "text/markdown"
    content   = "What to do: ${each.value.annotations.runbook_url}"
  }
  notification_channels = var.notification_channels
  depends_on            = [google_project_service.used]
}
