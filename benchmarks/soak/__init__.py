"""A real server under mixed and hostile traffic; see `__main__`."""
