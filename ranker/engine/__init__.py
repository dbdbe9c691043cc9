"""How scores are computed: one `Engine` protocol and its implementations."""
