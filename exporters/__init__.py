"""Metrics: one catalogue, and the exporters that publish it."""
