"""A small book ranker to try the server with; every reader and book in it is invented."""
