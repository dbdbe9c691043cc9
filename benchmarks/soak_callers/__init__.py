"""Who talks to a server under the soak, and what they have seen."""
