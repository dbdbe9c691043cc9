"""Scores on a GPU."""
