"""The `ranker` command: one module per sub-command."""
