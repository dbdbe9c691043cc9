"""Publishes metrics to Prometheus."""
