"""What publishes: metrics, of one catalogue, and traces."""
