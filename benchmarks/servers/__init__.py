"""Servers that ours is measured against; each is a program."""
