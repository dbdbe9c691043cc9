"""What a server records of its work, and what exporters read."""
