"""Load for a running server: locust users, a light generator, and what they find."""
