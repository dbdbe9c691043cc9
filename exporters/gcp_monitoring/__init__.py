"""Publishes metrics to Google Cloud Monitoring; needs the extra `gcp`."""

from exporters.gcp_monitoring.exporter import MIN_INTERVAL, GcpMonitoringExporter

__all__ = ["MIN_INTERVAL", "GcpMonitoringExporter"]
