"""Load for a running server: locust users, and a search for what it bears."""
