"""Scores with vector instructions on the CPU."""
