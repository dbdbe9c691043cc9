"""What can be measured: every file here is one benchmark; folders hold what they share."""
