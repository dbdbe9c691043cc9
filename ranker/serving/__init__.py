"""One candidate list's way from message to answer."""
