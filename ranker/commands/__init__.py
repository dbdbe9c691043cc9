"""One module per sub-command of `ranker`, each with a click command of its own name."""
