"""What the office answers over HTTP: metrics, health, the status page, JSON."""
