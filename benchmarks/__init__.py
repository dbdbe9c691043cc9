"""Speed: engines, transports and the server, as ratios in one run."""
