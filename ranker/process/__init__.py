"""The processes of a server: supervisor, workers, office."""
