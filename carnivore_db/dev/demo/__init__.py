"""What `make demo` shows, and its example data."""
